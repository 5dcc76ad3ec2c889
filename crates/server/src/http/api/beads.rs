//! Beads: made, listed, looked at, moved by hand.

use actix_web::HttpResponse;
use rig::{AgentId, Bead, BeadType, Input, NewBead, Priority, Reply, Rig, Status};
use runtime::{Json, RigStub};
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::{
    answer,
    ctx::{Ctx, agent_id},
    failure::Failure,
    input::{Body, Fields},
    once,
    view::{self, AgentView, BeadView, Frame},
};

/// The longest title, in characters.
pub(super) const TITLE_MAX: usize = 1_000;
/// The longest text of a bead, in bytes.
const BODY_MAX: usize = 256 * 1024;
/// The longest id that is read at all, in characters.
pub(super) const ID_MAX: usize = 128;
const LABELS_MAX: usize = 100;
const TYPES: &str = "issue, message, escalation, merge_request";
const STATUSES: &str = "open, in_progress, in_review, closed, failed";
const PRIORITIES: &str = "low, medium, high, critical";

/// `POST R/beads`.
pub(crate) async fn create(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let kind = fields
        .required_word("type", TYPES)
        .unwrap_or(BeadType::Issue);
    let assignee = fields.text("assignee_agent_id", ID_MAX);
    let convoy_id = fields.text("convoy_id", ID_MAX);
    let labels = fields.texts("labels", LABELS_MAX, ID_MAX);
    let new = new_bead(&mut fields);
    fields.finish()?;
    let assignee = assignee.as_deref().map(agent_id).transpose()?;
    let input = Input::CreateBead(NewBead {
        kind,
        assignee,
        convoy_id,
        labels,
        ..new
    });
    let bead = once::tell(&rig, ticket.as_ref(), input, once::bead).await?;
    Ok(answer::created_text(&bead))
}

/// What `sling` answers.
#[derive(Serialize)]
struct Slung<'a> {
    bead: BeadView<'a>,
    agent: AgentView<'a>,
}

/// `POST R/sling`.
pub(crate) async fn sling(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let new = new_bead(&mut fields);
    fields.finish()?;
    let show = |rig: &Rig, reply: &Reply, now| match reply {
        Reply::Slung { bead, agent } => Json::of(&Slung {
            bead: BeadView::of(bead, Frame::of(rig, now)),
            agent: AgentView::of(rig, agent),
        }),
        _ => Json::null(),
    };
    let slung = once::tell(&rig, ticket.as_ref(), Input::Sling(new), show).await?;
    Ok(answer::created_text(&slung))
}

/// What every new bead may say of itself.
pub(super) fn new_bead(fields: &mut Fields) -> NewBead {
    let title = fields.required_text("title", TITLE_MAX);
    NewBead {
        body: fields.long_text("body", BODY_MAX),
        priority: fields
            .word("priority", PRIORITIES)
            .unwrap_or(Priority::Medium),
        metadata: fields.object("metadata"),
        ..NewBead::issue(title)
    }
}

/// `GET R/beads`: newest first.
pub(crate) async fn list(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut query = ctx.query();
    let status: Option<Status> = query.word("status", STATUSES);
    let kind: Option<BeadType> = query.word("type", TYPES);
    let (assignee, convoy) = (query.text("assignee_agent_id"), query.text("convoy_id"));
    let page = query.page(100);
    query.finish()?;
    let is_wanted = move |bead: &&Bead| {
        status.is_none_or(|status| bead.status() == status)
            && kind.is_none_or(|kind| bead.kind == kind)
            && assignee
                .as_deref()
                .is_none_or(|wanted| bead.assignee.as_ref().is_some_and(|a| a.as_str() == wanted))
            && convoy
                .as_deref()
                .is_none_or(|wanted| bead.convoy_id.as_deref() == Some(wanted))
    };
    let beads = rig
        .look(move |rig, now| {
            let frame = Frame::of(rig, now);
            let found = page.of(rig.beads().rev().filter(is_wanted));
            found
                .into_iter()
                .map(|bead| view::bead(bead, frame))
                .collect::<Vec<_>>()
        })
        .await?;
    Ok(answer::ok(beads))
}

/// `GET R/beads/{id}`.
pub(crate) async fn show(ctx: Ctx) -> Result<HttpResponse, Failure> {
    with_bead(&ctx, view::bead).await
}

/// `GET R/beads/{id}/attempts`: oldest first.
pub(crate) async fn attempts(ctx: Ctx) -> Result<HttpResponse, Failure> {
    with_bead(&ctx, |bead, _| {
        let lines = bead
            .attempts
            .iter()
            .map(|attempt| view::attempt(bead, attempt));
        Value::Array(lines.collect())
    })
    .await
}

/// `GET R/beads/{id}/explain`.
pub(crate) async fn explain(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (rig, id) = (ctx.rig()?, ctx.bead_id()?);
    let found = rig
        .look(move |rig, now| rig.bead(&id).map(|b| explained(rig, b, now)))
        .await?;
    found
        .map(answer::ok)
        .ok_or_else(|| Failure::not_found("Bead not found"))
}

/// The prediction for a bead.
pub(super) fn explained(rig: &Rig, bead: &Bead, now: rig::Timestamp) -> Value {
    let explanation = rig.explain(bead, now);
    json!({
        "status": bead.status(),
        "cause": explanation.cause,
        "next": explanation.next,
        "at": explanation.at.map(view::time),
    })
}

/// `DELETE R/beads/{id}`.
pub(crate) async fn delete(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let bead = ctx.bead_id()?;
    ctx.rig()?.tell(Input::DeleteBead { bead }).await?;
    Ok(answer::ok(json!({ "deleted": true })))
}

/// `PATCH R/beads/{id}/status`.
pub(crate) async fn set_status(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut fields = body.fields()?;
    let status = fields
        .required_word("status", STATUSES)
        .unwrap_or(Status::Open);
    let by = acting(&mut fields);
    fields.finish()?;
    let by = named(&ctx, by.as_deref())?;
    told(
        &rig,
        Input::SetStatus {
            bead: ctx.bead_id()?,
            status,
            by,
        },
    )
    .await
}

/// `POST R/beads/{id}/close`.
pub(crate) async fn close(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut fields = body.fields()?;
    let by = acting(&mut fields);
    fields.finish()?;
    let by = named(&ctx, by.as_deref())?;
    told(
        &rig,
        Input::Close {
            bead: ctx.bead_id()?,
            by,
        },
    )
    .await
}

/// `POST R/beads/{id}/retry`.
pub(crate) async fn retry(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    body.fields_or_none()?;
    let input = Input::Retry {
        bead: ctx.bead_id()?,
        by: ctx.who(),
    };
    let bead = once::tell(&ctx.rig()?, ticket.as_ref(), input, once::bead).await?;
    Ok(answer::ok_text(&bead))
}

/// `POST R/beads/{id}/cancel`.
pub(crate) async fn cancel(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    body.fields_or_none()?;
    told(
        &ctx.rig()?,
        Input::Cancel {
            bead: ctx.bead_id()?,
            by: ctx.who(),
        },
    )
    .await
}

/// Who acts. It has to be said; a person, who is no agent, says `null`.
fn acting(fields: &mut Fields) -> Option<String> {
    if fields.has("agent_id") {
        return fields.text("agent_id", ID_MAX);
    }
    fields.issue("agent_id", "is required; null when a person acts");
    None
}

/// The acting agent. An agent's token can not act as a person.
fn named(ctx: &Ctx, by: Option<&str>) -> Result<Option<AgentId>, Failure> {
    let by = by.or_else(|| ctx.claims().map(|claims| claims.agent_id.as_str()));
    ctx.check_named("agent_id", by)?;
    by.map(agent_id).transpose()
}

async fn told(rig: &RigStub, input: Input) -> Result<HttpResponse, Failure> {
    match rig.tell(input).await? {
        rig::Reply::Bead(bead) => Ok(answer::ok(shown(rig, *bead).await?)),
        other => {
            tracing::error!(
                ?other,
                "a rig answered an order with something else than its bead"
            );
            Err(Failure::internal())
        }
    }
}

/// A bead with what its rig adds to it.
pub(super) async fn shown(rig: &RigStub, bead: Bead) -> Result<Value, Failure> {
    Ok(rig
        .look(move |rig, now| view::bead(&bead, Frame::of(rig, now)))
        .await?)
}

async fn with_bead(
    ctx: &Ctx,
    show: impl FnOnce(&Bead, Frame<'_>) -> Value + Send + 'static,
) -> Result<HttpResponse, Failure> {
    let (rig, id) = (ctx.rig()?, ctx.bead_id()?);
    let found = rig
        .look(move |rig, now| rig.bead(&id).map(|bead| show(bead, Frame::of(rig, now))))
        .await?;
    found
        .map(answer::ok)
        .ok_or_else(|| Failure::not_found("Bead not found"))
}
