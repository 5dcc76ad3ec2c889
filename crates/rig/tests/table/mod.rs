//! The parts of the transition table: states, inputs, and what is said of a step.

pub(crate) mod kinds;
pub(crate) mod outcome;
pub(crate) mod rows;
pub(crate) mod scenes;
