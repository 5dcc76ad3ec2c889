//! What a session is going to do, drawn before it begins.
//!
//! Owns the repertoire: work in every order of done and end, text, silence, standing still,
//! running for ever, and each class of failure. Knows no rig.

use std::collections::VecDeque;

use rig::Class;

use crate::{rng::Rng, weather::Weather};

/// A turn costs no more than this, whatever it does.
pub(crate) const TURN_TOKENS_MAX: u64 = 1_000;

/// One act of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// The model writes; it asks the gateway for it.
    Output,
    /// A commit on the branch.
    Commit,
    /// The tree is changed and left so.
    Dirty,
    /// A tool begins; it ends after so long, or never.
    Tool(Option<i64>),
    /// The same call again and again.
    Loop,
    /// The turn ends and is quiet.
    TurnEnds,
    /// The turn ends without any output.
    EndsEmpty,
    /// The agent says that it is done, by its tool.
    SayDone,
    /// The turn fails with this class.
    Fail(Class),
    /// No more beats.
    Mute,
    /// Beats without progress.
    Stall,
    /// The process dies.
    Die,
    /// An external caller says that it is over.
    ReportedOver(bool),
}

/// The acts of one turn, each that many milliseconds after the one before.
pub(crate) type Acts = VecDeque<(i64, Act)>;

/// A whole session.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Until the first event.
    pub(crate) start_ms: i64,
    /// The start fails so.
    pub(crate) start_fails: Option<Class>,
    /// It never begins.
    pub(crate) hangs: bool,
    /// The gateway's loss is waited for, instead of an error.
    pub(crate) waits_offline: bool,
    /// The agent says it once more after its session's end.
    pub(crate) done_late: Option<i64>,
    pub(crate) acts: Acts,
}

/// Draws a session.
pub(crate) fn draw(rng: &mut Rng, weather: &Weather) -> Plan {
    if let Some(script) = weather.script {
        return script(rng);
    }
    let mut plan = Plan {
        waits_offline: rng.chance(600),
        ..begun(rng.between(200, 20_000))
    };
    if rng.chance(weather.crashes) {
        if rng.chance(400) {
            plan.start_fails = rng.pick(&[Class::Crash, Class::StartTimeout]);
        } else {
            plan.acts.push_back((rng.between(100, 30_000), Act::Die));
        }
        return plan;
    }
    if rng.chance(weather.good) {
        good(rng, &mut plan);
    } else {
        bad(rng, &mut plan);
    }
    plan
}

/// A session that begins after so long and does nothing yet.
fn begun(start_ms: i64) -> Plan {
    Plan {
        start_ms,
        start_fails: None,
        hangs: false,
        waits_offline: false,
        done_late: None,
        acts: Acts::new(),
    }
}

/// Its program exits as soon as it has begun.
pub(crate) fn exits(rng: &mut Rng) -> Plan {
    let mut plan = begun(rng.between(200, 5_000));
    plan.acts
        .push_back((rng.between(1, 500), Act::Fail(Class::Crash)));
    plan
}

/// It works, writes twice, and waits for its gateway where that is gone.
pub(crate) fn patient(rng: &mut Rng) -> Plan {
    let mut plan = begun(rng.between(200, 5_000));
    plan.waits_offline = true;
    plan.acts.extend([
        (1_000, Act::Output),
        (rng.between(60_000, 90_000), Act::Commit),
        (rng.between(60_000, 90_000), Act::Output),
        (1_000, Act::TurnEnds),
    ]);
    plan
}

fn good(rng: &mut Rng, plan: &mut Plan) {
    let work = if rng.chance(700) {
        Act::Commit
    } else {
        Act::Dirty
    };
    let next = rng.between(1, 6_000);
    let mut acts = vec![
        (rng.between(100, 20_000), Act::Output),
        (rng.between(500, 60_000), work),
    ];
    match rng.below(5) {
        0 => acts.push((next, Act::SayDone)),
        1 => acts.extend([(next, Act::SayDone), (rng.between(0, 4_000), Act::TurnEnds)]),
        2 => {
            acts.push((next, Act::TurnEnds));
            plan.done_late = Some(rng.between(0, 4_000));
        }
        3 => {
            acts.insert(1, (500, Act::Tool(Some(rng.between(100, 90_000)))));
            acts.push((next, Act::TurnEnds));
        }
        _ => acts.push((next, Act::TurnEnds)),
    }
    plan.acts.extend(acts);
}

fn bad(rng: &mut Rng, plan: &mut Plan) {
    let class = rng.pick(&Class::ALL).unwrap_or(Class::AgentFailed);
    let (soon, output) = (
        rng.between(500, 40_000),
        (rng.between(100, 9_000), Act::Output),
    );
    let acts = match rng.below(16) {
        0 => vec![(soon, Act::Fail(class))],
        1 => vec![output, (soon, Act::Fail(Class::AgentFailed))],
        2 => vec![output, (soon, Act::Commit), (soon, Act::Fail(class))],
        3 => vec![output, (soon, Act::Dirty), (soon, Act::Fail(class))],
        4 => {
            plan.hangs = true;
            vec![]
        }
        5 => vec![output, (soon, Act::Mute)],
        6 => vec![output, (1, Act::Stall)],
        7 => vec![output, (soon, Act::Tool(None))],
        8 => vec![output, (soon, Act::Loop)],
        9 | 10 => vec![output, (soon, Act::TurnEnds)],
        11 => vec![(soon, Act::EndsEmpty)],
        12 => vec![output, (soon, Act::SayDone)],
        13 => vec![output, (soon, Act::Fail(Class::Unanswered))],
        14 => {
            plan.start_fails = rng.pick(&[Class::Crash, Class::StartTimeout, Class::AgentFailed]);
            vec![]
        }
        _ => vec![output, (soon, Act::ReportedOver(rng.chance(500)))],
    };
    plan.acts.extend(acts);
}

/// The turn after a prompt in the same session.
pub(crate) fn next_turn(rng: &mut Rng, good: u64) -> Acts {
    let output = (rng.between(100, 20_000), Act::Output);
    let end = (rng.between(1, 6_000), Act::TurnEnds);
    let work = (rng.between(500, 40_000), Act::Commit);
    let acts = match rng.below(6) {
        _ if rng.chance(good) => vec![output, work, end],
        0 => vec![output, (1, Act::Stall)],
        1 => vec![end],
        2 => vec![output, work, end],
        _ => vec![output, end],
    };
    Acts::from(acts)
}
