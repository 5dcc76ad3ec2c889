//! What the demo needs besides the server: things to work on.

pub mod sample;
