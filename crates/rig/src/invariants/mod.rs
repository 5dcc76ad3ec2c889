//! What always holds, as checks for tests and simulations of whoever drives a rig or a town.
//!
//! Owns the rules in words of its own, and asks the code that it judges for none of their
//! consequences: a step is judged on the state before it, and then the state after it. Each broken
//! rule is told in words that begin with its number, as `docs/architecture.md` lists them. What a
//! rule needs to know of the past is in an account, which is kept with the step that wrote it.
//!
//! ```text
//! rig_step ──┬─ numbers   failures, prompts, ends of one bead            I5 I6 I8
//!            ├─ passing   fence, breaker, budgets, pause: what is sent   I1 I5 I6 I7 I13
//!            └─ spending  one turn more once a budget is used up         I13
//! rig_state ─┬─ due       alarm and deadlines                            I3 I4
//!            ├─ views     hooks, reviews, escalations                    I13 I14
//!            └─ alerts    told again, or silent                          C13
//! town_step, town_state   the same of what rigs share
//! ```
//!
//! ```
//! use wellhead_rig::{Env, Input, NewBead, Rig, Timestamp, invariants::{self, Look, RigAccount}};
//!
//! let (mut rig, mut account, now) = (Rig::new(), RigAccount::default(), Timestamp(1_000));
//! let input = Input::Sling(NewBead::issue("Write a README"));
//! let step = rig.step(input.clone(), Env { now, nonce: 42 })?;
//! invariants::rig_step(&rig, &input, &step, now, 1_000, &mut account)?;
//! rig.apply(step.changes);
//! let look = Look { alarm: rig.next_alarm(now), now, was_alarm: false };
//! invariants::rig_state(&rig, look, &account)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// Says what is broken where the condition does not hold.
macro_rules! hold {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}

mod account;
mod alerts;
mod due;
mod numbers;
mod passing;
mod rig_state;
mod rig_step;
mod spending;
mod town_state;
mod town_step;
mod views;

pub use account::{RigAccount, TownAccount};
pub use rig_state::rig_state;
pub use rig_step::{rig_refusal, rig_step};
pub use town_state::town_state;
pub use town_step::town_step;

use crate::Timestamp;

/// When a state is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The alarm as it is set.
    pub alarm: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
    /// Whether an alarm has led to this state.
    pub was_alarm: bool,
}

impl Look {
    /// I3 and I4: the alarm is the one that is due, and does not come again at once.
    fn is_armed(self, due: Option<Timestamp>) -> Result<(), String> {
        let (alarm, soon) = (self.alarm, self.now.plus_ms(1_000));
        hold!(
            alarm == due,
            "I3: the alarm is set to {alarm:?} and due at {due:?}"
        );
        let is_far = alarm.is_none_or(|at| at >= soon);
        hold!(is_far || !self.was_alarm, "I4: the next alarm is too close");
        Ok(())
    }
}
