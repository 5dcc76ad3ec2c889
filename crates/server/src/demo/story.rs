//! What happens to the beads of the demo, told as it happens, until all of it is settled.
//!
//! Owns waiting and telling. Judges nothing: the report does.

use std::{collections::BTreeMap, time::Duration};

use rig::{Bead, BeadEvent, EventType, Phase, Refusal, Rig, RigId};

use super::{
    Trouble,
    cast::{Cast, Expected, Part},
    crash::Survivor,
    report::FailureReport,
    stage::Stage,
};

/// A demo that is not settled by then never will be.
const DEADLINE: Duration = Duration::from_mins(5);
/// Events are told in pages of this size.
const PAGE: usize = 200;

/// How the demo ended.
pub(super) struct Ending {
    pub(super) beads: Vec<Settled>,
    pub(super) escalations: usize,
    /// Alarms that are still set for the demo's rigs.
    pub(super) alarms_pending: usize,
    /// The same for those rigs alone whose beads are all at their end, but for the one that tells
    /// people again of an escalation that nobody has seen.
    pub(super) alarms_of_settled: usize,
    /// The part that is played on a server of its own.
    pub(super) crash: Option<Survivor>,
}

/// One bead at the end of the demo.
pub(super) struct Settled {
    pub(super) bead: Bead,
    pub(super) expected: Expected,
    pub(super) repo: std::path::PathBuf,
    /// Why its rig dispatches nothing, if it does not.
    pub(super) held_by: Option<FailureReport>,
    /// Open escalations of its rig that are about it or its rig.
    pub(super) escalations: usize,
}

/// Tells the story until everything is settled.
pub(super) async fn tell(stage: &Stage, cast: &Cast) -> Result<Ending, Trouble> {
    let told = tokio::time::timeout(DEADLINE, until_settled(stage, cast)).await;
    if told.is_err() {
        stage.say("not everything was settled in time");
    } else {
        told??;
    }
    ending(stage, cast).await
}

async fn until_settled(stage: &Stage, cast: &Cast) -> Result<(), Trouble> {
    let mut changes = stage.runtime.changes();
    let mut next_event: BTreeMap<RigId, u64> = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        let mut open = 0;
        for part in &cast.parts {
            tell_events(stage, part, &mut next_event).await?;
            if !is_settled(part).await? {
                open += 1;
            }
        }
        if open == 0 {
            return Ok(());
        }
        changes.changed().await?;
    }
}

async fn is_settled(part: &Part) -> Result<bool, Trouble> {
    let id = part.bead.clone();
    let expected = part.expected;
    let settled = part.rig.look(move |rig, _| {
        let bead = rig.bead(&id);
        let is_terminal = bead.is_none_or(Bead::is_terminal);
        let is_held = held_by(rig).is_some() && rig.open_escalations().count() > 0;
        is_terminal || (expected == Expected::NeverDispatched && is_held)
    });
    Ok(settled.await?)
}

async fn tell_events(
    stage: &Stage,
    part: &Part,
    next_event: &mut BTreeMap<RigId, u64>,
) -> Result<(), Trouble> {
    let next = next_event.entry(part.rig_id.clone()).or_insert(1);
    for event in part.rig.events(*next, PAGE).await? {
        *next = event.no + 1;
        if let Some(line) = line_of(&event) {
            stage.say(&format!("{}: {line}", part.rig_name));
        }
    }
    Ok(())
}

fn line_of(event: &BeadEvent) -> Option<String> {
    let new = event.new_value.as_deref().unwrap_or("");
    let text = event
        .metadata
        .get("text")
        .and_then(|text| text.as_str())
        .unwrap_or("");
    let text = text.lines().next().unwrap_or_default();
    match event.event_type {
        EventType::Dispatched => Some(format!("dispatch {new}")),
        EventType::AgentSpawned => Some(format!("session {new} works")),
        EventType::AttemptFailed => {
            let failures = event.metadata.get("failures").map(ToString::to_string);
            Some(format!(
                "attempt failed ({} charged): {new}: {text}",
                failures.unwrap_or_default()
            ))
        }
        EventType::Closed => Some("closed".to_owned()),
        EventType::StatusChanged => Some(format!("bead is {new}")),
        EventType::Escalated => Some("escalation: a person is needed".to_owned()),
        EventType::BreakerTripped => Some(format!("breaker opened: {text}")),
        EventType::BreakerClosed => Some("breaker closed".to_owned()),
        _ => None,
    }
}

async fn ending(stage: &Stage, cast: &Cast) -> Result<Ending, Trouble> {
    let mut beads = Vec::new();
    let alarms = stage.runtime.alarms_pending().await?;
    let (mut escalations, mut alarms_pending, mut alarms_of_settled) = (0, 0, 0);
    for part in &cast.parts {
        let open = part.rig.look(|rig, _| {
            let again = rig
                .open_escalations()
                .filter_map(|e| e.alert.as_ref()?.again);
            (
                rig.open_escalations().count(),
                again.map(|again| again.at.0).min(),
            )
        });
        let (own, told_again) = open.await?;
        let id = part.rig_id.as_str();
        let of_rig = alarms
            .iter()
            .filter(|(kind, of, _)| kind == "rig" && of == id);
        let at: Vec<i64> = of_rig.map(|(_, _, at)| *at).collect();
        escalations += own;
        alarms_pending += at.len();
        if part.expected != Expected::NeverDispatched {
            alarms_of_settled += at.iter().filter(|at| Some(**at) != told_again).count();
        }
        beads.push(settle(part).await?);
    }
    Ok(Ending {
        beads,
        escalations,
        alarms_pending,
        alarms_of_settled,
        crash: None,
    })
}

/// What keeps the rig from dispatching: its own breaker, or one that it shares with others.
fn held_by(rig: &Rig) -> Option<FailureReport> {
    let (class, text) = match (rig.record().breaker.failure(), &rig.record().hold) {
        (Some(failure), _) => (failure.class, &failure.text),
        (None, Some(hold)) => match &hold.refusal {
            Refusal::Breaker { class, text, .. } => (*class, text),
            _ => return None,
        },
        (None, None) => return None,
    };
    Some(FailureReport::new(class, text))
}

async fn settle(part: &Part) -> Result<Settled, Trouble> {
    let id = part.bead.clone();
    let found = part.rig.look(move |rig, _| {
        let bead = rig.bead(&id).cloned();
        let held_by = held_by(rig);
        let about = |escalation: &&Bead| {
            let source = escalation
                .metadata
                .get("source_bead_id")
                .and_then(|id| id.as_str());
            source.is_none_or(|source| source == id.as_str())
        };
        (bead, held_by, rig.open_escalations().filter(about).count())
    });
    let (bead, held_by, escalations) = found.await?;
    let bead = bead.ok_or_else(|| format!("bead {} is gone", part.bead))?;
    let (expected, repo) = (part.expected, part.repo.clone());
    Ok(Settled {
        bead,
        expected,
        repo,
        held_by,
        escalations,
    })
}

impl Settled {
    /// Whether it ended as it should.
    pub(super) fn is_as_it_should_be(&self) -> bool {
        let numbers = self.bead.numbers;
        match self.expected {
            Expected::Worked => {
                matches!(self.bead.phase, Phase::Closed { .. })
                    && self.bead.commit.is_some()
                    && numbers.dispatch_no >= 1
            }
            Expected::NeverDispatched => {
                numbers.dispatch_no == 0 && self.held_by.is_some() && self.escalations == 1
            }
            Expected::FailedAfterFive => {
                let gaps = self.gaps_ms();
                matches!(self.bead.phase, Phase::Failed { .. })
                    && numbers.dispatch_no == 5
                    && numbers.failures == 5
                    && gaps.is_sorted()
                    && self.escalations == 1
            }
        }
    }

    /// From the end of each attempt to the next dispatch, in milliseconds.
    pub(super) fn gaps_ms(&self) -> Vec<i64> {
        let attempts = &self.bead.attempts;
        attempts
            .windows(2)
            .map(|pair| pair[1].sent_at.since_ms(pair[0].ended_at))
            .collect()
    }
}
