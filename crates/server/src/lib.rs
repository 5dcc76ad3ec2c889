//! Placeholder head.

pub mod demo;
pub mod gateway;
pub mod provision;
