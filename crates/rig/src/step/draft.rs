//! What a step has changed so far, laid over the state that it began with.
//!
//! Owns copy-on-write: a refused step leaves the rig as it was because nothing was written to it.
//! Takes no decision.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    Agent, AgentId, Bead, BeadEvent, BeadId, Change, Effect, Env, EventType, Mail, Phase, Refused,
    Reply, ReviewEntry, ReviewId, Rig, RigRecord, Role, Step, Timestamp, nonce::Nonce,
};

/// The changes of one step.
pub(crate) struct Draft<'r> {
    rig: &'r Rig,
    env: Env,
    nonce: Nonce,
    record: Option<RigRecord>,
    beads: BTreeMap<BeadId, Option<Bead>>,
    agents: BTreeMap<AgentId, Option<Agent>>,
    reviews: BTreeMap<ReviewId, ReviewEntry>,
    // Records that no part of the same step looks at again.
    appended: Vec<Change>,
    events: Vec<BeadEvent>,
    effects: Vec<Effect>,
}

/// An event before it gets its number and its time.
pub(crate) struct NewEvent<'a> {
    pub(crate) kind: EventType,
    pub(crate) bead: Option<&'a BeadId>,
    pub(crate) agent: Option<&'a AgentId>,
    pub(crate) old: Option<String>,
    pub(crate) new: Option<String>,
    pub(crate) metadata: Value,
}

impl<'a> NewEvent<'a> {
    pub(crate) fn of(kind: EventType, bead: &'a BeadId) -> Self {
        let metadata = Value::Object(serde_json::Map::new());
        Self {
            kind,
            bead: Some(bead),
            agent: None,
            old: None,
            new: None,
            metadata,
        }
    }

    /// Of the rig as a whole.
    pub(crate) fn of_rig(kind: EventType, new: Option<&str>, metadata: Value) -> Self {
        Self {
            kind,
            bead: None,
            agent: None,
            old: None,
            new: new.map(str::to_owned),
            metadata,
        }
    }
}

impl<'r> Draft<'r> {
    pub(crate) fn new(rig: &'r Rig, env: Env) -> Self {
        Self {
            rig,
            env,
            nonce: Nonce::new(env.nonce),
            record: None,
            beads: BTreeMap::new(),
            agents: BTreeMap::new(),
            reviews: BTreeMap::new(),
            appended: Vec::new(),
            events: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.env.now
    }

    /// Fresh bits, the same for the same step.
    pub(crate) fn nonce(&mut self) -> u128 {
        self.nonce.draw()
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.nonce.random()
    }

    /// See [`Rig::numbering_from`].
    pub(crate) fn numbers_from(&self) -> u64 {
        self.rig.numbers_from()
    }

    pub(crate) fn record(&self) -> &RigRecord {
        self.record.as_ref().unwrap_or_else(|| self.rig.record())
    }

    pub(crate) fn record_mut(&mut self) -> &mut RigRecord {
        self.record.get_or_insert_with(|| self.rig.record().clone())
    }

    pub(crate) fn bead(&self, id: &BeadId) -> Option<&Bead> {
        match self.beads.get(id) {
            Some(changed) => changed.as_ref(),
            None => self.rig.bead(id),
        }
    }

    /// The bead to be changed; its `updated_at` moves.
    pub(crate) fn bead_mut(&mut self, id: &BeadId) -> Result<&mut Bead, Refused> {
        let now = self.env.now;
        let slot = self
            .beads
            .entry(id.clone())
            .or_insert_with(|| self.rig.bead(id).cloned());
        let bead = slot.as_mut().ok_or_else(|| Refused::NoBead(id.clone()))?;
        bead.updated_at = bead.updated_at.max(now);
        Ok(bead)
    }

    pub(crate) fn put_bead(&mut self, bead: Bead) {
        self.beads.insert(bead.id.clone(), Some(bead));
    }

    pub(crate) fn delete_bead(&mut self, id: &BeadId) {
        self.beads.insert(id.clone(), None);
    }

    pub(crate) fn agent(&self, id: &AgentId) -> Option<&Agent> {
        match self.agents.get(id) {
            Some(changed) => changed.as_ref(),
            None => self.rig.agent(id),
        }
    }

    pub(crate) fn put_agent(&mut self, agent: Agent) {
        self.agents.insert(agent.id.clone(), Some(agent));
    }

    pub(crate) fn delete_agent(&mut self, id: &AgentId) {
        self.agents.insert(id.clone(), None);
    }

    /// Agents of a role, as the step sees them.
    pub(crate) fn of_role(&self, role: Role) -> usize {
        let before = self.rig.views().of_role(role).len();
        let has_role = |agent: &Agent| usize::from(agent.role == role);
        let changed = self.agents.iter().fold((0, 0), |(gone, new), (id, now)| {
            let gone = gone + self.rig.agent(id).map_or(0, has_role);
            (gone, new + now.as_ref().map_or(0, has_role))
        });
        before + changed.1 - changed.0
    }

    /// Whether an agent has that identity.
    pub(crate) fn is_identity(&self, identity: &str) -> bool {
        let has = |agent: &Agent| agent.identity == identity;
        let mut changed = self.agents.values().flatten();
        if changed.any(has) {
            return true;
        }
        let left = |id: &AgentId| self.agents.get(id).is_some_and(Option::is_none);
        let gone = self.agents.keys().filter(|id| left(id));
        let mut gone = gone.filter_map(|id| self.rig.agent(id));
        self.rig.views().is_identity(identity) && !gone.any(has)
    }

    /// The oldest agent of a role; with `idle` the oldest that has nothing on its hook.
    pub(crate) fn oldest(&self, role: Role, idle: bool) -> Option<&Agent> {
        let fits =
            |agent: &&Agent| agent.role == role && (!idle || self.hook_of(&agent.id).is_none());
        let views = self.rig.views();
        let known = if idle {
            views
                .idle_of(role)
                .find_map(|id| self.agent(id).filter(fits))
        } else {
            views
                .of_role(role)
                .find_map(|id| self.agent(id).filter(fits))
        };
        // One that this step has made, or has taken off its hook, is not among them.
        let mut changed = self.agents.values().flatten().chain(self.unhooked());
        let changed = changed.by_ref().filter(fits).min_by_key(|agent| &agent.id);
        known
            .into_iter()
            .chain(changed)
            .min_by_key(|agent| &agent.id)
    }

    /// Agents from whose hooks this step has taken a bead.
    fn unhooked(&self) -> impl Iterator<Item = &Agent> {
        let before = self.beads.keys().filter_map(|id| self.rig.bead(id));
        before.filter_map(|bead| self.agent(bead.hooked_to()?))
    }

    pub(crate) fn review(&self, id: &ReviewId) -> Option<&ReviewEntry> {
        self.reviews.get(id).or_else(|| self.rig.review(id))
    }

    pub(crate) fn put_review(&mut self, entry: ReviewEntry) {
        self.reviews.insert(entry.id.clone(), entry);
    }

    /// Reviews that wait for their end, as the step sees them.
    pub(crate) fn open_reviews(&self) -> impl Iterator<Item = &ReviewEntry> {
        let unchanged = self
            .rig
            .open_reviews()
            .filter(|entry| !self.reviews.contains_key(&entry.id));
        unchanged.chain(self.reviews.values().filter(|entry| entry.is_open()))
    }

    /// The reviews that this step took beads out of.
    pub(crate) fn left_review(&self) -> Vec<ReviewId> {
        let left = self.beads.iter().filter_map(|(id, now)| {
            let Phase::InReview { review } = &self.rig.bead(id)?.phase else {
                return None;
            };
            let is_there = now.as_ref().is_some_and(
                |bead| matches!(&bead.phase, Phase::InReview { review: same } if same == review),
            );
            (!is_there).then(|| review.clone())
        });
        left.collect()
    }

    /// Beads that this step removes.
    pub(crate) fn deleted_beads(&self) -> impl Iterator<Item = &BeadId> {
        let gone = |(id, bead): (_, &Option<Bead>)| bead.is_none().then_some(id);
        self.beads.iter().filter_map(gone)
    }

    /// Undelivered mail of an agent as the step found it.
    pub(crate) fn mail_of(
        &self,
        agent: &AgentId,
    ) -> impl ExactSizeIterator<Item = &'r Mail> + use<'r> {
        self.rig.mail_of(agent)
    }

    /// A record that nothing else in this step depends on.
    pub(crate) fn append(&mut self, change: Change) {
        self.appended.push(change);
    }

    /// The time for a new record: never before that of an older one.
    pub(crate) fn stamp(&mut self) -> Timestamp {
        let now = self.env.now;
        let record = self.record_mut();
        record.latest_at = record.latest_at.max(now);
        record.latest_at
    }

    /// The bead on an agent's hook, as the step sees it.
    pub(crate) fn hook_of(&self, agent: &AgentId) -> Option<BeadId> {
        let changed = self.beads.values().flatten();
        if let Some(bead) = changed
            .into_iter()
            .find(|bead| bead.hooked_to() == Some(agent))
        {
            return Some(bead.id.clone());
        }
        let before = self.rig.hook_of(agent)?;
        (!self.beads.contains_key(&before.id)).then(|| before.id.clone())
    }

    /// Unfinished work, as the step sees it.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &Bead> {
        let unchanged = self
            .rig
            .unfinished()
            .filter(|bead| !self.beads.contains_key(&bead.id));
        let changed = self.beads.values().flatten();
        unchanged.chain(changed.filter(|bead| bead.is_work() && !bead.is_terminal()))
    }

    /// Unfinished work, or only what has a dispatch under way, as the step found it.
    pub(crate) fn unfinished_or_running(
        &self,
        all: bool,
    ) -> impl Iterator<Item = &'r Bead> + use<'r> {
        let rig = self.rig;
        let (unfinished, running) = (all.then(|| rig.unfinished()), (!all).then(|| rig.running()));
        let unfinished = unfinished.into_iter().flatten();
        unfinished.chain(running.into_iter().flatten())
    }

    /// Work with a dispatch under way, as the step sees it. Bounded by the slots.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Bead> {
        let unchanged = self.rig.running();
        let unchanged = unchanged.filter(|bead| !self.beads.contains_key(&bead.id));
        let changed = self.beads.values().flatten();
        unchanged.chain(changed.filter(|bead| bead.is_work() && bead.run().is_some()))
    }

    /// How many dispatches are under way, as the step sees it.
    pub(crate) fn running(&self) -> usize {
        let views = self.rig.views();
        let before = self.beads.keys().filter(|id| views.running().contains(*id));
        let runs = |bead: &&Bead| bead.is_work() && bead.run().is_some();
        let now = self.beads.values().flatten().filter(runs);
        views.running().len() + now.count() - before.count()
    }

    /// Beads that are ready to be dispatched, as the step sees them: of those on a hook `max` and
    /// in the order of dispatch, and all whose wait is over.
    pub(crate) fn ready(&self, max: usize) -> impl Iterator<Item = &Bead> {
        let (views, now) = (self.rig.views(), self.env.now);
        let hooked = views.hooked().map(|(_, id)| id);
        let unchanged = |id: &&BeadId| !self.beads.contains_key(*id);
        let hooked = hooked.filter(unchanged).take(max);
        let waited = views.waited(now).filter(unchanged);
        let unchanged = hooked.chain(waited).filter_map(|id| self.rig.bead(id));
        let changed = self.beads.values().flatten();
        unchanged.chain(
            changed.filter(move |bead| bead.is_work() && !bead.is_terminal() && bead.is_ready(now)),
        )
    }

    /// The beads whose own deadlines an alarm may have to use up.
    pub(crate) fn with_deadlines(&self) -> Vec<BeadId> {
        self.rig.views().running().iter().cloned().collect()
    }

    /// Escalations that people are to be told of again by now.
    pub(crate) fn to_tell_again(&self) -> Vec<BeadId> {
        let due = self.rig.views().told_again(self.env.now);
        due.cloned().collect()
    }

    /// Open escalations, as the step sees them.
    pub(crate) fn escalations(&self) -> impl Iterator<Item = &Bead> {
        let unchanged = self
            .rig
            .open_escalations()
            .filter(|bead| !self.beads.contains_key(&bead.id));
        let changed = self.beads.values().flatten();
        unchanged.chain(
            changed.filter(|bead| bead.kind == crate::BeadType::Escalation && !bead.is_terminal()),
        )
    }

    /// The open escalation of a cause, as the step sees it.
    pub(crate) fn escalation_of(&self, cause: &str) -> Option<&Bead> {
        let of = |bead: &&Bead| bead.metadata.get("cause").and_then(Value::as_str) == Some(cause);
        self.escalations().find(of)
    }

    pub(crate) fn event(&mut self, event: NewEvent<'_>) {
        let now = self.env.now;
        let record = self.record_mut();
        record.event_no += 1;
        record.latest_at = record.latest_at.max(now);
        let event = BeadEvent {
            no: record.event_no,
            bead_id: event.bead.cloned(),
            agent_id: event.agent.cloned(),
            event_type: event.kind,
            old_value: event.old,
            new_value: event.new,
            metadata: event.metadata,
            created_at: record.latest_at,
        };
        self.events.push(event);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn finish(self, reply: Reply) -> Step {
        let mut changes = Vec::new();
        changes.extend(self.agents.into_iter().map(|(id, agent)| {
            agent.map_or(Change::AgentDeleted(id), |agent| {
                Change::Agent(Box::new(agent))
            })
        }));
        let reviews = self.reviews.into_values();
        changes.extend(reviews.map(|entry| Change::Review(Box::new(entry))));
        changes.extend(self.appended);
        changes.extend(self.beads.into_iter().map(|(id, bead)| match bead {
            Some(bead) => Change::Bead(Box::new(bead)),
            None => Change::BeadDeleted(id),
        }));
        changes.extend(self.record.map(|record| Change::Rig(Box::new(record))));
        changes.extend(
            self.events
                .into_iter()
                .map(|event| Change::Event(Box::new(event))),
        );
        Step {
            changes,
            effects: self.effects,
            reply,
        }
    }
}
