//! What the example prints: each state of the shared breaker and of the bead, once.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use rig::{BreakerState, Rig, Status, town::Town};
use runtime::{RigStub, Runtime, TownStub};

use crate::stage::Trouble;

/// What is to be seen right now.
pub(crate) struct Seen {
    /// How often the credential's breaker has opened in a row.
    pub(crate) trips: u32,
    /// Whether the bead is closed.
    pub(crate) is_closed: bool,
    words: String,
}

/// Prints each state once, until it is the wanted one.
pub(crate) async fn watch(
    runtime: &Runtime,
    rig: &RigStub,
    town: &TownStub,
    wanted: fn(&Seen) -> bool,
) -> Result<(), Trouble> {
    let (mut changes, mut last) = (runtime.changes(), String::new());
    loop {
        changes.borrow_and_update();
        let (dispatches, status, calls) = rig.look(|rig, _| work(rig)).await?;
        let (trips, breaker, checks) = town.look(|town, _| breaker(town)).await?;
        let seen = Seen {
            trips,
            is_closed: status == Some(Status::Closed),
            words: format!(
                "{breaker}; checks: {checks}, dispatches: {dispatches}, open escalations: {calls}"
            ),
        };
        if seen.words != last {
            println!("{}", seen.words);
        }
        if wanted(&seen) {
            return Ok(());
        }
        last = seen.words;
        changes.changed().await?;
    }
}

fn work(rig: &Rig) -> (u64, Option<Status>, usize) {
    let bead = rig.beads().find(|bead| bead.is_work());
    let dispatches = bead.map_or(0, |bead| bead.numbers.dispatches());
    let status = bead.map(rig::Bead::status);
    (dispatches, status, rig.open_escalations().count())
}

fn breaker(town: &Town) -> (u32, &'static str, u64) {
    let guards = &town.record().guards;
    let shut = guards.iter().find(|guard| !guard.breaker.is_closed());
    let words = match shut.map(|guard| &guard.breaker.state) {
        None | Some(BreakerState::Closed) => "every breaker closed",
        Some(BreakerState::Open { .. }) => "credential's breaker open",
        Some(BreakerState::HalfOpen { .. }) => "credential's breaker half open",
    };
    let trips = shut.map_or(0, |guard| guard.breaker.trips);
    (trips, words, town.record().check_no)
}
