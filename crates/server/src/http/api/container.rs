//! A town's container: agents started, stopped, asked, and its health. Bodies are in camelCase.
//!
//! Starts nothing by itself: a start hooks a bead and asks the rig's gate, as everything does.

use std::time::Duration;

use actix_web::HttpResponse;
use rig::{
    Agent, AgentId, Bead, Input, NewBead, Phase, Refused, Reply, Rig, RigId, Timestamp, TownId,
};
use runtime::{Aboard, Json, RigStub};
use serde_json::{Value, json};

use crate::http::{
    answer,
    ctx::{Ctx, agent_id},
    failure::Failure,
    input::{Body, Fields},
    once::{self, Ticket},
    view,
};

use super::beads::ID_MAX;

const NAME_MAX: usize = 128;
const URL_MAX: usize = 2_048;
const BRANCH_MAX: usize = 255;
const MODEL_MAX: usize = 256;
const SIGNAL_MAX: usize = 32;
/// The largest prompt, in bytes.
const PROMPT_MAX: usize = 256 * 1024;
/// A title is the prompt's first line, up to so many characters.
const TITLE_MAX: usize = 120;
const ROLES: &str = "polecat, refinery, mayor, witness";
/// Environment variables that a start may set for its agent. None yet: an agent shares its server,
/// whose environment is built from the rig's configuration alone.
const ENV_VARS: &[&str] = &[];
/// Checks of a fresh rig are waited for this long before a start is told that the gate holds it.
const CHECKS_WITHIN: Duration = Duration::from_secs(5);

/// What a start asks for.
struct Start {
    agent: String,
    rig: String,
    prompt: String,
}

/// `POST /api/towns/{t}/container/agents/start`.
pub(crate) async fn start(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    let town = ctx.town_id();
    let start = read_start(body.fields()?, town.as_ref().ok())?;
    let town = ctx.known_town().await?;
    let in_town = || Failure::not_found("Rig not found in this town");
    let id = RigId::new(start.rig.as_str()).map_err(|_| in_town())?;
    let agent = agent_id(&start.agent)?;
    let rig = ctx.runtime().rig(&id)?;
    let is_here = rig
        .look(move |rig, _| {
            rig.record()
                .config
                .as_ref()
                .is_some_and(|c| c.town_id == town)
        })
        .await?;
    if !is_here {
        return Err(in_town());
    }
    let bead = hooked(&rig, &agent, start.prompt, ticket.as_ref()).await?;
    match gate(&ctx, &rig, &bead).await? {
        Ok(started_at) => {
            let managed = managed(&rig, &id, agent, bead, started_at).await?;
            Ok(answer::created(managed))
        }
        Err(sentence) => Err(Failure::conflict("held", sentence)),
    }
}

/// The whole body, before anything is looked up.
fn read_start(mut fields: Fields, town: Option<&TownId>) -> Result<Start, Failure> {
    let start = Start {
        agent: fields.required_text("agentId", ID_MAX),
        rig: fields.required_text("rigId", ID_MAX),
        prompt: prompt(&mut fields),
    };
    let named = fields.required_text("townId", ID_MAX);
    if !named.is_empty() && town.is_some_and(|town| town.as_str() != named) {
        fields.issue("townId", "must be the town of the path");
    }
    let _: Option<rig::Role> = fields.required_word("role", ROLES);
    for name in ["name", "identity"] {
        fields.required_text(name, NAME_MAX);
    }
    // What the rig's configuration decides is read for its form alone.
    for (name, max) in [
        ("model", MODEL_MAX),
        ("gitUrl", URL_MAX),
        ("branch", BRANCH_MAX),
        ("defaultBranch", BRANCH_MAX),
    ] {
        fields.text(name, max);
    }
    fields.long_text("systemPrompt", PROMPT_MAX);
    let vars = fields.object("envVars");
    if let Some(other) = vars.keys().find(|name| !ENV_VARS.contains(&name.as_str())) {
        let shown: String = other.chars().take(NAME_MAX).collect();
        let text = format!("{shown} may not be set; allowed names: none");
        fields.issue("envVars", text);
    }
    fields.finish()?;
    Ok(start)
}

fn prompt(fields: &mut Fields) -> String {
    if !fields.has("prompt") {
        fields.issue("prompt", "is required");
    }
    let prompt = fields.long_text("prompt", PROMPT_MAX).unwrap_or_default();
    if prompt.trim().is_empty() {
        fields.issue("prompt", "must not be empty");
    }
    prompt
}

/// The bead on the agent's hook, made if there is none; with a key made once.
async fn hooked(
    rig: &RigStub,
    agent: &AgentId,
    prompt: String,
    ticket: Option<&Ticket>,
) -> Result<rig::BeadId, Failure> {
    let title = prompt.lines().find(|line| !line.trim().is_empty());
    let title: String = title
        .unwrap_or_default()
        .trim()
        .chars()
        .take(TITLE_MAX)
        .collect();
    let new = NewBead {
        body: Some(prompt),
        ..NewBead::issue(title)
    };
    let (agent, new) = (agent.clone(), Box::new(new));
    let show = |_: &Rig, reply: &Reply, _| match reply {
        Reply::Bead(bead) => Json::of(&bead.id),
        _ => Json::null(),
    };
    let bead = once::tell(rig, ticket, Input::StartAgent { agent, new }, show).await?;
    serde_json::from_str(bead.text()).map_err(|_| Failure::internal())
}

/// When it was dispatched, or why the gate holds it. Checks that are under way are waited for.
async fn gate(
    ctx: &Ctx,
    rig: &RigStub,
    bead: &rig::BeadId,
) -> Result<Result<Timestamp, String>, Failure> {
    let mut changes = ctx.runtime().changes();
    let deadline = tokio::time::Instant::now() + CHECKS_WITHIN;
    loop {
        changes.borrow_and_update();
        let id = bead.clone();
        let (said, may_change) = rig
            .look(move |rig, now| match rig.bead(&id) {
                None => (Err("its bead was deleted".to_owned()), false),
                Some(bead) => {
                    let checking =
                        matches!(rig.record().readiness, rig::Readiness::Checking { .. });
                    (passed(rig, bead, now), checking)
                }
            })
            .await?;
        if said.is_ok() || !may_change {
            return Ok(said);
        }
        let waited = tokio::time::timeout_at(deadline, changes.changed()).await;
        if !matches!(waited, Ok(Ok(()))) {
            return Ok(said);
        }
    }
}

fn passed(rig: &Rig, bead: &Bead, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(run) = bead.run() {
        return Ok(run.sent_at);
    }
    if bead.is_terminal() || matches!(bead.phase, Phase::InReview { .. }) {
        // A repeated request, after its work is over.
        return Ok(bead
            .attempts
            .last()
            .map_or(bead.created_at, |last| last.sent_at));
    }
    let said = rig.explain(bead, now);
    Err(format!("{}; next: {}", said.cause, said.next))
}

/// A managed agent as a start answers it.
async fn managed(
    rig: &RigStub,
    id: &RigId,
    agent: AgentId,
    bead: rig::BeadId,
    started_at: Timestamp,
) -> Result<Value, Failure> {
    let id = id.clone();
    let found = rig
        .look(move |rig, _| {
            rig.agent(&agent).map(|agent| {
                json!({
                    "agentId": agent.id,
                    "rigId": id,
                    "role": agent.role,
                    "name": agent.name,
                    "identity": agent.identity,
                    "beadId": bead,
                    "status": "starting",
                    "serverPort": null,
                    "sessionId": null,
                    "startedAt": view::time(started_at),
                    "lastActivityAt": view::time(started_at),
                    "activeTools": [],
                    "messageCount": 0,
                    "exitReason": null,
                })
            })
        })
        .await?;
    found.ok_or_else(no_agent)
}

/// `POST …/container/agents/{a}/stop`: its session ends, its bead goes back to `open`.
pub(crate) async fn stop(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let mut fields = body.fields_or_none()?;
    // Read for its form: a session is always ended the gentle way first.
    fields.text("signal", SIGNAL_MAX);
    fields.finish()?;
    let (rig, _, agent) = found(&ctx).await?;
    let agent = agent.id;
    rig.tell(Input::Unhook { agent }).await?;
    Ok(answer::ok(json!({ "stopped": true })))
}

/// `POST …/container/agents/{a}/message`: a live session is told it after its turn.
pub(crate) async fn message(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let prompt = prompt(&mut fields);
    fields.finish()?;
    let (rig, _, agent) = found(&ctx).await?;
    let agent = agent.id;
    let show = |_: &Rig, _: &Reply, _| Json::of(&json!({ "accepted": true }));
    let input = Input::Message { agent, prompt };
    let accepted = once::tell(&rig, ticket.as_ref(), input, show).await?;
    Ok(answer::ok_text(&accepted))
}

/// `GET …/container/agents/{a}/status`.
pub(crate) async fn status(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (rig, id, agent) = found(&ctx).await?;
    let aboard = ctx.runtime().container(&ctx.town_id()?).await.aboard;
    let shown = rig
        .look(move |rig, _| {
            let sight = aboard.iter().find(|a| a.rig == id && a.agent == agent.id);
            of_agent(rig, &agent, sight)
        })
        .await?;
    Ok(answer::ok(shown))
}

fn of_agent(rig: &Rig, agent: &Agent, aboard: Option<&Aboard>) -> Value {
    let bead = rig.hook_of(&agent.id);
    let status = match bead.map(|bead| &bead.phase) {
        Some(Phase::Dispatched { .. }) => "starting",
        Some(Phase::Working { .. }) => "running",
        Some(Phase::Ending { .. }) => "stopping",
        _ => last_end(rig, agent).0,
    };
    let is_live = bead.is_some_and(|bead| bead.run().is_some());
    let reason = (!is_live).then(|| last_end(rig, agent).1).flatten();
    let started = bead.and_then(Bead::run).map(|run| run.sent_at);
    let active = aboard.and_then(|aboard| aboard.last_activity_at);
    json!({
        "agentId": agent.id,
        "status": status,
        "serverPort": aboard.and_then(|aboard| aboard.port),
        "sessionId": aboard.and_then(|aboard| aboard.session.as_deref()),
        "startedAt": started.map(view::time),
        "lastActivityAt": active.or(agent.last_activity_at).map(view::time),
        "activeTools": [],
        "messageCount": aboard.map_or(0, |aboard| aboard.turns),
        "exitReason": reason,
    })
}

/// How the agent's newest attempt ended, in the API's word, and why.
fn last_end(rig: &Rig, agent: &Agent) -> (&'static str, Option<String>) {
    let own = rig
        .beads()
        .flat_map(|bead| bead.attempts.iter())
        .filter(|attempt| attempt.agent == agent.id);
    match own
        .max_by_key(|attempt| attempt.ended_at)
        .map(|last| &last.outcome)
    {
        None => ("exited", None),
        Some(rig::Outcome::Failed { failure, .. }) => ("failed", Some(failure.text.clone())),
        Some(rig::Outcome::Refused { refusal, .. }) => ("failed", Some(refusal.to_string())),
        Some(rig::Outcome::Completed { .. }) => ("exited", Some("completed".to_owned())),
        Some(rig::Outcome::NeverStarted) => ("exited", Some("never started".to_owned())),
    }
}

/// `GET …/container/health`: what runs, the town's slots, and which rigs wait for one.
pub(crate) async fn health(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let id = ctx.known_town().await?;
    let town = ctx.runtime().town(&id)?;
    let mut shown = town.look(|town, _| view::traffic(town)).await?;
    let container = ctx.runtime().container(&id).await;
    shown["status"] = json!("ok");
    shown["agents"] = json!(container.aboard.len());
    shown["servers"] = json!(container.servers);
    shown["uptime"] = json!(container.uptime.as_secs());
    Ok(answer::ok(shown))
}

/// The route's agent, in whichever rig of the town it is.
async fn found(ctx: &Ctx) -> Result<(RigStub, RigId, Agent), Failure> {
    let town = ctx.known_town().await?;
    let agent = ctx.agent_id()?;
    for row in ctx.directory().all_rigs().await? {
        if row.config.town_id != town {
            continue;
        }
        let (rig, wanted) = (ctx.runtime().rig(&row.id)?, agent.clone());
        match rig.look(move |rig, _| rig.agent(&wanted).cloned()).await {
            Ok(Some(agent)) => return Ok((rig, row.id, agent)),
            Ok(None) | Err(runtime::Error::Refused(Refused::Deleted)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(no_agent())
}

fn no_agent() -> Failure {
    Failure::not_found("Agent not found")
}
