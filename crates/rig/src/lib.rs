//! The pure rules of a rig: beads, agents, dispatch, breaker, completion and patrol.
//!
//! A rig is one git project under management. This crate owns every decision about its work:
//! [`Rig::step`] turns one [`Input`] into one atomic set of changes, the effects that may leave
//! once those are durable, and the answer. It has no clock, no I/O, no threads and no randomness of
//! its own (`clippy.toml` bans them): the same state and input always give the same step, which is
//! what makes the seeded simulation of `tests/simulation.rs` possible.
//!
//! ```
//! use wellhead_rig::{Env, Input, NewBead, Reply, Rig, Timestamp};
//!
//! let mut rig = Rig::new();
//! let env = Env { now: Timestamp(1_000), nonce: 42 };
//! let step = rig.step(Input::Sling(NewBead::issue("Write a README")), env)?;
//! // A shell would write step.changes durably here, before anything leaves.
//! rig.apply(step.changes);
//! let Reply::Slung { bead, agent } = step.reply else { unreachable!() };
//! assert_eq!(bead.hooked_to(), Some(&agent.id));
//! assert!(step.effects.is_empty(), "a rig without configuration dispatches nothing");
//! # Ok::<(), wellhead_rig::Refused>(())
//! ```

mod agent;
mod bead;
mod breaker;
mod budget;
mod class;
mod config;
mod control;
mod counts;
mod effect;
mod escalation;
mod event;
mod explain;
mod hold;
mod ids;
mod input;
pub mod invariants;
mod mail;
mod nonce;
mod outcome;
mod policy;
mod review;
mod scope;
mod state;
mod step;
mod time;
pub mod town;
mod views;
mod waits;

pub use agent::{Agent, AgentStatus, Role};
pub use bead::{
    Attempt, Bead, BeadType, Cause, Ending, Live, Numbers, Order, Park, Phase, Priority,
    Resolution, Run, Status,
};
pub use breaker::{Breaker, BreakerState, Moved, Pace};
pub use budget::{Budget, Fill, Limit, Spent, next_utc_day, utc_day};
pub use class::{Class, Trip};
pub use config::{CredentialSource, ReviewMode, RigConfig};
pub use control::{Pause, PauseMode, Who};
pub use counts::Counts;
pub use effect::{DispatchOrder, Effect};
pub use escalation::{Acknowledged, Alert, CAUSES_OPEN_MAX};
pub use event::{BeadEvent, EventType};
pub use explain::Explanation;
pub use hold::{Hold, Notice};
pub use ids::{AgentId, BeadId, DispatchId, IdError, Incarnation, MailId, ReviewId, RigId, TownId};
pub use input::{Beat, Change, Completion, Env, Input, NewBead, Preflight, Refused, Reply, Step};
pub use mail::{AgentEvent, MAIL_UNDELIVERED_MAX, Mail, NewMail};
pub use outcome::{
    DoneReport, Failure, LAST_OUTPUT_MAX, LastFailure, Outcome, PhaseAt, Report, Stage, TurnReport,
    TurnVerdict, Usage, Work,
};
pub use policy::{Policy, PolicyError, TextOnly};
pub use review::{REVIEWS_OPEN_MAX, ReviewEntry, ReviewStatus, ReviewVerdict};
pub use scope::{Reach, Refusal, Scope, Scopes};
pub use state::{Readiness, Records, Rig, RigRecord};
pub use time::{Deadline, Timestamp};
pub use waits::WaitsOn;
