//! The success half of the envelope.
//!
//! Owns `{"success":true,"data":…}`. Failures are in `failure`.

use actix_web::{HttpResponse, HttpResponseBuilder, http::header::ContentType};
use runtime::Json;
use serde::Serialize;

#[derive(Serialize)]
struct Envelope<T> {
    success: bool,
    data: T,
}

impl<T> Envelope<T> {
    fn of(data: T) -> Self {
        Self {
            success: true,
            data,
        }
    }
}

/// 200 with data that is JSON text already.
pub(crate) fn ok_text(data: &Json) -> HttpResponse {
    text(HttpResponse::Ok(), data)
}

/// 201 with data that is JSON text already.
pub(crate) fn created_text(data: &Json) -> HttpResponse {
    text(HttpResponse::Created(), data)
}

fn text(mut response: HttpResponseBuilder, data: &Json) -> HttpResponse {
    let body = ["{\"success\":true,\"data\":", data.text(), "}"].concat();
    response.content_type(ContentType::json()).body(body)
}

/// 200 with data.
pub(crate) fn ok(data: impl Serialize) -> HttpResponse {
    HttpResponse::Ok().json(Envelope::of(data))
}

/// 201 with data.
pub(crate) fn created(data: impl Serialize) -> HttpResponse {
    HttpResponse::Created().json(Envelope::of(data))
}
