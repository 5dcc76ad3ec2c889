//! `Rig::explain` is a prediction: the cause that it names holds in the state, and what it says
//! happens next does happen, at the time that it names, when the rig is run forward alone.
//!
//! The states are those that the simulation reaches. `WELLHEAD_SEED=n` looks at one seed alone,
//! `WELLHEAD_SEEDS=n` at so many.

#![expect(
    clippy::expect_used,
    reason = "the simulated world's own constants are valid"
)]

mod sim;

use std::collections::BTreeMap;

use sim::world;
use wellhead_rig::{
    Bead, BeadId, BreakerState, Cause, Change, Effect, Env, Explanation, Input, Park, Phase,
    Readiness, Rig, Step, Timestamp,
};

const SEEDS: u64 = 150;
const EVERY: u64 = 19;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// An alarm comes a second after the one before, at the earliest.
const LATE_MS: i64 = 1_000;

/// One explained state.
struct Case {
    rig: Rig,
    now: Timestamp,
    bead: BeadId,
    says: Explanation,
}

impl Case {
    fn bead(&self) -> &Bead {
        self.rig.bead(&self.bead).expect("the bead")
    }

    fn wrong(&self, why: &str) -> String {
        let (now, says, record) = (self.now, &self.says, self.rig.record());
        let (phase, budget) = (&self.bead().phase, record.budget);
        format!(
            "{why}\n  now {now:?}\n  {says:?}\n  {phase:?}\n  {:?}\n  {:?}\n  {:?}\n  {budget:?}",
            record.breaker.state, record.readiness, record.hold
        )
    }
}

fn is_waiting(bead: &Bead, now: Timestamp) -> bool {
    matches!(&bead.phase, Phase::Waiting { until, park: None, .. } if !until.is_due(now))
}

/// Whether the cause is one that the state has, told without asking `explain`.
fn cause_holds(of: &Case) -> bool {
    let (bead, now, record) = (of.bead(), of.now, of.rig.record());
    let cause = of.says.cause.as_str();
    let by_hand = |mode| {
        let pause = record.pause.as_ref();
        pause.is_some_and(|pause| cause.contains(&format!("{mode} by {}", pause.by)))
    };
    let shut = record.breaker.failure().is_some_and(|f| {
        cause == format!("{}: {}", f.class, f.text)
            && matches!(record.breaker.state, BreakerState::Open { .. })
    });
    let failed = bead.last_failure.as_ref().is_some_and(|last| {
        cause == format!("{}: {}", last.failure.class, last.failure.text) && is_waiting(bead, now)
    });
    let refused = record
        .hold
        .as_ref()
        .is_some_and(|hold| cause == hold.refusal.to_string());
    if refused || shut || failed {
        return true;
    }
    match cause {
        "not hooked" => bead.phase == Phase::Open,
        "set in progress by hand" => bead.phase == Phase::Held,
        "on a hook, not dispatched yet" => matches!(bead.phase, Phase::Hooked { .. }),
        "ready for its next attempt" => bead.is_ready(now),
        "waits for its next dispatch" => is_waiting(bead, now) && bead.last_failure.is_none(),
        "the container starts its session" => matches!(bead.phase, Phase::Dispatched { .. }),
        "an agent works on it" => matches!(bead.phase, Phase::Working { .. }),
        "the rig has no town, git URL and default branch" => record.config.is_none(),
        "credentials, program, model and git are being checked" => {
            matches!(record.readiness, Readiness::Checking { .. })
        }
        "the breaker is half open and another bead is its probe" => {
            record.breaker.probe().is_some()
        }
        _ if cause.starts_with("the rig was paused") => by_hand("paused"),
        _ if cause.starts_with("the rig was stopped") && bead.run().is_none() => by_hand("stopped"),
        _ if cause.starts_with("the rig's budget of the day") && bead.run().is_none() => {
            record.budget.day.is_reached(&record.spent.on(now))
        }
        _ if cause.starts_with("its own budget") => {
            let parked = |park: &Option<Park>| park == &Some(Park::Budget);
            matches!(&bead.phase, Phase::Waiting { park, .. } if parked(park))
        }
        _ if cause.starts_with("all ") => {
            of.rig.running().count() >= record.policy.agents_max as usize
        }
        _ if cause.starts_with("its work on ") => matches!(bead.phase, Phase::InReview { .. }),
        _ => why_it_ends(bead).is_some_and(|why| why == cause),
    }
}

fn why_it_ends(bead: &Bead) -> Option<&str> {
    let Phase::Ending { ending, .. } = &bead.phase else {
        return None;
    };
    Some(match &ending.cause {
        Cause::SessionOver => "its session ended",
        Cause::Completed => "it was reported complete",
        Cause::Done(_) => "the agent said that it is done",
        Cause::Expired(failure) | Cause::Reported(failure) => &failure.text,
        Cause::Ordered(_) => "it was given another end by hand",
    })
}

/// Whether a step is the one that was named.
fn is_named(case: &Case, before: &Rig, step: &Step, is_due: bool) -> bool {
    let id = &case.bead;
    let after = step.changes.iter().find_map(|change| match change {
        Change::Bead(bead) if bead.id == *id => Some(&**bead),
        _ => None,
    });
    let expired = |word: &str| {
        after.is_some_and(|bead| {
            matches!(&bead.phase, Phase::Ending { ending, .. }
                if matches!(&ending.cause, Cause::Expired(why) if why.text.starts_with(word)))
        })
    };
    let sends = |effect: &Effect| matches!(effect, Effect::Dispatch(_));
    let sends_it =
        |effect: &Effect| matches!(effect, Effect::Dispatch(o) if o.dispatch.bead == *id);
    // Where nobody is meant in particular, whoever comes first may be at a limit of its own.
    let dropped = is_due
        && step.changes.iter().any(|change| match change {
            Change::Bead(bead) => match &bead.phase {
                Phase::Failed { reason, .. } => {
                    reason.contains("in a row") || reason.contains("all of its")
                }
                Phase::Waiting { park, .. } => park.is_some(),
                _ => false,
            },
            _ => false,
        });
    let record = step.changes.iter().find_map(|change| match change {
        Change::Rig(record) => Some(&**record),
        _ => None,
    });
    let was = before.record();
    let next = case.says.next.as_str();
    let begins = |what: &str| next.starts_with(what);
    if begins("the session reports its start") {
        expired("no session within")
    } else if begins("taken for lost") {
        expired("no heartbeat")
    } else if begins("ended, if its tool") {
        expired("a tool has run")
    } else if begins("ended as stalled") {
        expired("no progress")
    } else if begins("ended: the longest") {
        expired("over the limit")
    } else if begins("prompted once more") {
        let nudge =
            |e: &Effect| matches!(e, Effect::Nudge { dispatch, .. } if dispatch.bead == *id);
        step.effects.iter().any(nudge)
    } else if begins("judged when the agent") {
        let gone = step.changes.contains(&Change::BeadDeleted(id.clone()));
        gone || after
            .is_some_and(|bead| bead.run().map(|r| r.no) != case.bead().run().map(|r| r.no))
    } else if begins("the next attempt") {
        step.effects.iter().any(sends_it)
    } else if begins("dispatching goes on") || begins("the town is asked") || begins("one bead is")
    {
        dropped || step.effects.iter().any(sends)
    } else if begins("checked then") {
        let checks = |e: &Effect| matches!(e, Effect::Preflight { .. });
        step.effects.iter().any(checks)
    } else if begins("dispatched when the checks pass") {
        record.is_some_and(|is| is.readiness != was.readiness)
    } else if begins("dispatched when the probe's") {
        record.is_some_and(|is| is.breaker.probe() != was.breaker.probe())
    } else if begins("its wait is over") {
        // By the clock; the step itself may dispatch it, or let it wait for the rig.
        true
    } else if begins("given up") {
        after.is_some_and(Bead::is_terminal)
    } else if begins("nothing: its own budget") {
        dropped
    } else {
        panic!("no test knows what this is: {next}");
    }
}

/// Runs the rig forward alone until `end`; each step is shown.
fn run_alone(
    case: &Case,
    end: Timestamp,
    mut see: impl FnMut(Timestamp, &Rig, &Step) -> Option<Result<(), String>>,
) -> Result<(), String> {
    let (mut rig, mut now) = (case.rig.clone(), case.now);
    for nonce in 0..10_000 {
        let Some(at) = rig.next_alarm(now).filter(|at| *at <= end) else {
            return Ok(());
        };
        now = now.max(at);
        let step = rig.step(Input::Alarm, Env { now, nonce });
        let step = step.map_err(|refused| case.wrong(&format!("refused: {refused}")))?;
        if let Some(verdict) = see(now, &rig, &step) {
            return verdict;
        }
        rig.apply(step.changes);
    }
    Err(case.wrong("it does not come to rest"))
}

/// What was named happens at its time, and not before.
fn comes_true(case: &Case, at: Timestamp) -> Result<(), String> {
    let due = at.max(case.now);
    let mut seen = false;
    run_alone(case, due.plus_ms(LATE_MS), |now, rig, step| {
        let is_early = now < due;
        let by_clock = case.says.next.starts_with("its wait is over");
        if is_named(case, rig, step, !is_early) && !(by_clock && is_early) {
            seen = true;
            return Some(if is_early {
                Err(case.wrong(&format!("it happens already at {now:?}")))
            } else {
                Ok(())
            });
        }
        let was = case.bead();
        let moved = rig
            .bead(&case.bead)
            .is_none_or(|bead| bead.phase != was.phase);
        (by_clock && moved).then(|| Err(case.wrong("it moved before its wait was over")))
    })?;
    if seen {
        Ok(())
    } else {
        Err(case.wrong("it does not happen"))
    }
}

/// Without a time nothing happens to the bead by itself, if that is what it says.
fn stays(case: &Case) -> Result<(), String> {
    let end = case.now.plus_ms(3 * DAY_MS);
    run_alone(case, end, |now, _, step| {
        let moved = step.changes.iter().any(|change| match change {
            Change::Bead(bead) => bead.id == case.bead && bead.run() != case.bead().run(),
            _ => false,
        });
        moved.then(|| Err(case.wrong(&format!("it moves by itself at {now:?}"))))
    })
}

fn check(case: &Case) -> Result<(), String> {
    if !cause_holds(case) {
        return Err(case.wrong("its cause does not hold"));
    }
    let waits_for_a_person = [
        "nothing",
        "hook it",
        "a person",
        "configure",
        "judged when the session",
    ];
    let next = case.says.next.as_str();
    match case.says.at {
        Some(at) => comes_true(case, at),
        None if next.starts_with("dispatched when a person") => stays(case),
        None if waits_for_a_person.iter().any(|word| next.starts_with(word)) => stays(case),
        None => Ok(()),
    }
}

#[test]
fn what_explain_says_comes_true() {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let seed = number("WELLHEAD_SEED");
    let count = number("WELLHEAD_SEEDS").unwrap_or(SEEDS);
    let seeds = seed.map_or(0..count, |seed| seed..seed + 1);
    let (mut states, mut kinds) = (0, BTreeMap::<String, (u32, u32)>::new());
    for seed in seeds {
        for (rig, now) in world::samples(seed, EVERY) {
            for bead in rig.unfinished() {
                let says = rig.explain(bead, now);
                let case = Case {
                    rig: rig.clone(),
                    now,
                    bead: bead.id.clone(),
                    says,
                };
                if let Err(error) = check(&case) {
                    panic!("WELLHEAD_SEED={seed}: {error}");
                }
                let kind: String = case.says.next.chars().take(28).collect();
                let (timed, untimed) = kinds.entry(kind).or_default();
                *(if case.says.at.is_some() {
                    timed
                } else {
                    untimed
                }) += 1;
                states += u32::from(case.says.at.is_some());
            }
        }
    }
    for (kind, (timed, untimed)) in &kinds {
        println!("{timed:>6} with a time, {untimed:>6} without: {kind}");
    }
    if seed.is_none() {
        assert!(states >= 1_000, "only {states} states with a time");
        assert!(
            kinds.len() >= 15,
            "only {} kinds of next steps",
            kinds.len()
        );
    }
}
