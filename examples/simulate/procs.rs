//! The machine's session processes, which outlive the program that has started them.
//!
//! Owns the witness of I1 and I11: no bead has two, and none lives without its town's record. Knows
//! a town by its entries alone.

use std::collections::BTreeMap;

use rig::{
    BeadId, DispatchId, RigId, TownId,
    town::{EntryState, Town},
};

/// Whose session it is.
pub(crate) type Seat = (RigId, BeadId);

#[derive(Debug)]
struct Process {
    town: TownId,
    dispatch: DispatchId,
    /// The program that started it is gone.
    is_orphan: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    live: BTreeMap<Seat, Process>,
}

impl Processes {
    /// A town's container starts one.
    pub(crate) fn begins(
        &mut self,
        seat: &Seat,
        town: &TownId,
        dispatch: &DispatchId,
    ) -> Result<(), String> {
        let process = Process {
            town: town.clone(),
            dispatch: dispatch.clone(),
            is_orphan: false,
        };
        match self.live.insert(seat.clone(), process) {
            Some(Process { dispatch: old, .. }) => {
                Err(format!("I1: {dispatch} begins while {old} is live"))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn is_over(&mut self, seat: &Seat) {
        self.live.remove(seat);
    }

    pub(crate) fn count(&self) -> usize {
        self.live.len()
    }

    /// The program is killed; its children are not.
    pub(crate) fn are_orphaned(&mut self) {
        for process in self.live.values_mut() {
            process.is_orphan = true;
        }
    }

    /// The power goes.
    pub(crate) fn are_cut_off(&mut self) {
        self.live.clear();
    }

    /// The next container of the town ends what an earlier one has left.
    pub(crate) fn sweep(&mut self, town: &TownId) -> Vec<Seat> {
        let left = |process: &Process| process.is_orphan && process.town == *town;
        let swept = self.live.extract_if(.., |_, process| left(process));
        swept.map(|(seat, _)| seat).collect()
    }

    /// I11: whoever lives is on the town's record, and none has outlived the sweep.
    pub(crate) fn are_recorded(&self, town: &TownId, state: &Town) -> Result<(), String> {
        let of_town = self.live.iter().filter(|(_, p)| p.town == *town);
        for ((rig, _), Process { dispatch, .. }) in of_town {
            let entry = state.entry(rig, dispatch);
            let is_taken = entry.is_some_and(|entry| {
                entry.dispatch == *dispatch && matches!(entry.state, EntryState::Taken(_))
            });
            if !is_taken {
                let found = entry.map(|entry| (&entry.dispatch, &entry.state));
                return Err(format!(
                    "I11: {rig} {dispatch} lives and its town knows {found:?}"
                ));
            }
        }
        Ok(())
    }
}
