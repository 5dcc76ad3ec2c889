//! The server: HTTP facade, first page, demo, and the `wellhead` command.
//!
//! A host program that has a `runtime::Runtime` serves it with [`Facade`]. This crate knows handles
//! of the runtime and never an actor's address; it alone knows HTTP status codes and HTML.

pub mod cli;
pub mod demo;
pub mod doctor;
pub mod gateway;
mod http;
pub mod provision;
mod web;

pub use facade::{Facade, FacadeError, FacadeSettings};
pub use http::{Access, RouteInfo, SecretError, TOKEN_LIFE, facade, routes};
