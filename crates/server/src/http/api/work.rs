//! What an agent begins its work with, and what it saves for its next session.

use actix_web::HttpResponse;
use rig::{AgentId, Bead, Input, Phase, Rig, Timestamp};
use serde_json::{Value, json};

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    input::Body,
    view::{self, Frame},
};

/// Beads and mails in one prime; lists of both are there for the rest.
const SHOWN_MAX: usize = 1_000;

/// `GET R/agents/{a}/prime`: delivers nothing.
pub(crate) async fn prime(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (rig, id) = (ctx.rig()?, ctx.agent_id()?);
    let found = rig.look(move |rig, now| primed(rig, &id, now)).await?;
    found
        .map(answer::ok)
        .ok_or_else(|| Failure::not_found("Agent not found"))
}

fn primed(rig: &Rig, id: &AgentId, now: Timestamp) -> Option<Value> {
    let agent = rig.agent(id)?;
    let frame = Frame::of(rig, now);
    let is_open = |bead: &&Bead| {
        bead.assignee.as_ref() == Some(id) && !matches!(bead.phase, Phase::Closed { .. })
    };
    let open = rig.beads().rev().filter(is_open).take(SHOWN_MAX);
    let mail = rig.mail_of(id).take(SHOWN_MAX);
    Some(json!({
        "agent": view::agent(rig, agent),
        "hooked_bead": rig.hook_of(id).map(|bead| view::bead(bead, frame)),
        "undelivered_mail": mail.map(view::mail).collect::<Vec<_>>(),
        "open_beads": open.map(|bead| view::bead(bead, frame)).collect::<Vec<_>>(),
    }))
}

/// `POST R/agents/{a}/checkpoint`: any JSON, `null` included, but it has to be said.
pub(crate) async fn checkpoint(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut fields = body.fields()?;
    if !fields.has("data") {
        fields.issue("data", "is required; any JSON, null included");
    }
    let data = fields.take("data");
    fields.finish()?;
    let agent = ctx.agent_id()?;
    rig.tell(Input::Checkpoint { agent, data }).await?;
    Ok(answer::ok(json!({ "written": true })))
}
