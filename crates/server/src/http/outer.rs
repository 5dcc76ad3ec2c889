//! The outermost layer: request id, host rule, caller, panics, and the headers of every answer.
//!
//! Owns what is the same for all routes, unknown ones included. Who may call what is `admit`'s.

use std::panic::AssertUnwindSafe;

use actix_web::{
    Error, HttpMessage as _, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue,
        REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
    middleware::Next,
    web::Data,
};
use futures_util::FutureExt as _;

use super::{
    access::{check_host, identify},
    failure::Failure,
    state::State,
};

const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                   frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The layer as a middleware of the whole app.
pub(crate) async fn outer<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = uuid::Uuid::now_v7().to_string();
    let name = format!("{} {}", req.method(), req.path());
    let Some(state) = req.app_data::<Data<State>>().cloned() else {
        return Err(Failure::internal().into());
    };
    if let Err(failure) = check_host(&state.hosts, req.uri(), req.headers()) {
        let res = ServiceResponse::new(req.into_parts().0, HttpResponse::from_error(failure));
        return Ok(finished(res, &id, &name));
    }
    let caller = identify(&state, req.headers());
    req.extensions_mut().insert(caller);
    match AssertUnwindSafe(next.call(req)).catch_unwind().await {
        Ok(Ok(res)) => Ok(finished(res.map_into_boxed_body(), &id, &name)),
        Ok(Err(error)) => Err(Failure::of(&error).with_request_id(&id).into()),
        Err(_panic) => {
            // The panic hook has written where; this line ties it to the request.
            tracing::error!(request_id = id, request = name, "a handler panicked");
            Err(Failure::internal().with_request_id(&id).into())
        }
    }
}

/// Every failure gets the envelope with the request's id, every answer the headers.
fn finished(res: ServiceResponse<BoxBody>, id: &str, name: &str) -> ServiceResponse<BoxBody> {
    let failure = res
        .response()
        .error()
        .map(|error| Failure::of(error).with_request_id(id));
    let mut res = match failure {
        None => res,
        Some(failure) => res.into_response(HttpResponse::from_error(failure)),
    };
    if res.status().is_server_error() {
        tracing::error!(
            request_id = id,
            request = name,
            status = res.status().as_u16(),
            "failed"
        );
    }
    harden(res.headers_mut());
    if let Ok(value) = HeaderValue::from_str(id) {
        res.headers_mut().insert(REQUEST_ID, value);
    }
    res
}

fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, CSP),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (RESOURCE_POLICY, "same-origin"),
        (OPENER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
