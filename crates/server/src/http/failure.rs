//! The failure half of the envelope, and the only error type of the facade.
//!
//! Owns status, stable code and sentence of every refusal that the facade itself makes. What the
//! runtime refuses is mapped in `mapping`. An answer never carries a stack or a secret, and no path
//! but that of a full disk.

use std::fmt;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Issue {
    /// The field or query parameter.
    pub(crate) path: String,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

impl Issue {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// Why a request was not served. Boxed: it is in the result of nearly every function here.
#[derive(Clone, Debug)]
pub(crate) struct Failure(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    error: String,
    issues: Vec<Issue>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
    request_id: Option<String>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            code,
            error: error.into(),
            issues: Vec::new(),
            retry_after_s: None,
            allow: None,
            request_id: None,
        }))
    }

    /// 400 with one issue per field.
    pub(crate) fn body(issues: Vec<Issue>) -> Self {
        let mut failure = Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_body",
            "Invalid request body",
        );
        failure.0.issues = issues;
        failure
    }

    /// 400 for a query.
    pub(crate) fn query(sentence: impl Into<String>, issues: Vec<Issue>) -> Self {
        let mut failure = Self::new(StatusCode::BAD_REQUEST, "invalid_query", sentence);
        failure.0.issues = issues;
        failure
    }

    /// 401.
    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Authentication required",
        )
    }

    /// 403.
    pub(crate) fn forbidden(code: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, sentence)
    }

    /// 404 for a path that is no route.
    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found")
    }

    /// 404 for a record.
    pub(crate) fn not_found(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", sentence)
    }

    /// 405; `allow` names the methods that the path has.
    pub(crate) fn method(allow: String) -> Self {
        let sentence = format!("Method not allowed; this path takes {allow}");
        let mut failure = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            sentence,
        );
        failure.0.allow = Some(allow);
        failure
    }

    /// 409.
    pub(crate) fn conflict(code: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, sentence)
    }

    /// 503: the same request may be served later.
    pub(crate) fn unavailable(
        code: &'static str,
        sentence: impl Into<String>,
        retry_after_s: u64,
    ) -> Self {
        let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, sentence);
        failure.0.retry_after_s = Some(retry_after_s);
        failure
    }

    /// 500: the details are in the log alone.
    pub(crate) fn internal() -> Self {
        let sentence = "Internal error; the server's log names the cause under this request_id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", sentence)
    }

    /// The same with the request's id.
    pub(crate) fn with_request_id(mut self, id: &str) -> Self {
        self.0.request_id = Some(id.to_owned());
        self
    }

    /// The stable word.
    #[cfg(test)]
    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }

    /// What a framework error or one of ours says to a client.
    pub(crate) fn of(error: &actix_web::Error) -> Self {
        if let Some(own) = error.as_error::<Self>() {
            return own.clone();
        }
        let status = error.as_response_error().status_code();
        if status.is_client_error() {
            let reason = status.canonical_reason().unwrap_or("Bad request");
            return Self::new(status, "bad_request", reason);
        }
        tracing::error!(%error, "an error without an answer of its own");
        Self::internal()
    }

    fn envelope(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("success".to_owned(), json!(false));
        fields.insert("error".to_owned(), json!(self.0.error));
        fields.insert("code".to_owned(), json!(self.0.code));
        if !self.0.issues.is_empty() {
            fields.insert("issues".to_owned(), json!(self.0.issues));
        }
        if self.0.retry_after_s.is_some() {
            fields.insert("retryable".to_owned(), json!(true));
        }
        if let Some(id) = &self.0.request_id {
            fields.insert("request_id".to_owned(), json!(id));
        }
        Value::Object(fields)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.error)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.0.status);
        // Said here as well: the answer after a panic does not pass the outer layer.
        response.insert_header(("Cache-Control", "no-store"));
        response.insert_header(("X-Content-Type-Options", "nosniff"));
        if let Some(seconds) = self.0.retry_after_s {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        if let Some(allow) = &self.0.allow {
            response.insert_header(("Allow", allow.as_str()));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            response.insert_header(("WWW-Authenticate", "Bearer"));
        }
        response.json(self.envelope())
    }
}
