//! Mail between the agents of a rig, and each agent's own event log.

use actix_web::HttpResponse;
use rig::{AgentId, Input, Mail, NewMail, Refused, Reply, Rig};
use runtime::{Json, RigStub};
use serde_json::json;

use crate::http::{
    answer,
    ctx::{Ctx, agent_id},
    failure::Failure,
    input::{Body, Fields},
    once, view,
};

use super::beads::{ID_MAX, TITLE_MAX};

/// The longest text of a mail, in bytes.
const BODY_MAX: usize = 64 * 1024;
/// The most data of an agent's event, in bytes of JSON.
const DATA_MAX: usize = 64 * 1024;

/// `POST R/mail`.
pub(crate) async fn send(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let from = fields.required_text("from_agent_id", ID_MAX);
    let to = fields.required_text("to_agent_id", ID_MAX);
    let subject = fields.required_text("subject", TITLE_MAX);
    let text = required_long_text(&mut fields, "body");
    fields.finish()?;
    ctx.check_named("from_agent_id", Some(&from))?;
    let (from, to) = (agent_id(&from)?, agent_id(&to)?);
    check_registered(&rig, &from).await?;
    let input = Input::SendMail(NewMail {
        from,
        to,
        subject,
        body: text,
    });
    let show = |_: &Rig, _: &Reply, _| Json::of(&json!({ "sent": true }));
    let sent = once::tell(&rig, ticket.as_ref(), input, show).await?;
    Ok(answer::created_text(&sent))
}

/// The field has to be there; it may be empty.
fn required_long_text(fields: &mut Fields, name: &str) -> String {
    if fields.has(name) {
        return fields.long_text(name, BODY_MAX).unwrap_or_default();
    }
    fields.issue(name, "is required");
    String::new()
}

/// An agent that was removed sends nothing any more.
async fn check_registered(rig: &RigStub, agent: &AgentId) -> Result<(), Failure> {
    let id = agent.clone();
    if rig.look(move |rig, _| rig.agent(&id).is_some()).await? {
        return Ok(());
    }
    Err(Refused::NoAgent(agent.clone()).into())
}

/// `GET R/agents/{a}/mail`: oldest first. The agent itself takes it; everybody else only looks.
pub(crate) async fn list(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (rig, agent) = (ctx.rig()?, ctx.agent_id()?);
    let mail = match ctx.claims() {
        Some(_) => match rig.tell(Input::ReadMail { agent }).await? {
            Reply::Mail(mail) => mail,
            _ => return Err(Failure::internal()),
        },
        None => look(&rig, agent).await?,
    };
    let shown: Vec<_> = mail.iter().map(view::mail).collect();
    Ok(answer::ok(shown))
}

async fn look(rig: &RigStub, agent: AgentId) -> Result<Vec<Mail>, Failure> {
    let found = rig
        .look(move |rig, _| {
            let mail = rig.mail_of(&agent).cloned().collect::<Vec<_>>();
            rig.agent(&agent).map(|_| mail)
        })
        .await?;
    found.ok_or_else(|| Failure::not_found("Agent not found"))
}

/// `POST R/agent-events`.
pub(crate) async fn append_event(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let agent = fields.required_text("agent_id", ID_MAX);
    let event_type = fields.required_text("event_type", ID_MAX);
    let data = fields.object("data");
    if serde_json::to_vec(&data).is_ok_and(|json| json.len() > DATA_MAX) {
        fields.issue("data", format!("must be at most {DATA_MAX} bytes of JSON"));
    }
    fields.finish()?;
    ctx.check_named("agent_id", Some(&agent))?;
    let input = Input::AppendAgentEvent {
        agent: agent_id(&agent)?,
        event_type,
        data,
    };
    let show = |_: &Rig, _: &Reply, _| Json::of(&json!({ "appended": true }));
    let appended = once::tell(&rig, ticket.as_ref(), input, show).await?;
    Ok(answer::created_text(&appended))
}

/// `GET R/agents/{a}/events`: oldest first, after the event `after_id`.
pub(crate) async fn events(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut query = ctx.query();
    let after = query.number("after_id").unwrap_or(0);
    let page = query.page(200);
    if page.limit == 0 {
        query.issue("limit", "must be 1 to 1000");
    }
    query.finish()?;
    let agent = ctx.agent_id()?;
    check_registered(&rig, &agent).await?;
    let from = after.saturating_add(1);
    let found = rig.agent_events(&agent, from, page.limit).await?;
    let shown: Vec<_> = found.iter().map(view::agent_event).collect();
    Ok(answer::ok(shown))
}
