//! What a simulated session is going to do, drawn before it begins.
//!
//! Owns the repertoire: work in every order of done and end, text, silence, standing still,
//! running for ever, and each class of failure. Knows no rig.

use wellhead_rig::{Class, Failure, Stage};

use super::rng::Rng;

/// One act of a session, that many milliseconds after the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// The start is reported, and beats follow.
    Start,
    /// The model writes.
    Output,
    /// A commit on the branch.
    Commit,
    /// The tree is left changed; it is saved as a commit at the end.
    Dirty,
    /// A quiet turn; the rig's verdict decides what follows.
    Turn,
    /// The agent says that it is done, by its tool.
    Done,
    /// The session ends by itself as completed.
    End,
    /// The session ends by itself with this class.
    Fail(Class),
    /// No more beats.
    Mute,
    /// Beats without progress.
    Stall,
    /// A tool begins to run.
    Tool,
    /// And ends.
    ToolOver,
    /// The same tool call, over and over.
    Loop,
    /// An external caller says that it is over.
    ReportedOver(bool),
}

/// What a world's sessions and checks are like.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Sessions that go as they should, of a thousand.
    pub(crate) good: u64,
    /// The classes that failing sessions fail with.
    pub(crate) classes: Vec<Class>,
    /// Of a thousand preflights that many fail.
    pub(crate) preflight_fails: u64,
    /// Of a thousand dispatches that many are refused as full.
    pub(crate) refuses: u64,
}

impl Weather {
    pub(crate) fn fair() -> Self {
        Self {
            good: 1_000,
            classes: Vec::new(),
            preflight_fails: 0,
            refuses: 0,
        }
    }

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let one_class = rng.chance(300);
        let classes = if one_class {
            vec![rng.pick(&Class::ALL).unwrap_or(Class::Crash)]
        } else {
            Class::ALL.to_vec()
        };
        Self {
            good: rng.pick(&[50, 300, 600, 900]).unwrap_or(300),
            classes,
            preflight_fails: rng.pick(&[0, 0, 150, 800]).unwrap_or(0),
            refuses: rng.pick(&[0, 60, 400]).unwrap_or(0),
        }
    }
}

/// The acts of one session.
pub(crate) fn draw(rng: &mut Rng, weather: &Weather) -> Vec<(i64, Act)> {
    let start = (rng.between(200, 20_000), Act::Start);
    let soon = rng.between(500, 40_000);
    let output = (soon, Act::Output);
    if rng.chance(weather.good) {
        return good(rng, start, output);
    }
    let class = rng.pick(&weather.classes).unwrap_or(Class::AgentFailed);
    match rng.below(15) {
        0 => vec![(rng.between(100, 60_000), Act::Fail(class))],
        1 | 2 => vec![start, (soon, Act::Fail(class))],
        3 => vec![start, output, (soon, Act::Fail(class))],
        4 => vec![start, output, (soon, Act::Commit), (soon, Act::Fail(class))],
        5 => vec![],
        6 => vec![start, (soon, Act::Mute)],
        7 => vec![start, output, (1, Act::Stall)],
        8 => vec![start, output],
        9 => vec![start, output, (soon, Act::Turn)],
        10 => vec![start, output, (soon, Act::Done)],
        11 => vec![start, output, (soon, Act::Loop)],
        12 => vec![start, output, (soon, Act::Tool)],
        13 => {
            let over = (rng.between(1_000, 900_000), Act::ToolOver);
            let end = (soon, Act::End);
            vec![
                start,
                output,
                (soon, Act::Tool),
                over,
                (soon, Act::Commit),
                end,
            ]
        }
        _ => {
            let ok = rng.chance(500);
            vec![start, output, (soon, Act::ReportedOver(ok))]
        }
    }
}

fn good(rng: &mut Rng, start: (i64, Act), output: (i64, Act)) -> Vec<(i64, Act)> {
    let work = if rng.chance(700) {
        Act::Commit
    } else {
        Act::Dirty
    };
    let work = (rng.between(1_000, 120_000), work);
    let next = rng.between(1, 6_000);
    let mut acts = vec![start, output, work];
    match rng.below(5) {
        0 => acts.push((next, Act::Done)),
        1 => acts.extend([(next, Act::Done), (rng.between(0, 4_000), Act::End)]),
        2 => acts.extend([(next, Act::End), (rng.between(0, 4_000), Act::Done)]),
        3 => acts.push((next, Act::End)),
        _ => acts.push((next, Act::Turn)),
    }
    acts
}

/// A failure as a container words it.
pub(crate) fn failure(rng: &mut Rng, class: Class, stage: Stage) -> Failure {
    let mut failure = Failure::new(class, stage, format!("{class} in the simulation"));
    if class == Class::RateLimited && rng.chance(500) {
        failure.retry_after_ms = Some(rng.between(0, 4_000_000));
    }
    failure.offline = class == Class::Gateway && rng.chance(200);
    failure
}
