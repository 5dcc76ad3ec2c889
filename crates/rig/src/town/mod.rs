//! The town's half of the rules: what rigs share, and who may use it.
//!
//! Owns the fence on the container's side (a dispatch number is run at most once), the breakers of
//! shared scopes, the slots, the town's budget and pause, and in which turn rigs are offered what
//! has become free. Pure like the rest of the crate: [`Town::step`] turns one [`TownInput`] into
//! one atomic set of changes, effects and an answer. Knows no rig's state and no process: what a
//! dispatch depends on arrives with it as [`Scopes`](crate::Scopes).
//!
//! ```text
//! fence   which dispatch may run, how it ends, and who has to hear of it
//! admit   the one decision: granted, or refused until then
//! guard   breakers of scopes: what opens, checks, probes and closes them
//! drive   what has become free is offered in turn; asked at the end of every step
//! spend   the town's budget of the day, its pause, and what they end
//! ```

mod admit;
mod draft;
mod drive;
mod entry;
mod fence;
mod guard;
mod input;
mod record;
mod spend;
mod state;

pub use entry::{Berth, Entry, EntryState, Place};
pub use input::{
    Ask, Found, Stopping, Taken, TownChange, TownEffect, TownInput, TownReply, TownStep,
};
pub use record::{Check, Guard, Ticket, TownOrder, TownPolicy, TownRecord, Waiter};
pub use state::Town;

use crate::Env;
use draft::Draft;

impl Town {
    /// Decides one input. Never refuses: what is out of date is answered and changes nothing.
    ///
    /// The caller commits the changes durably, calls [`Town::apply`] with them, sets the alarm to
    /// [`Town::next_alarm`], and only then lets effects and reply leave.
    pub fn step(&self, input: TownInput, env: Env) -> TownStep {
        let mut draft = Draft::new(self, env);
        let reply = decide(&mut draft, input);
        drive::drive(&mut draft);
        draft.finish(reply)
    }
}

fn decide(draft: &mut Draft<'_>, input: TownInput) -> TownReply {
    match input {
        TownInput::Take { rig, dispatch, ask } => fence::take(draft, rig, dispatch, ask),
        TownInput::NoteSession {
            rig,
            dispatch,
            session,
            place,
        } => fence::note_session(draft, &rig, &dispatch, session, place),
        TownInput::Finish { rig, report } => fence::finish(draft, &rig, report),
        TownInput::AskStop { rig, dispatch } => fence::ask_stop(draft, rig, dispatch),
        TownInput::Told { rig, dispatch } => fence::told(draft, &rig, &dispatch),
        TownInput::Survey => fence::survey(draft),
        TownInput::Boot => fence::boot(draft),
        TownInput::AskCheck { rig, scopes } => admit::ask_check(draft, &rig, &scopes),
        TownInput::Checked { rig, ask, failure } => guard::checked(draft, &rig, &ask, failure),
        TownInput::ScopeChecked { no, failure } => guard::scope_checked(draft, no, failure),
        TownInput::Output { rig, dispatch } => guard::output(draft, &rig, &dispatch),
        TownInput::Offline {
            rig,
            dispatch,
            text,
        } => guard::offline(draft, &rig, &dispatch, &text),
        TownInput::Used {
            rig,
            dispatch,
            usage,
        } => spend::used(draft, &rig, &dispatch, usage),
        TownInput::Reset { scopes, by } => {
            draft.note_order(by, "reset_breakers");
            guard::reset(draft, scopes.as_ref())
        }
        TownInput::SetPolicy { policy, by } => {
            draft.note_order(by, "set_policy");
            spend::set_policy(draft, policy)
        }
        TownInput::Pause { mode, by, reason } => spend::pause(draft, mode, by, reason),
        TownInput::Resume { by } => {
            draft.note_order(by, "resume");
            spend::resume(draft)
        }
        TownInput::Alarm => drive::alarm(draft),
        TownInput::ClockJumped => drive::clock_jumped(draft),
    }
}
