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

#[cfg(test)]
mod tests {
    use actix_web::{App, http::StatusCode, middleware::from_fn, test, web};
    use runtime::{Runtime, Settings};

    use super::*;
    use crate::http::access::{Hosts, Keys, Sessions};

    async fn broken() -> HttpResponse {
        panic!("a secret detail")
    }

    #[actix_web::test]
    async fn a_panic_is_a_500_envelope_without_details() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(dir.path().join("data"));
        let runtime = Box::pin(Runtime::start(settings)).await.unwrap();
        let keys = Keys::open(runtime.data_dir(), None).unwrap();
        let hosts = Hosts::new("127.0.0.1:80".parse().unwrap(), &[]);
        let state = State::new(runtime, hosts, keys, Sessions::new(80), "life".to_owned());
        let app = App::new()
            .app_data(Data::new(state))
            .wrap(from_fn(outer))
            .route("/", web::get().to(broken));
        let app = test::init_service(app).await;
        let request = test::TestRequest::get()
            .uri("/")
            .insert_header(("host", "localhost"));
        let error = test::try_call_service(&app, request.to_request())
            .await
            .err()
            .unwrap();
        let response = error.error_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let sniff = response.headers().get("x-content-type-options").unwrap();
        assert_eq!(sniff, "nosniff");
        let body = actix_web::body::to_bytes(response.into_body())
            .await
            .ok()
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["success"], false);
        assert!(body["request_id"].is_string());
        assert!(!body.to_string().contains("secret detail"));
    }
}
