//! Escalations: what needs a person, seen and resolved.

use actix_web::HttpResponse;
use rig::{Bead, BeadId, BeadType, Input, NewBead, Refused, Reply, Rig, RigId, Status};
use runtime::{Json, RigStub};
use serde_json::Value;

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    input::Body,
    once,
    once::Ticket,
    view::{self, Frame},
};

use super::beads::new_bead;

/// `POST R/escalations`.
pub(crate) async fn create(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let mut new = new_bead(&mut fields);
    fields.finish()?;
    if let Some(claims) = ctx.claims() {
        // Who asks for help is part of the question.
        let agent = Value::String(claims.agent_id.clone());
        new.metadata.insert("agent_id".to_owned(), agent);
    }
    let new = NewBead {
        kind: BeadType::Escalation,
        ..new
    };
    let input = Input::Escalate(new);
    let bead = once::tell(&rig, ticket.as_ref(), input, once::bead).await?;
    Ok(answer::created_text(&bead))
}

/// `GET /api/escalations`: of all rigs, newest first; the open ones unless `status` is given.
pub(crate) async fn list(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let mut query = ctx.query();
    let status: Option<Status> = query.word("status", "open, in_progress, closed, failed");
    let page = query.page(100);
    query.finish()?;
    let mut found = Vec::new();
    for id in ctx.runtime().rig_ids().await? {
        let rig = ctx.runtime().rig(&id)?;
        let look = move |rig: &Rig, now| {
            let all = rig.beads().filter(|bead| is_escalation(bead));
            let wanted = all.filter(|bead| match status {
                Some(status) => bead.status() == status,
                None => !bead.is_terminal(),
            });
            let frame = Frame::of(rig, now);
            let view = |bead: &Bead| {
                let shown = view::escalation(&id, bead, frame);
                (bead.created_at, bead.id.clone(), shown)
            };
            wanted.map(view).collect::<Vec<_>>()
        };
        found.extend(unless_deleted(rig.look(look).await)?.unwrap_or_default());
    }
    found.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
    Ok(answer::ok(
        page.of(found.into_iter().map(|(_, _, value)| value)),
    ))
}

/// `POST /api/escalations/{id}/ack`: a person has seen it; nobody is told again.
pub(crate) async fn acknowledge(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    body.fields_or_none()?;
    let (id, rig, bead) = found(&ctx).await?;
    let input = Input::Acknowledge {
        bead,
        by: ctx.who(),
    };
    tell(&rig, id, ticket.as_ref(), input).await
}

/// `POST /api/escalations/{id}/resolve`: it is closed, and whoever does that has seen it.
pub(crate) async fn resolve(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    body.fields_or_none()?;
    let (id, rig, bead) = found(&ctx).await?;
    // By this the event log names the person; a repetition changes nothing.
    let seen = Input::Acknowledge {
        bead: bead.clone(),
        by: ctx.who(),
    };
    rig.tell(seen).await?;
    let by = None;
    tell(&rig, id, ticket.as_ref(), Input::Close { bead, by }).await
}

async fn tell(
    rig: &RigStub,
    id: RigId,
    ticket: Option<&Ticket>,
    input: Input,
) -> Result<HttpResponse, Failure> {
    let show = move |rig: &Rig, reply: &Reply, now| match reply {
        Reply::Bead(bead) => Json::of(&view::escalation(&id, bead, Frame::of(rig, now))),
        _ => Json::null(),
    };
    let shown = once::tell(rig, ticket, input, show).await?;
    Ok(answer::ok_text(&shown))
}

/// The route's escalation, in whichever rig it is.
async fn found(ctx: &Ctx) -> Result<(RigId, RigStub, BeadId), Failure> {
    let unknown = || Failure::not_found("Escalation not found");
    let bead = ctx.escalation_id().ok_or_else(unknown)?;
    for id in ctx.runtime().rig_ids().await? {
        let (rig, wanted) = (ctx.runtime().rig(&id)?, bead.clone());
        let look = move |rig: &Rig, _| rig.bead(&wanted).is_some_and(is_escalation);
        if unless_deleted(rig.look(look).await)? == Some(true) {
            return Ok((id, rig, bead));
        }
    }
    Err(unknown())
}

fn is_escalation(bead: &Bead) -> bool {
    bead.kind == BeadType::Escalation
}

/// Of a deleted rig only its tombstone is left: it has nothing to show.
fn unless_deleted<T>(seen: Result<T, runtime::Error>) -> Result<Option<T>, Failure> {
    match seen {
        Ok(seen) => Ok(Some(seen)),
        Err(runtime::Error::Refused(Refused::Deleted)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
