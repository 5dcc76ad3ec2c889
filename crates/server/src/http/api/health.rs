//! Whether the server lives and can do its work. Without an envelope, as probes expect it.

use actix_web::{HttpResponse, Responder};
use serde_json::json;

use crate::http::{ctx::Ctx, failure::Failure};

/// How soon a probe may ask again.
const READY_RETRY_S: u64 = 5;

/// `GET /health`, `GET /livez`.
pub(crate) async fn health() -> impl Responder {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: not ready while nothing can be stored, or when the server stops. It says which,
/// and no more, because nobody has to prove who they are here.
pub(crate) async fn ready(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let is_fatal = ctx.runtime().fatal().borrow().is_some();
    let is_full = ctx.runtime().full().borrow().is_some();
    let reason = if is_fatal {
        Some(("store_failed", "Not ready: nothing can be stored any more"))
    } else if ctx.state.stopping.is_cancelled() {
        Some(("draining", "Not ready: the server is stopping"))
    } else if is_full {
        Some(("disk_full", "Not ready: the disk is full"))
    } else {
        None
    };
    if let Some((code, sentence)) = reason {
        return Err(Failure::unavailable(code, sentence, READY_RETRY_S));
    }
    Ok(HttpResponse::Ok().json(json!({ "status": "ok" })))
}
