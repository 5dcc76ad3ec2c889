//! Placeholder head.

pub mod gateway;
