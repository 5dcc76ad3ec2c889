//! How a browser gets its session: by the one-time key of the printed link, or by a person's token.

use std::time::Instant;

use actix_web::{HttpResponse, http::header::SET_COOKIE};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::http::{
    access::{Caller, SESSION_LIFE},
    answer,
    ctx::Ctx,
    failure::Failure,
    input::Body,
};

/// `POST /api/session`: `{"key": "…"}`, or without a key but with the admin's bearer token.
pub(crate) async fn begin(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let mut fields = body.fields_or_none()?;
    let key = fields.text("key", 256);
    fields.finish()?;
    let (sessions, now) = (&ctx.state.sessions, Instant::now());
    let is_known = match (&ctx.caller, key) {
        (_, Some(key)) => sessions.take_key(&key, now),
        (Caller::Admin { in_browser: false }, None) => true,
        _ => false,
    };
    if !is_known {
        return Err(Failure::unauthenticated());
    }
    let id = sessions.begin(now).map_err(|error| {
        tracing::error!(%error, "no session could be begun");
        Failure::internal()
    })?;
    // Not `Secure`: the server speaks plain HTTP on loopback.
    let cookie = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
        sessions.cookie(),
        id.expose_secret(),
        SESSION_LIFE.as_secs()
    );
    let mut response = answer::created(json!({ "signed_in": true }));
    let value = cookie.parse().map_err(|_| Failure::internal())?;
    response.headers_mut().insert(SET_COOKIE, value);
    Ok(response)
}
