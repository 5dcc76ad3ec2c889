//! A rig's views: hooks, reviews, open escalations.
//!
//! Owns what they have to agree with: the beads themselves.

use std::collections::BTreeSet;

use crate::{BeadType, Phase, Rig};

pub(super) fn views(rig: &Rig) -> Result<(), String> {
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
