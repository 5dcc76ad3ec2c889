//! Who a request comes from.
//!
//! Owns how a credential is found in a request. Decides nothing about what a caller may do.

use std::time::Instant;

use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap};

use super::{hosts::single, jwt::Claims};
use crate::http::state::State;

/// The holder of a request's credential.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// No credential, or none that is good.
    Nobody,
    /// A person or their command line.
    Admin {
        /// By the cookie of a page, which a foreign page may cause to be sent.
        in_browser: bool,
    },
    /// A person who may only look.
    Viewer,
    /// An agent.
    Agent(Box<Claims>),
}

/// Finds the caller. A bearer credential that is no good is not made up for by a cookie.
pub(crate) fn identify(state: &State, headers: &HeaderMap) -> Caller {
    if headers.contains_key(AUTHORIZATION) {
        let token = single(headers, &AUTHORIZATION).and_then(bearer);
        let now_s = jiff::Timestamp::now().as_second();
        return token
            .and_then(|token| state.keys.caller_of(token, now_s))
            .unwrap_or(Caller::Nobody);
    }
    match cookie(headers, state.sessions.cookie()) {
        Some(id) if state.sessions.knows(id, Instant::now()) => Caller::Admin { in_browser: true },
        _ => Caller::Nobody,
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}
