//! The handlers, one file per group of routes.
//!
//! Each reads its input, calls one handle and shows the answer. No rule about work lives here.

pub(super) mod agents;
pub(super) mod beads;
pub(super) mod breakers;
pub(super) mod budgets;
pub(super) mod container;
pub(super) mod control;
pub(super) mod escalations;
pub(super) mod events;
pub(super) mod health;
pub(super) mod letters;
pub(super) mod mail;
pub(super) mod policies;
pub(super) mod reports;
pub(super) mod reviews;
pub(super) mod session;
pub(super) mod snapshot;
pub(super) mod towns;
pub(super) mod users;
pub(super) mod work;
