//! A rig's state in memory, and the single place that changes it.
//!
//! Owns the records, the views over them (hooks, live beads) and the alarm as a function of the
//! state. Takes no decision: `step` decides, [`Rig::apply`] puts the decided records in place, and
//! replaying all changes gives the same state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Agent, AgentId, Bead, BeadId, Breaker, BreakerState, Budget, Change, Deadline, Hold, Mail,
    MailId, Pause, Phase, Policy, ReviewEntry, ReviewId, RigConfig, Role, Spent, Timestamp,
    escalation::AGAIN_MS,
    step::{Outlook, outlook_of},
    views::Views,
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
    /// Its own breaker: repository, crashes, starts. Those of shared scopes are the town's.
    pub breaker: Breaker,
    /// What the town said when it last refused, as long as that holds.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// Held back by a person, until a person resumes it.
    #[serde(default)]
    pub pause: Option<Pause>,
    /// What its work may cost.
    #[serde(default)]
    pub budget: Budget,
    /// What its work has cost.
    #[serde(default)]
    pub spent: Spent,
    /// The UTC day on which people were last warned of its budget.
    #[serde(default)]
    pub warned_day: Option<i64>,
    /// The UTC day on which people were last told that its budget is used up.
    #[serde(default)]
    pub stopped_day: Option<i64>,
    /// The newest notices of its town, so that a repeated one changes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<u64>,
    /// See [`Readiness`].
    pub readiness: Readiness,
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
    // Derived from the records in `apply` and nowhere else.
    views: Views,
    // The lowest number that a new dispatch may have; of the store, not of the records.
    numbers_from: u64,
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
            rig.put_agent(agent);
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

    /// New dispatches get no number below this one. A store that was restored from a backup has
    /// forgotten which numbers were given out since: reports of those must not meet them again.
    #[must_use]
    pub fn numbering_from(self, numbers_from: u64) -> Self {
        Self {
            numbers_from,
            ..self
        }
    }

    pub(crate) fn numbers_from(&self) -> u64 {
        self.numbers_from
    }

    /// The only mutator: puts a step's changes in place.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::Rig(record) => self.record = *record,
                Change::Bead(bead) => self.put_bead(*bead),
                Change::BeadDeleted(id) => self.drop_bead(&id),
                Change::Agent(agent) => self.put_agent(*agent),
                Change::AgentDeleted(id) => self.drop_agent(&id),
                Change::Review(entry) => self.put_review(*entry),
                Change::Mail(mail) if mail.delivered_at.is_none() => self.put_mail(*mail),
                Change::Mail(mail) => self.drop_mail(&mail.to, &mail.id),
                Change::MailDeleted { to, id } => self.drop_mail(&to, &id),
                // Events are history: on disk only, never in memory.
                Change::Event(_) | Change::AgentEvent(_) => {}
            }
        }
    }

    fn put_agent(&mut self, agent: Agent) {
        self.drop_agent(&agent.id);
        self.views.add_agent(&agent);
        self.agents.insert(agent.id.clone(), agent);
    }

    fn drop_agent(&mut self, id: &AgentId) {
        if let Some(old) = self.agents.remove(id) {
            self.views.remove_agent(&old);
        }
    }

    fn put_bead(&mut self, bead: Bead) {
        self.drop_bead(&bead.id);
        let role = self.role_on(&bead);
        self.views.add_bead(&bead, role);
        self.beads.insert(bead.id.clone(), bead);
    }

    fn drop_bead(&mut self, id: &BeadId) {
        if let Some(old) = self.beads.remove(id) {
            let role = self.role_on(&old);
            self.views.remove_bead(&old, role);
        }
    }

    /// The role of the agent whose hook a bead is on.
    fn role_on(&self, bead: &Bead) -> Option<Role> {
        let agent = self.agents.get(bead.hooked_to()?)?;
        Some(agent.role)
    }

    fn put_review(&mut self, entry: ReviewEntry) {
        self.views.set_review(&entry);
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
        self.views.unfinished().filter_map(|id| self.beads.get(id))
    }

    /// Work with a dispatch under way. Bounded by the policy's slots.
    pub fn running(&self) -> impl Iterator<Item = &Bead> {
        let ids = self.views.running().iter();
        ids.filter_map(|id| self.beads.get(id))
    }

    /// What the records say when they are asked by something else than their id.
    pub(crate) fn views(&self) -> &Views {
        &self.views
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
        self.views.hook_of(agent).and_then(|id| self.beads.get(id))
    }

    /// Escalations that no person has closed.
    pub fn open_escalations(&self) -> impl Iterator<Item = &Bead> {
        self.views.escalations().filter_map(|id| self.beads.get(id))
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
        self.views.open_reviews().filter_map(entry)
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
        let is_deleted = self.is_deleted();
        let running = u32::try_from(self.views.running().len()).unwrap_or(u32::MAX);
        // A deleted rig waits for the end of its sessions, and for nothing else.
        let awaited = running > 0 || (!is_deleted && self.views.unfinished().next().is_some());
        if awaited {
            next = Some(self.patrol_at(now));
        }
        for bead in self.running() {
            next = earliest(next, bead_deadline(&bead.phase, now));
        }
        // What is ready waits for the gate, not for its own deadline, which is past.
        let mut ready = false;
        if !is_deleted {
            ready = self.views.hooked().next().is_some() || self.views.waited(now).next().is_some();
            next = earliest(next, self.next_wait(now));
        }
        if !is_deleted && let Some(at) = self.views.next_again() {
            // After a jump back the alarm moves it to its own length; until then it is kept near.
            next = earliest(next, Some(at.min(now.plus_ms(AGAIN_MS))));
        }
        if ready && self.would_act(running, now) {
            // One step dispatches no more than so many; the rest has its turn in a second.
            next = earliest(next, Some(now.plus_ms(ALARM_GAP_MS)));
        }
        if !is_deleted {
            next = earliest(
                next,
                self.used_up_at(now).filter(|_| awaited || self.has_probe()),
            );
        }
        if ready {
            next = earliest(next, self.gate_opens_at(now));
        }
        let floor = self.record.alarmed_at.map(|at| at.plus_ms(ALARM_GAP_MS));
        next.map(|at| floor.map_or(at, |floor| at.max(floor.min(now.plus_ms(ALARM_GAP_MS)))))
    }

    /// When the next wait is over that is not over yet.
    fn next_wait(&self, now: Timestamp) -> Option<Timestamp> {
        if now >= self.record.latest_at {
            // A wait begins with an event, so none was set at a later time than this, and none is
            // further away than its own length.
            return self.views.next_waited(now);
        }
        let waits = self.unfinished().filter(|bead| !bead.is_ready(now));
        let until = waits.filter_map(|bead| match &bead.phase {
            Phase::Waiting {
                until, park: None, ..
            } => Some(until.rebased(now).at),
            _ => None,
        });
        until.min()
    }

    fn patrol_at(&self, now: Timestamp) -> Timestamp {
        let next = self.record.patrolled_at.plus_ms(PATROL_MS);
        next.min(now.plus_ms(PATROL_MS))
    }

    /// Whether the gate would do something for a bead that is ready.
    fn would_act(&self, running: u32, now: Timestamp) -> bool {
        match outlook_of(&self.record, now) {
            Outlook::Open | Outlook::Probe | Outlook::Ask => {
                running < self.record.policy.agents_max
            }
            Outlook::NeedsCheck => true,
            Outlook::Checking(_)
            | Outlook::Unconfigured
            | Outlook::Paused
            | Outlook::Spent(_)
            | Outlook::Held(_)
            | Outlook::Shut(..)
            | Outlook::Probing => false,
        }
    }

    fn has_probe(&self) -> bool {
        matches!(
            self.record.breaker.state,
            BreakerState::HalfOpen { probe: Some(_), .. }
        )
    }

    /// When the checks under way, or the breaker's probe, are given up whatever holds the gate.
    fn used_up_at(&self, now: Timestamp) -> Option<Timestamp> {
        let record = &self.record;
        let checking = match &record.readiness {
            Readiness::Checking { deadline, .. } => Some(*deadline),
            Readiness::Unverified | Readiness::Verified => None,
        };
        let probe = record.breaker.probe().map(|(_, by)| *by);
        checking.or(probe).map(|by| by.rebased(now).at)
    }

    /// When time alone opens the gate.
    fn gate_opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let record = &self.record;
        match outlook_of(record, now) {
            Outlook::Spent(until) => Some(until),
            Outlook::Held(_) => record.hold.as_ref().map(|hold| hold.until.rebased(now).at),
            Outlook::Shut(..) => match &record.breaker.state {
                BreakerState::Open { next_probe, .. } => Some(next_probe.rebased(now).at),
                BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
            },
            _ => None,
        }
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The next deadline of a dispatch under way, as seen from now: after a jump back the one that was
/// the earliest need not be.
fn bead_deadline(phase: &Phase, now: Timestamp) -> Option<Timestamp> {
    match phase {
        Phase::Dispatched { start, .. } => Some(start.rebased(now).at),
        Phase::Working { live, .. } => [live.lease, live.progress, live.total]
            .into_iter()
            .chain(live.nudge)
            .chain(live.tool)
            .map(|deadline| deadline.rebased(now).at)
            .min(),
        // Without the proof there is nothing to wait for here: the order to stop is in the outbox
        // until it is answered.
        Phase::Ending { ending, .. } => {
            let grace = ending.grace.rebased(now).at;
            ending.over.as_ref().map(|_| grace)
        }
        Phase::Open
        | Phase::Held
        | Phase::Hooked { .. }
        | Phase::Waiting { .. }
        | Phase::InReview { .. }
        | Phase::Closed { .. }
        | Phase::Failed { .. } => None,
    }
}
