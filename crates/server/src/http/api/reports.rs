//! What agents and containers report: done, completed, heartbeat.
//!
//! The rig fences each report by its dispatch. The routes are open to a token whose dispatch has
//! ended, so that a repeated report gets the answer of the first one.

use actix_web::HttpResponse;
use rig::{AgentId, Bead, Class, Completion, DispatchId, DoneReport, Input, Outcome, Refused};
use runtime::RigStub;
use serde::Deserialize;
use serde_json::json;

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    input::{Body, Fields},
};

use super::beads::ID_MAX;

const BRANCH_MAX: usize = 255;
const URL_MAX: usize = 2_048;
const SUMMARY_MAX: usize = 64 * 1024;
const REASON_MAX: usize = 4 * 1024;
/// A bead's id, a dot and a number.
const DISPATCH_MAX: usize = ID_MAX + 21;

/// How a session ended, in the caller's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ended {
    Completed,
    Failed,
}

/// `POST R/agents/{a}/done`.
pub(crate) async fn done(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut fields = body.fields()?;
    let report = done_report(&mut fields);
    let named = fields.text("agent_id", ID_MAX);
    let dispatch = fields.text("dispatch_id", DISPATCH_MAX);
    fields.finish()?;
    ctx.check_named("agent_id", named.as_deref())?;
    let dispatch = ctx.dispatch(dispatch.as_deref())?;
    rig.done(&ctx.agent_id()?, dispatch.as_ref(), report)
        .await?;
    Ok(answer::ok(json!({ "done": true })))
}

/// What an agent says of the work that it hands in.
pub(super) fn done_report(fields: &mut Fields) -> DoneReport {
    DoneReport {
        branch: fields.required_text("branch", BRANCH_MAX),
        pr_url: fields.text("pr_url", URL_MAX),
        summary: fields.long_text("summary", SUMMARY_MAX),
    }
}

/// `POST R/agents/{a}/completed`.
pub(crate) async fn completed(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut fields = body.fields()?;
    let ended = fields
        .required_word("status", "completed, failed")
        .unwrap_or(Ended::Completed);
    let reason = fields.long_text("reason", REASON_MAX);
    let named = fields.text("agent_id", ID_MAX);
    let dispatch = fields.text("dispatch_id", DISPATCH_MAX);
    fields.finish()?;
    ctx.check_named("agent_id", named.as_deref())?;
    let (agent, dispatch) = (ctx.agent_id()?, ctx.dispatch(dispatch.as_deref())?);
    let completion = match ended {
        Ended::Completed => Completion::Completed,
        Ended::Failed => Completion::Failed { reason },
    };
    match (
        rig.completed(&agent, dispatch.as_ref(), completion).await,
        dispatch,
    ) {
        (Ok(()), _) => {}
        (Err(runtime::Error::Refused(Refused::Stale(_))), Some(dispatch))
            if was_settled_so(&rig, &agent, &dispatch, ended).await? => {}
        (Err(error), _) => return Err(error.into()),
    }
    Ok(answer::ok(json!({ "completed": true })))
}

/// Whether that very end of that dispatch is in the log: a repetition, not a stale report.
async fn was_settled_so(
    rig: &RigStub,
    agent: &AgentId,
    dispatch: &DispatchId,
    ended: Ended,
) -> Result<bool, Failure> {
    let (agent, bead, no) = (agent.clone(), dispatch.bead.clone(), dispatch.no);
    let is_same = move |outcome: &Outcome| match (ended, outcome) {
        (Ended::Completed, Outcome::Completed { .. }) => true,
        (Ended::Failed, Outcome::Failed { failure, .. }) => failure.class == Class::AgentFailed,
        _ => false,
    };
    let has_it = move |bead: &Bead| {
        let mut log = bead.attempts.iter();
        log.any(|a| a.no == no && a.agent == agent && is_same(&a.outcome))
    };
    let bead = rig.bead(&bead).await?;
    Ok(bead.as_ref().is_some_and(has_it))
}

/// `POST R/agents/{a}/heartbeat`: every field is optional, and so is the body.
pub(crate) async fn heartbeat(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut fields = body.fields_or_none()?;
    let [named_agent, named_rig, named_town] =
        ["agentId", "rigId", "townId"].map(|name| fields.text(name, ID_MAX));
    fields.long_text("status", REASON_MAX);
    fields.take("timestamp");
    fields.finish()?;
    ctx.check_named("agent_id", named_agent.as_deref())?;
    if let Some(claims) = ctx.claims() {
        let others = |named: Option<String>, own: &str| named.is_some_and(|named| named != own);
        if others(named_rig, &claims.rig_id) {
            let sentence = "Token rigId does not match route";
            return Err(Failure::forbidden("wrong_scope", sentence));
        }
        if others(named_town, &claims.town_id) {
            let sentence = "Token townId does not match route";
            return Err(Failure::forbidden("wrong_scope", sentence));
        }
    }
    // An unknown agent has no effect, and an id of another form is unknown.
    if let Ok(agent) = ctx.agent_id() {
        check_beat(&ctx, &rig, &agent).await?;
        rig.tell(Input::Touch { agent }).await?;
    }
    Ok(answer::ok(json!({ "heartbeat": true })))
}

/// An agent's heartbeat has to be of its live dispatch, where it has one or names one.
async fn check_beat(ctx: &Ctx, rig: &RigStub, agent: &AgentId) -> Result<(), Failure> {
    if ctx.claims().is_none() {
        return Ok(());
    }
    let named = ctx.dispatch(None)?;
    let hooked = agent.clone();
    let live = rig
        .look(move |rig, _| rig.hook_of(&hooked).and_then(Bead::dispatch_id))
        .await?;
    match (named, live) {
        (None, Some(_)) => Err(Refused::DispatchRequired(agent.clone()).into()),
        (Some(named), live) if live.as_ref() != Some(&named) => Err(Refused::Stale(named).into()),
        _ => Ok(()),
    }
}
