//! What survives a crash of the rig: records, the outbox and the one alarm.
//!
//! Owns an `apply` of its own, by key and without any view, so that the rig's own one is checked
//! against it. Takes no decision.

use std::collections::BTreeMap;

use wellhead_rig::{Agent, AgentId, Bead, BeadId, Change, Effect, Rig, RigRecord, Timestamp};

/// The last committed state.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) record: RigRecord,
    pub(crate) beads: BTreeMap<BeadId, Bead>,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    /// Effects that no receiver has taken yet.
    pub(crate) outbox: BTreeMap<u64, Effect>,
    pub(crate) alarm: Option<Timestamp>,
    outbox_no: u64,
    event_no: u64,
    event_at: Timestamp,
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

    /// The rig that these records describe.
    pub(crate) fn load(&self) -> Rig {
        let (beads, agents) = (self.beads.values(), self.agents.values());
        Rig::from_records(self.record.clone(), beads.cloned(), agents.cloned())
    }

    /// The same by way of the stored form.
    pub(crate) fn load_encoded(&self) -> Result<Rig, String> {
        fn again<T: serde::Serialize + serde::de::DeserializeOwned>(it: &T) -> Result<T, String> {
            let text = serde_json::to_string(it).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| format!("{e} in {text}"))
        }
        let beads: Result<Vec<_>, _> = self.beads.values().map(again).collect();
        let agents: Result<Vec<_>, _> = self.agents.values().map(again).collect();
        Ok(Rig::from_records(again(&self.record)?, beads?, agents?))
    }
}
