//! One rig per state of a bead, brought there by inputs alone.

use wellhead_rig::{
    AgentId, Bead, BeadId, Cause, Class, Completion, DispatchId, Input, NewBead, Phase, Policy,
    Preflight, Reply, ReviewMode, Role, Status, Work,
};

use crate::support::{Bench, commit, completed, config, done_report, failed};

/// A rig with one bead in one state, and two agents.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) bench: Bench,
    pub(crate) bead: BeadId,
    /// On whose hook it is, or would be.
    pub(crate) agent: AgentId,
    /// Idle.
    pub(crate) other: AgentId,
}

impl Scene {
    pub(crate) fn bead(&self) -> &Bead {
        self.bench.bead(&self.bead)
    }

    /// The dispatch under way, or the last one there was, or the first there will be.
    pub(crate) fn dispatch(&self) -> DispatchId {
        let no = self.bead().numbers.dispatch_no.max(1);
        DispatchId {
            bead: self.bead.clone(),
            no,
        }
    }

    /// One that never was.
    pub(crate) fn stale(&self) -> DispatchId {
        let no = self.dispatch().no + 7;
        DispatchId {
            bead: self.bead.clone(),
            no,
        }
    }
}

/// Every state that a bead can be in between two steps.
pub(crate) const NAMES: &[&str] = &[
    "Open",
    "Held",
    "Hooked",
    "Dispatched",
    "Working",
    "Ending: SessionOver, over",
    "Ending: Completed",
    "Ending: Completed, over",
    "Ending: Done",
    "Ending: Expired",
    "Ending: Reported",
    "Ending: Ordered",
    "Waiting",
    "InReview",
    "Closed",
    "Failed",
];

/// The state's name. Without a wildcard: a new state wants a name, and then a scene.
pub(crate) fn name_of(bead: &Bead) -> String {
    let ending;
    let name = match &bead.phase {
        Phase::Open => "Open",
        Phase::Held => "Held",
        Phase::Hooked { .. } => "Hooked",
        Phase::Dispatched { .. } => "Dispatched",
        Phase::Working { .. } => "Working",
        Phase::Ending { ending: end, .. } => {
            let cause = match &end.cause {
                Cause::SessionOver => "SessionOver",
                Cause::Completed => "Completed",
                Cause::Done(_) => "Done",
                Cause::Expired(_) => "Expired",
                Cause::Reported(_) => "Reported",
                Cause::Ordered(_) => "Ordered",
            };
            let over = if end.over.is_some() { ", over" } else { "" };
            ending = format!("Ending: {cause}{over}");
            &ending
        }
        Phase::Waiting { .. } => "Waiting",
        Phase::InReview { .. } => "InReview",
        Phase::Closed { .. } => "Closed",
        Phase::Failed { .. } => "Failed",
    };
    name.to_owned()
}

pub(crate) fn all() -> Vec<Scene> {
    let ending = "The session is being ended; nothing has proven it over yet.";
    let scenes = vec![
        make("Open", "Made, and on no hook.", open),
        make("Held", "Set in progress by hand.", |s| {
            open(s);
            status(s, Status::InProgress);
        }),
        make("Hooked", "On a hook; the rig's checks are under way.", hook),
        make("Dispatched", "Sent; no word of a session yet.", dispatch),
        make("Working", "A session works.", work),
        make(
            "Ending: SessionOver, over",
            "The session ended by itself; the agent's own word is waited for.",
            |s| {
                work(s);
                over(s, completed(Work::None));
            },
        ),
        make("Ending: Completed", ending, |s| {
            work(s);
            complete(s, Completion::Completed);
        }),
        make(
            "Ending: Completed, over",
            "Reported complete and proven over; the agent's own word is waited for.",
            |s| {
                work(s);
                complete(s, Completion::Completed);
                over(s, completed(commit()));
            },
        ),
        make("Ending: Done", ending, |s| {
            work(s);
            done(s);
        }),
        make("Ending: Expired", ending, |s| {
            work(s);
            let lease_ms = s.bench.rig.policy().lease_ms;
            s.bench.pass(lease_ms);
            s.bench.ok(Input::Alarm);
        }),
        make("Ending: Reported", ending, |s| {
            work(s);
            complete(s, Completion::Failed { reason: None });
        }),
        make("Ending: Ordered", ending, |s| {
            work(s);
            s.bench.ok(close(s));
        }),
        make("Waiting", "Between two dispatches, in its backoff.", wait),
        make("InReview", "Its work waits for a review.", |s| {
            let review = ReviewMode::Manual;
            s.bench.ok(Input::Configure(wellhead_rig::RigConfig {
                review,
                ..config()
            }));
            s.bench.answer_checks(&Preflight::Passed);
            work(s);
            done(s);
            over(s, completed(commit()));
        }),
        make("Closed", "Worked and closed.", |s| {
            work(s);
            done(s);
            over(s, completed(commit()));
        }),
        make("Failed", "Given up at its last attempt.", |s| {
            let attempts_max = 1;
            s.bench.ok(Input::SetPolicy(Policy {
                attempts_max,
                ..Policy::default()
            }));
            wait(s);
        }),
    ];
    for scene in &scenes {
        assert_eq!(name_of(scene.bead()), scene.name, "not where it should be");
    }
    scenes
}

/// A configured rig with two idle agents and no bead yet; then what leads to the state.
fn make(name: &'static str, about: &'static str, lead: impl Fn(&mut Scene)) -> Scene {
    let mut bench = Bench::new();
    let agent = register(&mut bench, "amber");
    let other = register(&mut bench, "birch");
    bench.ok(Input::Configure(config()));
    let bead = match bench.ok(Input::CreateBead(NewBead::issue("the task"))) {
        Reply::Bead(bead) => bead.id,
        other => panic!("no bead: {other:?}"),
    };
    let mut scene = Scene {
        name,
        about,
        bench,
        bead,
        agent,
        other,
    };
    lead(&mut scene);
    // What led there is not what the table shows.
    scene.bench.effects.clear();
    scene
}

fn register(bench: &mut Bench, name: &str) -> AgentId {
    let input = Input::RegisterAgent {
        role: Role::Polecat,
        name: name.to_owned(),
        identity: format!("polecats/{name}"),
    };
    match bench.ok(input) {
        Reply::Agent(agent) => agent.id,
        other => panic!("no agent: {other:?}"),
    }
}

/// The checks are through, so that only the bead's own state decides.
fn open(scene: &mut Scene) {
    hook(scene);
    let agent = scene.agent.clone();
    scene.bench.ok(Input::Unhook { agent });
    scene.bench.answer_checks(&Preflight::Passed);
}

fn hook(scene: &mut Scene) {
    let (agent, bead) = (scene.agent.clone(), scene.bead.clone());
    scene.bench.ok(Input::Hook { agent, bead });
}

fn dispatch(scene: &mut Scene) {
    hook(scene);
    scene.bench.answer_checks(&Preflight::Passed);
}

fn work(scene: &mut Scene) {
    dispatch(scene);
    let dispatch = scene.dispatch();
    scene.bench.start(&dispatch);
}

fn wait(scene: &mut Scene) {
    work(scene);
    over(scene, failed(Class::AgentFailed));
    let grace_ms = scene.bench.rig.policy().end_grace_ms;
    scene.bench.pass(grace_ms);
    scene.bench.ok(Input::Alarm);
}

fn over(scene: &mut Scene, outcome: wellhead_rig::Outcome) {
    let dispatch = scene.dispatch();
    scene.bench.ok(Bench::over(&dispatch, outcome));
}

fn done(scene: &mut Scene) {
    let input = Input::Done {
        agent: scene.agent.clone(),
        dispatch: Some(scene.dispatch()),
        report: done_report(),
    };
    scene.bench.ok(input);
}

fn complete(scene: &mut Scene, completion: Completion) {
    let input = Input::Completed {
        agent: scene.agent.clone(),
        dispatch: Some(scene.dispatch()),
        completion,
    };
    scene.bench.ok(input);
}

fn status(scene: &mut Scene, status: Status) {
    let (bead, by) = (scene.bead.clone(), None);
    scene.bench.ok(Input::SetStatus { bead, status, by });
}

fn close(scene: &Scene) -> Input {
    Input::Close {
        bead: scene.bead.clone(),
        by: None,
    }
}
