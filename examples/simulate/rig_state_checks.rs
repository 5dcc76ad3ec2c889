//! What always holds for a rig's state: its alarm, its views, and that whatever waits is woken.
//!
//! Owns the rules about one state; those about a step are in `rig_checks`.

use std::collections::BTreeSet;

use rig::{Bead, BeadType, BreakerState, Deadline, Phase, Readiness, Rig, Timestamp};

const HOUR_MS: i64 = 3_600_000;

macro_rules! hold {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}

/// The alarm and the views, on the state as it is now.
pub(crate) fn state(
    rig: &Rig,
    alarm: Option<Timestamp>,
    now: Timestamp,
    was_alarm: bool,
) -> Result<(), String> {
    let due = rig.next_alarm(now);
    hold!(
        alarm == due,
        "I3: the alarm is set to {alarm:?} and due at {due:?}"
    );
    if was_alarm {
        let is_far = alarm.is_none_or(|at| at >= now.plus_ms(1_000));
        hold!(is_far, "I4: the next alarm is too close");
        used_up(rig, now)?;
    }
    if let Some((id, by)) = rig.record().breaker.probe() {
        hold!(
            probe_ends(*by, now),
            "C4: the probe {id} never counts as lost"
        );
    }
    if !rig.is_deleted() {
        awake(rig, alarm, now)?;
        let live = rig.unfinished().filter(|b| b.run().is_some()).count();
        hold!(
            rig.running().count() == live,
            "the view of what runs is wrong"
        );
    }
    views(rig)
}

/// Whatever waits has an alarm that comes no later than the end of its wait.
fn awake(rig: &Rig, alarm: Option<Timestamp>, now: Timestamp) -> Result<(), String> {
    let unfinished = rig.unfinished().next().is_some();
    let Some(at) = alarm else {
        hold!(!unfinished, "I3: unfinished work and no alarm");
        return Ok(());
    };
    hold!(
        !unfinished || at <= now.plus_ms(HOUR_MS),
        "I3: the patrol is more than an hour away"
    );
    for bead in rig.unfinished() {
        for deadline in deadlines(bead, rig, now) {
            let due = deadline.rebased(now).at.max(now.plus_ms(1_000));
            hold!(
                at <= due,
                "I3: {} is due at {due:?}, the alarm at {at:?}",
                bead.id
            );
        }
    }
    Ok(())
}

/// C4: a probe whose word gets lost counts as failed one day.
pub(crate) fn probe_ends(by: Deadline, now: Timestamp) -> bool {
    by.rebased(now).at <= now.plus_ms(24 * HOUR_MS)
}

/// An alarm uses up whatever is due; what it left would fire it again each second.
fn used_up(rig: &Rig, now: Timestamp) -> Result<(), String> {
    for bead in rig.unfinished() {
        let due = deadlines(bead, rig, now).iter().any(|d| d.is_due(now));
        hold!(!due, "I4: an alarm left {} due at {now:?}", bead.id);
    }
    if let Some((id, by)) = rig.record().breaker.probe() {
        hold!(
            rig.is_deleted() || !by.is_due(now),
            "C4: the probe {id} hangs"
        );
    }
    Ok(())
}

/// What the alarm may not miss, in the checks' own words.
fn deadlines(bead: &Bead, rig: &Rig, now: Timestamp) -> Vec<Deadline> {
    let record = rig.record();
    match &bead.phase {
        Phase::Dispatched { start, .. } => vec![*start],
        Phase::Working { live, .. } => [live.lease, live.progress, live.total]
            .into_iter()
            .chain(live.tool)
            .collect(),
        Phase::Ending { ending, .. } if ending.over.is_some() => vec![ending.grace],
        Phase::Waiting {
            until, park: None, ..
        } if !until.is_due(now) => vec![*until],
        Phase::Waiting { park: None, .. } | Phase::Hooked { .. }
            if record.config.is_some() && record.pause.is_none() =>
        {
            if let Readiness::Checking { deadline, .. } = &record.readiness {
                return vec![*deadline];
            }
            if record.budget.day.is_reached(&record.spent.on(now)) {
                return Vec::new();
            }
            if let Some(hold) = record.hold.as_ref().filter(|hold| !hold.until.is_due(now)) {
                return vec![hold.until];
            }
            match &record.breaker.state {
                BreakerState::Open { next_probe, .. } if !next_probe.is_due(now) => {
                    vec![*next_probe]
                }
                BreakerState::HalfOpen {
                    probe: Some((_, by)),
                    ..
                } => vec![*by],
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

fn views(rig: &Rig) -> Result<(), String> {
    let (mut hooks, mut causes) = (BTreeSet::new(), BTreeSet::new());
    for bead in rig.unfinished() {
        if let Some(agent) = bead.hooked_to() {
            hold!(hooks.insert(agent), "{agent} has two beads on its hook");
            let view = rig.hook_of(agent).map(|b| &b.id);
            hold!(view == Some(&bead.id), "the hook of {agent} shows {view:?}");
            let lives = rig.agent(agent).is_some();
            hold!(
                lives || bead.run().is_some(),
                "{} waits for nobody",
                bead.id
            );
        }
    }
    for bead in rig.beads() {
        if let Phase::InReview { review } = &bead.phase {
            let entry = rig.review(review);
            let holds = entry.is_some_and(|entry| entry.is_open() && entry.bead == bead.id);
            hold!(holds, "I14: {} is in the review {entry:?}", bead.id);
        }
    }
    for entry in rig.open_reviews() {
        let bead = rig.bead(&entry.bead);
        hold!(bead.is_some(), "I14: {} is about no bead", entry.id);
    }
    for bead in rig.open_escalations() {
        let is_open = bead.kind == BeadType::Escalation && !bead.is_terminal();
        hold!(is_open, "{} is no open escalation", bead.id);
        if let Some(cause) = bead.metadata.get("cause").and_then(|c| c.as_str()) {
            hold!(causes.insert(cause), "I13: two escalations for {cause}");
        }
    }
    Ok(())
}
