//! What a rig's records say when they are asked by something else than their id.
//!
//! Owns the indexes that keep a step's cost independent of how much work waits and how much is
//! done. Derived from the records, in `Rig::apply` and nowhere else; stored nowhere; decides
//! nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Agent, AgentId, Bead, BeadId, BeadType, Phase, Priority, ReviewEntry, ReviewId, Role, Timestamp,
};

/// The place of a bead in the order of dispatch: the most urgent first, then the oldest.
pub(crate) type Rank = (Reverse<Priority>, BeadId);

/// See the file's head.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Views {
    hooks: BTreeMap<AgentId, BeadId>,
    unfinished: BTreeSet<BeadId>,
    /// Dispatched, working or ending.
    running: BTreeSet<BeadId>,
    /// On a hook and ready to be dispatched.
    hooked: BTreeSet<Rank>,
    /// On a hook and not before that time.
    waiting: BTreeMap<Timestamp, BTreeSet<BeadId>>,
    escalations: BTreeSet<BeadId>,
    /// Escalations that people are told of again at that time.
    again: BTreeMap<Timestamp, BTreeSet<BeadId>>,
    open_reviews: BTreeSet<ReviewId>,
    identities: BTreeSet<String>,
    by_role: BTreeMap<Role, BTreeSet<AgentId>>,
    /// Agents with nothing on their hook.
    idle: BTreeMap<Role, BTreeSet<AgentId>>,
}

/// The place of a bead in the order of dispatch.
pub(crate) fn rank(bead: &Bead) -> Rank {
    (Reverse(bead.priority), bead.id.clone())
}

impl Views {
    /// `role`: that of the agent on whose hook it is, if there is one.
    pub(crate) fn add_bead(&mut self, bead: &Bead, role: Option<Role>) {
        let id = &bead.id;
        if let Some(agent) = bead.hooked_to() {
            self.hooks.insert(agent.clone(), id.clone());
            self.set_idle(agent, role, false);
        }
        if bead.kind == BeadType::Escalation && !bead.is_terminal() {
            self.escalations.insert(id.clone());
            if let Some(at) = again_at(bead) {
                self.again.entry(at).or_default().insert(id.clone());
            }
        }
        if !bead.is_work() || bead.is_terminal() {
            return;
        }
        self.unfinished.insert(id.clone());
        match &bead.phase {
            Phase::Hooked { .. } => {
                self.hooked.insert(rank(bead));
            }
            // What only a person ends is ready at no time.
            Phase::Waiting { park: Some(_), .. } => {}
            Phase::Waiting { until, .. } => {
                let until = self.waiting.entry(until.at).or_default();
                until.insert(id.clone());
            }
            _ if bead.run().is_some() => {
                self.running.insert(id.clone());
            }
            _ => {}
        }
    }

    /// Takes back what `add_bead` has entered for the same record.
    pub(crate) fn remove_bead(&mut self, bead: &Bead, role: Option<Role>) {
        let id = &bead.id;
        self.unfinished.remove(id);
        self.running.remove(id);
        self.escalations.remove(id);
        self.hooked.remove(&rank(bead));
        if let Some(at) = again_at(bead) {
            leave(&mut self.again, &at, id);
        }
        if let Phase::Waiting { until, .. } = &bead.phase {
            leave(&mut self.waiting, &until.at, id);
        }
        if let Some(agent) = bead.hooked_to()
            && self.hooks.get(agent) == Some(id)
        {
            self.hooks.remove(agent);
            self.set_idle(agent, role, true);
        }
    }

    pub(crate) fn add_agent(&mut self, agent: &Agent) {
        self.identities.insert(agent.identity.clone());
        let of_role = self.by_role.entry(agent.role).or_default();
        of_role.insert(agent.id.clone());
        let is_idle = !self.hooks.contains_key(&agent.id);
        self.set_idle(&agent.id, Some(agent.role), is_idle);
    }

    pub(crate) fn remove_agent(&mut self, agent: &Agent) {
        self.identities.remove(&agent.identity);
        leave(&mut self.by_role, &agent.role, &agent.id);
        self.set_idle(&agent.id, Some(agent.role), false);
    }

    fn set_idle(&mut self, agent: &AgentId, role: Option<Role>, is_idle: bool) {
        let Some(role) = role else { return };
        if is_idle {
            let idle = self.idle.entry(role).or_default();
            idle.insert(agent.clone());
        } else {
            leave(&mut self.idle, &role, agent);
        }
    }

    pub(crate) fn set_review(&mut self, entry: &ReviewEntry) {
        if entry.is_open() {
            self.open_reviews.insert(entry.id.clone());
        } else {
            self.open_reviews.remove(&entry.id);
        }
    }

    pub(crate) fn hook_of(&self, agent: &AgentId) -> Option<&BeadId> {
        self.hooks.get(agent)
    }

    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &BeadId> {
        self.unfinished.iter()
    }

    pub(crate) fn running(&self) -> &BTreeSet<BeadId> {
        &self.running
    }

    /// Ready whatever the time, in the order of dispatch.
    pub(crate) fn hooked(&self) -> impl Iterator<Item = &Rank> {
        self.hooked.iter()
    }

    /// Waiting on a hook until `now` or earlier.
    pub(crate) fn waited(&self, now: Timestamp) -> impl Iterator<Item = &BeadId> {
        self.waiting.range(..=now).flat_map(|(_, ids)| ids)
    }

    /// When the next wait is over that is not over at `now`.
    pub(crate) fn next_waited(&self, now: Timestamp) -> Option<Timestamp> {
        let mut later = self.waiting.range(now.plus_ms(1)..);
        later.next().map(|(at, _)| *at)
    }

    pub(crate) fn escalations(&self) -> impl Iterator<Item = &BeadId> {
        self.escalations.iter()
    }

    /// Escalations that people are to be told of again until `now`.
    pub(crate) fn told_again(&self, now: Timestamp) -> impl Iterator<Item = &BeadId> {
        self.again.range(..=now).flat_map(|(_, ids)| ids)
    }

    /// When people are next told again.
    pub(crate) fn next_again(&self) -> Option<Timestamp> {
        self.again.first_key_value().map(|(at, _)| *at)
    }

    pub(crate) fn open_reviews(&self) -> impl Iterator<Item = &ReviewId> {
        self.open_reviews.iter()
    }

    pub(crate) fn is_identity(&self, identity: &str) -> bool {
        self.identities.contains(identity)
    }

    /// Agents of a role, oldest first.
    pub(crate) fn of_role(&self, role: Role) -> impl ExactSizeIterator<Item = &AgentId> {
        static NONE: BTreeSet<AgentId> = BTreeSet::new();
        self.by_role.get(&role).unwrap_or(&NONE).iter()
    }

    /// Those with nothing on their hook, oldest first.
    pub(crate) fn idle_of(&self, role: Role) -> impl Iterator<Item = &AgentId> {
        self.idle.get(&role).into_iter().flatten()
    }
}

fn again_at(bead: &Bead) -> Option<Timestamp> {
    let again = bead.alert.as_ref()?.again?;
    Some(again.at)
}

/// No empty set stays: equal records have equal views.
fn leave<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
