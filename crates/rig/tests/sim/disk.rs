//! What survives a crash of the rig: records, the outbox and the one alarm.
//!
//! Owns an `apply` of its own, by key and without any view, so that the rig's own one is checked
//! against it. Takes no decision.

use std::collections::BTreeMap;

use wellhead_rig::{
    Agent, AgentId, Bead, BeadId, Change, Counts, Effect, Mail, MailId, Records, ReviewEntry,
    ReviewId, Rig, RigRecord, Timestamp,
};

/// The last committed state.
#[derive(Default)]
pub(crate) struct Disk {
    record: RigRecord,
    /// The part of the record that is written alone while nothing else in it changes.
    counts: Counts,
    pub(crate) beads: BTreeMap<BeadId, Bead>,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) reviews: BTreeMap<ReviewId, ReviewEntry>,
    pub(crate) mail: BTreeMap<MailId, Mail>,
    /// Effects that no receiver has taken yet.
    pub(crate) outbox: BTreeMap<u64, Effect>,
    pub(crate) alarm: Option<Timestamp>,
    outbox_no: u64,
    event_no: u64,
    event_at: Timestamp,
    agent_event_no: u64,
}

impl Disk {
    /// One atomic batch. The effects' numbers in the outbox come back.
    pub(crate) fn commit(
        &mut self,
        changes: &[Change],
        effects: &[Effect],
    ) -> Result<Vec<u64>, String> {
        for change in changes {
            match change {
                Change::Rig(record) if self.record.is_same_but_counts(record) => {
                    self.counts = record.counts();
                }
                Change::Rig(record) => self.record = (**record).clone(),
                Change::Bead(bead) => {
                    self.beads.insert(bead.id.clone(), (**bead).clone());
                }
                Change::BeadDeleted(id) => {
                    self.beads.remove(id);
                }
                Change::Agent(agent) => {
                    self.agents.insert(agent.id.clone(), (**agent).clone());
                }
                Change::AgentDeleted(id) => {
                    self.agents.remove(id);
                }
                Change::Review(entry) => {
                    self.reviews.insert(entry.id.clone(), (**entry).clone());
                }
                Change::Mail(mail) if mail.delivered_at.is_none() => {
                    self.mail.insert(mail.id.clone(), (**mail).clone());
                }
                Change::Mail(mail) => self.take_mail(&mail.id)?,
                Change::MailDeleted { id, .. } => self.take_mail(id)?,
                Change::AgentEvent(event) => {
                    if event.no != self.agent_event_no + 1 {
                        return Err(format!("agent event {} breaks the log's order", event.no));
                    }
                    self.agent_event_no = event.no;
                }
                Change::Event(event) => {
                    if event.no != self.event_no + 1 || event.created_at < self.event_at {
                        return Err(format!("event {} breaks the log's order", event.no));
                    }
                    (self.event_no, self.event_at) = (event.no, event.created_at);
                }
            }
        }
        let mut numbers = Vec::new();
        for effect in effects {
            self.outbox_no += 1;
            self.outbox.insert(self.outbox_no, effect.clone());
            numbers.push(self.outbox_no);
        }
        Ok(numbers)
    }

    /// A mail leaves once: delivered, or with its reader.
    fn take_mail(&mut self, id: &MailId) -> Result<(), String> {
        let was_there = self.mail.remove(id).is_some();
        was_there
            .then_some(())
            .ok_or_else(|| format!("mail {id} left twice"))
    }

    pub(crate) fn record(&self) -> RigRecord {
        let mut record = self.record.clone();
        record.catch_up(self.counts);
        record
    }

    /// The rig that these records describe.
    pub(crate) fn load(&self) -> Rig {
        Rig::from_records(Records {
            record: self.record(),
            beads: self.beads.values().cloned().collect(),
            agents: self.agents.values().cloned().collect(),
            reviews: self.reviews.values().cloned().collect(),
            mail: self.mail.values().cloned().collect(),
        })
    }

    /// The same by way of the stored form.
    pub(crate) fn load_encoded(&self) -> Result<Rig, String> {
        fn again<T: serde::Serialize + serde::de::DeserializeOwned>(it: &T) -> Result<T, String> {
            let text = serde_json::to_string(it).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| format!("{e} in {text}"))
        }
        Ok(Rig::from_records(Records {
            record: again(&self.record())?,
            beads: self.beads.values().map(again).collect::<Result<_, _>>()?,
            agents: self.agents.values().map(again).collect::<Result<_, _>>()?,
            reviews: self.reviews.values().map(again).collect::<Result<_, _>>()?,
            mail: self.mail.values().map(again).collect::<Result<_, _>>()?,
        }))
    }
}
