//! Escalations: what needs a person.

use actix_web::HttpResponse;
use rig::{BeadType, Input, NewBead, Refused, Status};
use serde_json::{Value, json};

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    input::Body,
    once,
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
        let of_rig = rig.look(move |rig, _| {
            let frame = Frame::of(rig);
            let all = rig.beads().filter(|bead| bead.kind == BeadType::Escalation);
            let wanted = all.filter(|bead| match status {
                Some(status) => bead.status() == status,
                None => !bead.is_terminal(),
            });
            let view =
                |bead: &rig::Bead| (bead.created_at, bead.id.clone(), view::bead(bead, frame));
            wanted.map(view).collect::<Vec<_>>()
        });
        let of_rig = match of_rig.await {
            // Only its tombstone is left.
            Err(runtime::Error::Refused(Refused::Deleted)) => continue,
            of_rig => of_rig?,
        };
        for (at, bead, mut value) in of_rig {
            value["rig_id"] = json!(id);
            found.push((at, bead, value));
        }
    }
    found.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
    Ok(answer::ok(
        page.of(found.into_iter().map(|(_, _, value)| value)),
    ))
}
