//! A rig's state in memory, and the single place that changes it.
//!
//! Owns the records, the views over them (hooks, live beads) and the alarm as a function of the
//! state. Takes no decision: `step` decides, [`Rig::apply`] puts the decided records in place, and
//! replaying all changes gives the same state.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Agent, AgentId, Bead, BeadId, BeadType, Breaker, BreakerState, Change, Deadline, Mail, MailId,
    Phase, Policy, ReviewEntry, ReviewId, RigConfig, Timestamp,
    step::{Outlook, outlook_of},
};

/// A rig that waits for an event alone still looks around this often.
pub(crate) const PATROL_MS: i64 = 60 * 60 * 1_000;
/// After an alarm the next one is at least this far away: no hot loop, whatever the state.
pub(crate) const ALARM_GAP_MS: i64 = 1_000;

/// Whether credentials, program, model and git are known to be there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Readiness {
    /// Not checked since the configuration changed or a check failed.
    #[default]
    Unverified,
    /// A check is under way.
    Checking {
        /// Its number.
        no: u64,
        /// When it counts as failed.
        deadline: Deadline,
    },
    /// Checked and found.
    Verified,
}

/// The rig's own record: everything that is neither a bead nor an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RigRecord {
    /// Its configuration; without one nothing is dispatched.
    pub config: Option<RigConfig>,
    /// Its policy.
    pub policy: Policy,
    /// When it was first configured.
    pub created_at: Option<Timestamp>,
    /// When its configuration last changed.
    pub updated_at: Option<Timestamp>,
    /// Its breaker, for every scope.
    pub breaker: Breaker,
    /// See [`Readiness`].
    pub readiness: Readiness,
    /// The id of the environment's credentials, as the container last told it; no secret.
    pub credential: Option<String>,
    /// The number of the newest check.
    pub preflight_no: u64,
    /// The number of the newest event.
    pub event_no: u64,
    /// The number of the newest line of any agent's own log.
    #[serde(default)]
    pub agent_event_no: u64,
    /// The newest time that any step saw; event times never go back.
    pub latest_at: Timestamp,
    /// When the last patrol was.
    pub patrolled_at: Timestamp,
    /// When the last alarm was.
    pub alarmed_at: Option<Timestamp>,
    /// The tombstone: when the rig was deleted. Checked before anything else.
    #[serde(default)]
    pub deleted_at: Option<Timestamp>,
}

/// One rig.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rig {
    record: RigRecord,
    beads: BTreeMap<BeadId, Bead>,
    agents: BTreeMap<AgentId, Agent>,
    reviews: BTreeMap<ReviewId, ReviewEntry>,
    // Undelivered, by reader; delivered mail is history.
    mail: BTreeMap<AgentId, BTreeMap<MailId, Mail>>,
    // Views, derived from the records in `apply` and nowhere else.
    hooks: BTreeMap<AgentId, BeadId>,
    unfinished: BTreeSet<BeadId>,
    escalations: BTreeSet<BeadId>,
    open_reviews: BTreeSet<ReviewId>,
}

/// Everything that a rig keeps in memory, as it is stored.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The rig's own record.
    pub record: RigRecord,
    /// All beads.
    pub beads: Vec<Bead>,
    /// All agents.
    pub agents: Vec<Agent>,
    /// All review entries.
    pub reviews: Vec<ReviewEntry>,
    /// Undelivered mail.
    pub mail: Vec<Mail>,
}

impl Rig {
    /// A rig that was never written to.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rig that these records describe.
    pub fn from_records(records: Records) -> Self {
        let mut rig = Self {
            record: records.record,
            ..Self::default()
        };
        for agent in records.agents {
            rig.agents.insert(agent.id.clone(), agent);
        }
        for bead in records.beads {
            rig.put_bead(bead);
        }
        for entry in records.reviews {
            rig.put_review(entry);
        }
        for mail in records.mail {
            rig.put_mail(mail);
        }
        rig
    }

    /// The only mutator: puts a step's changes in place.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Rig(record) => self.record = (**record).clone(),
                Change::Bead(bead) => self.put_bead((**bead).clone()),
                Change::BeadDeleted(id) => self.drop_bead(id),
                Change::Agent(agent) => {
                    self.agents.insert(agent.id.clone(), (**agent).clone());
                }
                Change::AgentDeleted(id) => {
                    self.agents.remove(id);
                }
                Change::Review(entry) => self.put_review((**entry).clone()),
                Change::Mail(mail) if mail.delivered_at.is_none() => {
                    self.put_mail((**mail).clone());
                }
                Change::Mail(mail) => self.drop_mail(&mail.to, &mail.id),
                Change::MailDeleted { to, id } => self.drop_mail(to, id),
                // Events are history: on disk only, never in memory.
                Change::Event(_) | Change::AgentEvent(_) => {}
            }
        }
    }

    fn put_bead(&mut self, bead: Bead) {
        self.drop_bead(&bead.id);
        if let Some(agent) = bead.hooked_to() {
            self.hooks.insert(agent.clone(), bead.id.clone());
        }
        if bead.is_work() && !bead.is_terminal() {
            self.unfinished.insert(bead.id.clone());
        }
        if bead.kind == BeadType::Escalation && !bead.is_terminal() {
            self.escalations.insert(bead.id.clone());
        }
        self.beads.insert(bead.id.clone(), bead);
    }

    fn drop_bead(&mut self, id: &BeadId) {
        let Some(old) = self.beads.remove(id) else {
            return;
        };
        self.unfinished.remove(id);
        self.escalations.remove(id);
        if let Some(agent) = old.hooked_to()
            && self.hooks.get(agent) == Some(id)
        {
            self.hooks.remove(agent);
        }
    }

    fn put_review(&mut self, entry: ReviewEntry) {
        if entry.is_open() {
            self.open_reviews.insert(entry.id.clone());
        } else {
            self.open_reviews.remove(&entry.id);
        }
        self.reviews.insert(entry.id.clone(), entry);
    }

    fn put_mail(&mut self, mail: Mail) {
        let box_of = self.mail.entry(mail.to.clone()).or_default();
        box_of.insert(mail.id.clone(), mail);
    }

    fn drop_mail(&mut self, to: &AgentId, id: &MailId) {
        if let Some(box_of) = self.mail.get_mut(to) {
            box_of.remove(id);
            if box_of.is_empty() {
                self.mail.remove(to);
            }
        }
    }

    /// The rig's own record.
    pub fn record(&self) -> &RigRecord {
        &self.record
    }

    /// The rig's policy.
    pub fn policy(&self) -> &Policy {
        &self.record.policy
    }

    /// Whether only the tombstone is left, and what is still being stopped.
    pub fn is_deleted(&self) -> bool {
        self.record.deleted_at.is_some()
    }

    /// A bead.
    pub fn bead(&self, id: &BeadId) -> Option<&Bead> {
        self.beads.get(id)
    }

    /// All beads, oldest first (ids are ordered by time).
    pub fn beads(&self) -> impl DoubleEndedIterator<Item = &Bead> {
        self.beads.values()
    }

    /// Work that is neither closed nor failed.
    pub fn unfinished(&self) -> impl Iterator<Item = &Bead> {
        self.unfinished.iter().filter_map(|id| self.beads.get(id))
    }

    /// An agent.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.get(id)
    }

    /// All agents, oldest first.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// The bead on an agent's hook.
    pub fn hook_of(&self, agent: &AgentId) -> Option<&Bead> {
        self.hooks.get(agent).and_then(|id| self.beads.get(id))
    }

    /// Escalations that no person has closed.
    pub fn open_escalations(&self) -> impl Iterator<Item = &Bead> {
        self.escalations.iter().filter_map(|id| self.beads.get(id))
    }

    /// A review entry.
    pub fn review(&self, id: &ReviewId) -> Option<&ReviewEntry> {
        self.reviews.get(id)
    }

    /// All review entries, oldest first.
    pub fn reviews(&self) -> impl Iterator<Item = &ReviewEntry> {
        self.reviews.values()
    }

    /// Review entries that wait for their end, oldest first.
    pub fn open_reviews(&self) -> impl Iterator<Item = &ReviewEntry> {
        let entry = |id| self.reviews.get(id);
        self.open_reviews.iter().filter_map(entry)
    }

    /// Undelivered mail of an agent, oldest first.
    pub fn mail_of<'s>(
        &'s self,
        agent: &AgentId,
    ) -> impl ExactSizeIterator<Item = &'s Mail> + use<'s> {
        static NONE: BTreeMap<MailId, Mail> = BTreeMap::new();
        self.mail.get(agent).unwrap_or(&NONE).values()
    }

    /// When the rig has to be woken: the least of everything that it waits for, as a function of
    /// the state alone. `None` when all work is terminal, and when a deleted rig has no session.
    pub fn next_alarm(&self, now: Timestamp) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        let (mut ready, mut running) = (false, 0);
        let is_deleted = self.is_deleted();
        // A deleted rig waits for the end of its sessions, and for nothing else.
        let awaited = |bead: &&Bead| !is_deleted || bead.run().is_some();
        for bead in self.unfinished().filter(awaited) {
            next = earliest(next, Some(self.patrol_at(now)));
            running += u32::from(bead.run().is_some());
            // What is ready waits for the gate, not for its own deadline, which is past.
            if bead.is_ready(now) {
                ready = true;
            } else {
                next = earliest(next, bead_deadline(&bead.phase).map(|d| d.rebased(now).at));
            }
        }
        if ready && self.would_act(running, now) {
            // One step dispatches no more than so many; the rest has its turn in a second.
            next = earliest(next, Some(now.plus_ms(ALARM_GAP_MS)));
        }
        if ready || (self.has_probe() && !is_deleted) {
            next = earliest(next, self.gate_deadline().map(|d| d.rebased(now).at));
        }
        let floor = self.record.alarmed_at.map(|at| at.plus_ms(ALARM_GAP_MS));
        next.map(|at| floor.map_or(at, |floor| at.max(floor.min(now.plus_ms(ALARM_GAP_MS)))))
    }

    fn patrol_at(&self, now: Timestamp) -> Timestamp {
        let next = self.record.patrolled_at.plus_ms(PATROL_MS);
        next.min(now.plus_ms(PATROL_MS))
    }

    /// Whether the gate would do something for a bead that is ready.
    fn would_act(&self, running: u32, now: Timestamp) -> bool {
        match outlook_of(&self.record, now) {
            Outlook::Open | Outlook::Probe => running < self.record.policy.agents_max,
            Outlook::NeedsCheck => true,
            Outlook::Checking(_) | Outlook::Unconfigured | Outlook::Shut(..) | Outlook::Probing => {
                false
            }
        }
    }

    fn has_probe(&self) -> bool {
        matches!(
            self.record.breaker.state,
            BreakerState::HalfOpen { probe: Some(_), .. }
        )
    }

    /// The next time at which the gate itself may change its answer.
    fn gate_deadline(&self) -> Option<Deadline> {
        if let Readiness::Checking { deadline, .. } = &self.record.readiness {
            return Some(*deadline);
        }
        match &self.record.breaker.state {
            BreakerState::Closed => None,
            BreakerState::Open { next_probe, .. } => Some(*next_probe),
            BreakerState::HalfOpen { probe, .. } => probe.as_ref().map(|(_, deadline)| *deadline),
        }
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The next deadline that a phase holds of its own.
fn bead_deadline(phase: &Phase) -> Option<Deadline> {
    match phase {
        Phase::Dispatched { start, .. } => Some(*start),
        Phase::Working { live, .. } => [live.lease, live.progress, live.total]
            .into_iter()
            .min_by_key(|d| d.at),
        // Without the proof there is nothing to wait for here: the order to stop is in the outbox
        // until it is answered.
        Phase::Ending { ending, .. } => ending.over.as_ref().map(|_| ending.grace),
        Phase::Waiting { until, .. } => Some(*until),
        Phase::Open
        | Phase::Held
        | Phase::Hooked { .. }
        | Phase::InReview { .. }
        | Phase::Closed { .. }
        | Phase::Failed { .. } => None,
    }
}
