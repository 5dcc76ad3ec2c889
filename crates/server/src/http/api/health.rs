//! Whether the server lives and can do its work. Without an envelope, as probes expect it.

use actix_web::{HttpResponse, Responder};
use serde_json::json;

use crate::http::{ctx::Ctx, failure::Failure};

/// `GET /health`, `GET /livez`.
pub(crate) async fn health() -> impl Responder {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: not ready while nothing can be stored, or when the server stops. Says no more,
/// because nobody has to prove who they are here.
pub(crate) async fn ready(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let is_fatal = ctx.runtime().fatal().borrow().is_some();
    let is_full = ctx.runtime().full().borrow().is_some();
    if is_fatal || is_full || ctx.state.stopping.is_cancelled() {
        return Err(Failure::unavailable("not_ready", "Not ready", 5));
    }
    Ok(HttpResponse::Ok().json(json!({ "status": "ok" })))
}
