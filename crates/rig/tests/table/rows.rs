//! The inputs of the table, one line each. A new variant of `Input` wants a line here.

use wellhead_rig::{
    AgentId, BeadId, Beat, Budget, Class, Completion, DispatchId, Incarnation, Input, Limit,
    NewBead, NewMail, Notice, Outcome, PauseMode, Phase, Policy, Preflight, Refusal, ReviewId,
    ReviewVerdict, Role, Status, Timestamp, TownId, TurnReport, Usage, Work,
};

use super::scenes::Scene;
use crate::support::{
    Bench, EPOCH_MS, commit, completed, config, done_report, failed, failure, full, gateway, person,
};

/// When an input comes.
#[derive(Clone, Copy)]
pub(crate) enum When {
    /// Right after what led to the state.
    Now,
    /// When the rig's alarm is due.
    AlarmDue,
}

/// One input.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Whether it reports of a dispatch that is not current.
    pub(crate) is_stale: bool,
    pub(crate) when: When,
    pub(crate) input: fn(&Scene) -> Input,
}

const fn row(name: &'static str, input: fn(&Scene) -> Input) -> Row {
    let (is_stale, when) = (false, When::Now);
    Row {
        name,
        is_stale,
        when,
        input,
    }
}

const fn stale(name: &'static str, input: fn(&Scene) -> Input) -> Row {
    Row {
        is_stale: true,
        ..row(name, input)
    }
}

/// The table's lines, in its order.
pub(crate) const ALL: &[Row] = &[
    row("Hook, to the agent", |s| hook(s, &s.agent)),
    row("Hook, to the other agent", |s| hook(s, &s.other)),
    row("Hook, to an unknown agent", |s| hook(s, &nobody())),
    row("Unhook, the agent", |s| Input::Unhook {
        agent: s.agent.clone(),
    }),
    row("Unhook, the other agent", |s| Input::Unhook {
        agent: s.other.clone(),
    }),
    row("DeleteAgent, the agent", |s| delete_agent(&s.agent)),
    row("DeleteAgent, the other agent", |s| delete_agent(&s.other)),
    row("GetOrCreateAgent", |_| Input::GetOrCreateAgent {
        role: Role::Polecat,
    }),
    row("Checkpoint", |s| Input::Checkpoint {
        agent: s.agent.clone(),
        data: None,
    }),
    row("SendMail", |s| mail(&s.agent, &s.other)),
    row("ReadMail", |s| Input::ReadMail {
        agent: s.agent.clone(),
    }),
    row("AppendAgentEvent", |s| agent_event(&s.agent)),
    row("SubmitReview", |s| Input::SubmitReview {
        agent: s.agent.clone(),
        bead: s.bead.clone(),
        report: done_report(),
    }),
    row("CompleteReview merged", |s| {
        review(s, ReviewVerdict::Merged)
    }),
    row("CompleteReview conflict", |s| {
        review(s, ReviewVerdict::Conflict)
    }),
    row("SetStatus open", |s| status(s, Status::Open)),
    row("SetStatus in_progress", |s| status(s, Status::InProgress)),
    row("SetStatus in_review", |s| status(s, Status::InReview)),
    row("SetStatus closed", |s| status(s, Status::Closed)),
    row("SetStatus failed", |s| status(s, Status::Failed)),
    row("Close, by a person", |s| close(&s.bead, None)),
    row("Close, by the agent", |s| {
        close(&s.bead, Some(s.agent.clone()))
    }),
    row("Close, of an unknown bead", |_| close(&nothing(), None)),
    row("DeleteBead", |s| Input::DeleteBead {
        bead: s.bead.clone(),
    }),
    row("Cancel", |s| Input::Cancel {
        bead: s.bead.clone(),
        by: person(),
    }),
    row("Retry", |s| Input::Retry {
        bead: s.bead.clone(),
        by: person(),
    }),
    row("Done, current dispatch", |s| {
        done(&s.agent, Some(s.dispatch()))
    }),
    row("Done, no dispatch named", |s| done(&s.agent, None)),
    row("Done, by the other agent", |s| done(&s.other, None)),
    stale("Done, stale dispatch", |s| done(&s.agent, Some(s.stale()))),
    row("Completed, current dispatch", |s| {
        ended(&s.agent, Some(s.dispatch()), true)
    }),
    row("Completed as failed, current dispatch", |s| {
        ended(&s.agent, Some(s.dispatch()), false)
    }),
    row("Completed, no dispatch named", |s| {
        ended(&s.agent, None, true)
    }),
    row("Completed, by the other agent", |s| {
        ended(&s.other, None, true)
    }),
    stale("Completed, stale dispatch", |s| {
        ended(&s.agent, Some(s.stale()), true)
    }),
    row("AgentStarted, current", |s| Bench::started(&s.dispatch())),
    row("AgentStarted, current, another session", another_session),
    stale("AgentStarted, stale", |s| Bench::started(&s.stale())),
    row("Heartbeat, current", |s| beat(s.dispatch(), "life-1")),
    row("Heartbeat, current, another life of the container", |s| {
        beat(s.dispatch(), "life-2")
    }),
    stale("Heartbeat, stale", |s| beat(s.stale(), "life-1")),
    row("TurnEnded with work, current", |s| {
        turn(s.dispatch(), commit())
    }),
    row("TurnEnded with text alone, current", |s| {
        turn(s.dispatch(), Work::None)
    }),
    stale("TurnEnded, stale", |s| turn(s.stale(), commit())),
    row("AgentDone completed with work, current", |s| {
        over(s, completed(commit()))
    }),
    row("AgentDone completed with text alone, current", |s| {
        over(s, completed(Work::None))
    }),
    row("AgentDone failed and charged, current", |s| {
        over(s, failed(Class::AgentFailed))
    }),
    row("AgentDone failed by credentials, current", |s| {
        over(s, failed(Class::Credentials))
    }),
    row("AgentDone lost, current", |s| over(s, failed(Class::Lost))),
    row("AgentDone refused by the container, current", |s| {
        over(s, put_off(s))
    }),
    row("AgentDone never started, current", |s| {
        over(s, Outcome::NeverStarted)
    }),
    stale("AgentDone, stale", |s| {
        Bench::over(&s.stale(), completed(commit()))
    }),
    row("ContainerStarted, runs the dispatch", |s| {
        container(vec![s.dispatch()], vec![])
    }),
    row("ContainerStarted, will report the dispatch", |s| {
        container(vec![], vec![s.dispatch()])
    }),
    row("ContainerStarted, knows nothing", |_| {
        container(vec![], vec![])
    }),
    row("Offered", |_| Input::Offered),
    row("Noticed, a shared breaker tripped", |s| Input::Noticed {
        no: 1,
        notice: tripped(s),
    }),
    row("Noticed, a shared breaker closed", |_| Input::Noticed {
        no: 1,
        notice: Notice::Closed { scope: gateway() },
    }),
    row("Noticed, the town's budget is used up", |_| {
        Input::Noticed {
            no: 1,
            notice: Notice::BudgetStopped { limit: tokens(1) },
        }
    }),
    row("Undeliverable", |_| Input::Undeliverable {
        what: "preflight",
        reason: "nobody takes it".to_owned(),
    }),
    row("PreflightDone, current, passed", |s| {
        preflight(s, 0, Preflight::Passed)
    }),
    row("PreflightDone, current, failed", |s| {
        preflight(s, 0, no_credentials())
    }),
    row("PreflightDone, current, held by the town", |s| {
        preflight(s, 0, held(s))
    }),
    stale("PreflightDone, stale", |s| {
        preflight(s, 7, no_credentials())
    }),
    Row {
        when: When::AlarmDue,
        ..row("Alarm, due", |_| Input::Alarm)
    },
    row("Alarm, nothing due", |_| Input::Alarm),
    row("ClockJumped", |_| Input::ClockJumped),
    row("Configure, the same", |s| {
        Input::Configure(s.bench.rig.record().config.clone().unwrap())
    }),
    row("Configure, another model", |_| other_model()),
    row("Configure, another town", |_| other_town()),
    row("SetPolicy", |_| {
        Input::SetPolicy(Policy {
            agents_max: 3,
            ..Policy::default()
        })
    }),
    row("SetBudget, that is used up", |_| budget(0)),
    row("SetBudget, beyond what was used", |_| budget(1_000_000)),
    row("Pause", |_| hold_back(PauseMode::Pause)),
    row("Pause, as a stop", |_| hold_back(PauseMode::Stop)),
    row("Resume", |_| Input::Resume { by: person() }),
    row("ResetBreaker", |_| Input::ResetBreaker { by: person() }),
    row("Acknowledge, the bead", |s| Input::Acknowledge {
        bead: s.bead.clone(),
        by: person(),
    }),
    row("CreateBead", |_| {
        Input::CreateBead(NewBead::issue("another task"))
    }),
    row("Sling", |_| Input::Sling(NewBead::issue("another task"))),
    row("RegisterAgent, new", |_| agent("cedar")),
    row("RegisterAgent, identity taken", |_| agent("amber")),
    row("StartAgent, the agent", |s| start(&s.agent)),
    row("StartAgent, the other agent", |s| start(&s.other)),
    row("Message, the agent", |s| message(&s.agent)),
    row("Message, the other agent", |s| message(&s.other)),
    row("DeleteRig", |_| Input::DeleteRig),
    row("Touch, the agent", |s| Input::Touch {
        agent: s.agent.clone(),
    }),
    row("Touch, an unknown agent", |_| Input::Touch {
        agent: nobody(),
    }),
    row("Escalate", |_| {
        Input::Escalate(NewBead::issue("a person is needed"))
    }),
];

fn tokens(tokens: u64) -> Limit {
    Limit {
        tokens: Some(tokens),
        usd: None,
    }
}

fn budget(day: u64) -> Input {
    let budget = Budget {
        day: tokens(day),
        ..Budget::default()
    };
    let by = person();
    Input::SetBudget { budget, by }
}

fn hold_back(mode: PauseMode) -> Input {
    let (by, reason) = (person(), None);
    Input::Pause { mode, by, reason }
}

fn tripped(scene: &Scene) -> Notice {
    Notice::Tripped {
        scope: gateway(),
        failure: failure(Class::Gateway),
        next_probe_at: scene.bench.now.plus_ms(60_000),
    }
}

fn held(scene: &Scene) -> Preflight {
    let (refusal, until) = (Refusal::Full { slots: 8 }, scene.bench.now.plus_ms(30_000));
    Preflight::Held { refusal, until }
}

fn nobody() -> AgentId {
    AgentId::new("nobody").expect("a valid id")
}

fn nothing() -> BeadId {
    BeadId::new("nothing").expect("a valid id")
}

fn hook(scene: &Scene, agent: &AgentId) -> Input {
    let (agent, bead) = (agent.clone(), scene.bead.clone());
    Input::Hook { agent, bead }
}

fn status(scene: &Scene, status: Status) -> Input {
    let (bead, by) = (scene.bead.clone(), None);
    Input::SetStatus { bead, status, by }
}

fn close(bead: &BeadId, by: Option<AgentId>) -> Input {
    let bead = bead.clone();
    Input::Close { bead, by }
}

fn message(agent: &AgentId) -> Input {
    let (agent, prompt) = (agent.clone(), "mind the tests".to_owned());
    Input::Message { agent, prompt }
}

fn start(agent: &AgentId) -> Input {
    let (agent, new) = (agent.clone(), Box::new(NewBead::issue("another task")));
    Input::StartAgent { agent, new }
}

fn done(agent: &AgentId, dispatch: Option<DispatchId>) -> Input {
    let (agent, report) = (agent.clone(), done_report());
    Input::Done {
        agent,
        dispatch,
        report,
    }
}

fn ended(agent: &AgentId, dispatch: Option<DispatchId>, well: bool) -> Input {
    let completion = if well {
        Completion::Completed
    } else {
        Completion::Failed { reason: None }
    };
    let agent = agent.clone();
    Input::Completed {
        agent,
        dispatch,
        completion,
    }
}

fn life(name: &str) -> Incarnation {
    Incarnation::new(name).expect("a valid id")
}

fn another_session(scene: &Scene) -> Input {
    Input::AgentStarted {
        dispatch: scene.dispatch(),
        incarnation: life("life-1"),
        session: "ses-another".to_owned(),
    }
}

fn beat(dispatch: DispatchId, incarnation: &str) -> Input {
    Input::Heartbeat(Beat {
        dispatch,
        incarnation: life(incarnation),
        progress_at: None,
        tool_since: Some(Timestamp(EPOCH_MS)),
        repeats: 0,
        output: true,
        usage: Usage::default(),
    })
}

fn turn(dispatch: DispatchId, work: Work) -> Input {
    let (turn_no, output) = (1, true);
    let report = TurnReport {
        turn_no,
        work,
        output,
    };
    Input::TurnEnded { dispatch, report }
}

fn over(scene: &Scene, outcome: Outcome) -> Input {
    Bench::over(&scene.dispatch(), outcome)
}

fn put_off(scene: &Scene) -> Outcome {
    let until = scene.bench.now.plus_ms(60_000);
    full(until)
}

fn container(live: Vec<DispatchId>, unreported: Vec<DispatchId>) -> Input {
    let incarnation = life("life-2");
    Input::ContainerStarted {
        incarnation,
        live,
        unreported,
    }
}

fn no_credentials() -> Preflight {
    Preflight::Failed(failure(Class::Credentials))
}

fn preflight(scene: &Scene, off: u64, result: Preflight) -> Input {
    let no = scene.bench.rig.record().preflight_no + off;
    Input::PreflightDone { no, result }
}

fn other_town() -> Input {
    let mut changed = config();
    changed.town_id = TownId::new("elsewhere").unwrap();
    Input::Configure(changed)
}

fn other_model() -> Input {
    let mut changed = config();
    changed.model = Some("another".to_owned());
    Input::Configure(changed)
}

fn agent(name: &str) -> Input {
    Input::RegisterAgent {
        role: Role::Polecat,
        name: name.to_owned(),
        identity: format!("polecats/{name}"),
    }
}

fn delete_agent(agent: &AgentId) -> Input {
    let agent = agent.clone();
    Input::DeleteAgent { agent }
}

fn mail(from: &AgentId, to: &AgentId) -> Input {
    Input::SendMail(NewMail {
        from: from.clone(),
        to: to.clone(),
        subject: "hello".to_owned(),
        body: String::new(),
    })
}

fn agent_event(agent: &AgentId) -> Input {
    Input::AppendAgentEvent {
        agent: agent.clone(),
        event_type: "note".to_owned(),
        data: serde_json::Map::new(),
    }
}

/// The bead's own review; an unknown one where it is in none.
fn review(scene: &Scene, verdict: ReviewVerdict) -> Input {
    let review = match &scene.bench.bead(&scene.bead).phase {
        Phase::InReview { review } => review.clone(),
        _ => ReviewId::new("no-review").expect("a valid id"),
    };
    Input::CompleteReview {
        review,
        verdict,
        message: "looked at".to_owned(),
        commit: None,
    }
}
