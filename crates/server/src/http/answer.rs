//! The success half of the envelope.
//!
//! Owns `{"success":true,"data":…}`. Failures are in `failure`.

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::json;

/// 200 with data.
pub(crate) fn ok(data: impl Serialize) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "success": true, "data": data }))
}

/// 201 with data.
pub(crate) fn created(data: impl Serialize) -> HttpResponse {
    HttpResponse::Created().json(json!({ "success": true, "data": data }))
}
