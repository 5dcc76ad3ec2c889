//! Agents: registered, found, listed, hooked, removed.

use actix_web::HttpResponse;
use rig::{Agent, AgentStatus, Input, Reply, Rig, Role, Timestamp};
use runtime::Json;
use serde_json::json;

use crate::http::{
    answer,
    ctx::{Ctx, bead_id},
    failure::Failure,
    input::Body,
    once,
    view::{self, AgentView},
};

use super::beads::ID_MAX;

const NAME_MAX: usize = 128;
const ROLES: &str = "polecat, refinery, mayor, witness";
const STATUSES: &str = "idle, working, blocked, dead";

/// `POST R/agents`.
pub(crate) async fn create(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let role = fields.required_word("role", ROLES).unwrap_or(Role::Polecat);
    let name = fields.required_text("name", NAME_MAX);
    let identity = fields.required_text("identity", NAME_MAX);
    fields.finish()?;
    let input = Input::RegisterAgent {
        role,
        name,
        identity,
    };
    let agent = once::tell(&rig, ticket.as_ref(), input, shown).await?;
    Ok(answer::created_text(&agent))
}

/// `POST R/agents/get-or-create`.
pub(crate) async fn get_or_create(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let role = fields.required_word("role", ROLES).unwrap_or(Role::Polecat);
    fields.finish()?;
    let input = Input::GetOrCreateAgent { role };
    let agent = once::tell(&rig, ticket.as_ref(), input, shown).await?;
    Ok(answer::ok_text(&agent))
}

/// An answer that is an agent.
fn shown(rig: &Rig, reply: &Reply, _: Timestamp) -> Json {
    match reply {
        Reply::Agent(agent) => Json::of(&AgentView::of(rig, agent)),
        _ => Json::null(),
    }
}

/// `DELETE R/agents/{a}`.
pub(crate) async fn delete(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let agent = ctx.agent_id()?;
    ctx.rig()?.tell(Input::DeleteAgent { agent }).await?;
    Ok(answer::ok(json!({ "deleted": true })))
}

/// `GET R/agents`: oldest first.
pub(crate) async fn list(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut query = ctx.query();
    let role: Option<Role> = query.word("role", ROLES);
    let status: Option<AgentStatus> = query.word("status", STATUSES);
    let page = query.page(1_000);
    query.finish()?;
    let agents = rig
        .look(move |rig, _| {
            let is_wanted = |agent: &&Agent| {
                role.is_none_or(|role| agent.role == role)
                    && status.is_none_or(|status| view::agent_status(rig, agent) == status)
            };
            let found = page.of(rig.agents().filter(is_wanted));
            found
                .into_iter()
                .map(|agent| view::agent(rig, agent))
                .collect::<Vec<_>>()
        })
        .await?;
    Ok(answer::ok(agents))
}

/// `GET R/agents/{a}`.
pub(crate) async fn show(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (rig, id) = (ctx.rig()?, ctx.agent_id()?);
    let found = rig
        .look(move |rig, _| rig.agent(&id).map(|agent| view::agent(rig, agent)))
        .await?;
    found
        .map(answer::ok)
        .ok_or_else(|| Failure::not_found("Agent not found"))
}

/// `POST R/agents/{a}/hook`.
pub(crate) async fn hook(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let bead = fields.required_text("bead_id", ID_MAX);
    fields.finish()?;
    let input = Input::Hook {
        agent: ctx.agent_id()?,
        bead: bead_id(&bead)?,
    };
    let show = |_: &Rig, _: &Reply, _| Json::of(&json!({ "hooked": true }));
    let hooked = once::tell(&rig, ticket.as_ref(), input, show).await?;
    Ok(answer::ok_text(&hooked))
}

/// `DELETE R/agents/{a}/hook`.
pub(crate) async fn unhook(ctx: Ctx) -> Result<HttpResponse, Failure> {
    ctx.rig()?
        .tell(Input::Unhook {
            agent: ctx.agent_id()?,
        })
        .await?;
    Ok(answer::ok(json!({ "unhooked": true })))
}
