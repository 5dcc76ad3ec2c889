//! What a step did to the bead, in the words of the table.

use std::fmt;

use wellhead_rig::{Bead, Effect, Env, Phase, Refused, Reply, Resolution, Step, TurnVerdict};

use super::{
    rows::{Row, When},
    scenes::{Scene, name_of},
};

/// What an input did.
pub(crate) enum Outcome {
    /// Nothing, and the caller learns why.
    Refused(&'static str),
    /// Nothing: it is known.
    Repeated,
    /// Something, or deliberately nothing.
    Accepted {
        /// The bead's state afterwards; none where it is gone.
        next: Option<String>,
        bead_changed: bool,
        text: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Refused(kind) => write!(f, "refused: {kind}"),
            Outcome::Repeated => f.write_str("repeated"),
            Outcome::Accepted { text, .. } => f.write_str(text),
        }
    }
}

/// Drives the real step; the scene stays as it was.
pub(crate) fn of(scene: &Scene, row: &Row) -> Outcome {
    let now = scene.bench.now;
    let now = match row.when {
        When::Now => now,
        When::AlarmDue => scene.bench.rig.next_alarm(now).unwrap_or(now).max(now),
    };
    let nonce = 0x5EED_u128 << 64 | 0x7AB1E;
    match scene.bench.rig.step((row.input)(scene), Env { now, nonce }) {
        Err(refused) => Outcome::Refused(kind_of(&refused)),
        Ok(step) if step.reply == Reply::Repeated => {
            assert!(
                step.changes.is_empty() && step.effects.is_empty(),
                "repeated, and changed"
            );
            Outcome::Repeated
        }
        Ok(step) => accepted(scene, &step),
    }
}

fn accepted(scene: &Scene, step: &Step) -> Outcome {
    let before = scene.bead();
    let mut rig = scene.bench.rig.clone();
    rig.apply(step.changes.iter().cloned());
    let after = rig.bead(&scene.bead);
    let next = after.map(name_of);
    let bead_changed = after != Some(before);
    let dispatched_again = after.and_then(Bead::dispatch_id) != before.dispatch_id()
        && after.is_some_and(|bead| bead.run().is_some());
    let mut text = match (after, &next) {
        (None, _) | (_, None) => "→ gone".to_owned(),
        (Some(bead), Some(next)) if *next != scene.name || dispatched_again => {
            format!("→ {next}{}", detail(&bead.phase))
        }
        _ if bead_changed => "noted".to_owned(),
        _ if rig != scene.bench.rig => "elsewhere".to_owned(),
        _ => "ignored".to_owned(),
    };
    for said in said_of(scene, step) {
        text += "; ";
        text += &said;
    }
    Outcome::Accepted {
        next,
        bead_changed,
        text,
    }
}

/// What is worth a word of a state beside its name.
fn detail(phase: &Phase) -> &'static str {
    match phase {
        Phase::Closed { resolution, .. } => match resolution {
            Resolution::Worked => " (worked)",
            Resolution::Answered => " (answered)",
            Resolution::TextOnly => " (text only)",
            Resolution::ByHand => " (by hand)",
            Resolution::Healed => " (healed)",
        },
        _ => "",
    }
}

/// What leaves with the step: effects, and the answer to a turn.
fn said_of(scene: &Scene, step: &Step) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for effect in &step.effects {
        let text = match effect {
            Effect::Dispatch(order) if order.dispatch.bead == scene.bead => "dispatches",
            Effect::Dispatch(_) => "dispatches the new bead",
            Effect::StopAgent { .. } => "asks to stop",
            Effect::Preflight { .. } => "checks",
            Effect::BreakerTripped { .. } => "the breaker opens",
            Effect::BreakerClosed { .. } => "the breaker closes",
            Effect::Nudge { .. } => "prompts once more",
            Effect::ResetScopes { .. } => "resets shared scopes",
        };
        said.push(text.to_owned());
    }
    match &step.reply {
        Reply::Turn(TurnVerdict::End) => said.push("answers: end".to_owned()),
        Reply::Turn(TurnVerdict::Nudge(_)) => said.push("answers: nudge".to_owned()),
        _ => {}
    }
    said
}

fn kind_of(refused: &Refused) -> &'static str {
    match refused {
        Refused::NoBead(_) => "no bead",
        Refused::NoAgent(_) => "no agent",
        Refused::NoReview(_) => "no review",
        Refused::Stale(_) => "stale",
        Refused::DispatchRequired(_) => "dispatch required",
        Refused::Conflict(_) => "conflict",
        Refused::Deleted => "rig deleted",
        Refused::IdentityTaken(_) => "identity taken",
    }
}
