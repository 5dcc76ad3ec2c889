//! Records as clients see them: the field names of the wire, times as text.
//!
//! Owns the shape of every record in an answer. Looks at the rig's words and decides nothing.

mod agent;
mod bead;
mod breaker;
mod budget;
mod control;
mod escalation;
mod event;
mod mail;
mod review;
mod time;
mod town;

pub(crate) use agent::{AgentView, agent, status as agent_status};
pub(crate) use bead::{BeadView, Frame, attempt, bead};
pub(crate) use breaker::{breaker, guards, shared};
pub(crate) use budget::budget;
pub(crate) use control::{hold, pause};
pub(crate) use escalation::escalation;
pub(crate) use event::event;
pub(crate) use mail::{agent_event, mail};
pub(crate) use review::review;
pub(crate) use time::{parse as parse_time, text as time};
pub(crate) use town::{rig, town, town_budget, traffic};
