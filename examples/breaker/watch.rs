//! What the example prints: each state of the breaker and of the bead, once.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use rig::{BreakerState, Rig};
use runtime::{RigStub, Runtime};

use crate::stage::Trouble;

/// Prints each state of breaker and bead once, until it is the wanted one.
pub(crate) async fn watch(
    town: &Runtime,
    rig: &RigStub,
    wanted: fn(&Rig) -> bool,
) -> Result<(), Trouble> {
    let (mut changes, mut last) = (town.changes(), String::new());
    loop {
        changes.borrow_and_update();
        let look = move |rig: &Rig, _| (words(rig), wanted(rig));
        let (seen, is_wanted) = rig.look(look).await?;
        if seen != last {
            println!("{seen}");
        }
        if is_wanted {
            return Ok(());
        }
        last = seen;
        changes.changed().await?;
    }
}

fn words(rig: &Rig) -> String {
    let state = match &rig.record().breaker.state {
        BreakerState::Closed => "closed",
        BreakerState::Open { .. } => "open",
        BreakerState::HalfOpen { .. } => "half open",
    };
    let (checks, mut work) = (
        rig.record().preflight_no,
        rig.beads().filter(|b| b.is_work()),
    );
    let dispatches = work.next().map_or(0, |bead| bead.numbers.dispatch_no);
    format!("breaker {state}; checks: {checks}, dispatches: {dispatches}")
}
