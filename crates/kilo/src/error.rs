//! What kilo says when a turn fails, sorted into the few kinds that are treated differently.
//!
//! Pure: JSON in, [`SessionError`] out. It must not know retries, breakers or who pays.

use crate::redact::Redactor;
use crate::wire::text;
use serde_json::Value;

/// Longest error text in characters.
pub(crate) const TEXT_CHARS_MAX: usize = 500;

/// A failed turn's reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SessionError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// HTTP status of the gateway, where there was one.
    pub status: Option<u16>,
    /// Kilo's own words, redacted and cut.
    pub text: String,
    /// How long the gateway asked to wait.
    pub retry_after_ms: Option<u64>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No, wrong or unfit credentials.
    Credentials,
    /// Credit is used up.
    Billing,
    /// The gateway does not have the model.
    ModelNotFound,
    /// Too many requests.
    RateLimited,
    /// Not reachable, or failing by itself.
    GatewayDown,
    /// Everything else: malformed or cut streams, bad requests.
    Other,
}

/// Sorts `{name, data}` as kilo reports it.
pub fn classify(error: &Value) -> SessionError {
    classify_with(error, &Redactor::default())
}

/// [`classify`] with known secrets taken out of the text.
pub(crate) fn classify_with(error: &Value, redactor: &Redactor) -> SessionError {
    let data = error.get("data").unwrap_or(&Value::Null);
    let message = match text(data, "message") {
        message if message.is_empty() => text(error, "message"),
        message => message,
    };
    let name = text(error, "name");
    let status = status(data, &message);
    let shown = if message.is_empty() { &name } else { &message };
    let shown = if shown.is_empty() {
        "kilo gave no reason"
    } else {
        shown
    };
    SessionError {
        kind: kind(&name, status, &message, data),
        status,
        text: redactor.clean_cut(shown, TEXT_CHARS_MAX),
        retry_after_ms: retry_after_ms(data),
    }
}

/// Whether this is the echo of an abort, which is no failure.
pub(crate) fn is_abort(error: &Value) -> bool {
    text(error, "name") == "MessageAbortedError"
}

impl SessionError {
    /// A failure that kilo did not report as an error.
    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Other,
            status: None,
            text: text.into(),
            retry_after_ms: None,
        }
    }
}

/// The kind that an HTTP status alone means, if it means one.
pub(crate) fn kind_of_status(status: u16) -> Option<ErrorKind> {
    match status {
        401 | 403 => Some(ErrorKind::Credentials),
        402 => Some(ErrorKind::Billing),
        429 => Some(ErrorKind::RateLimited),
        500..=599 => Some(ErrorKind::GatewayDown),
        _ => None,
    }
}

/// An HTTP status that the gateway's words name. Kilo's retry status has no field for it.
pub(crate) fn status_in(message: &str) -> Option<u16> {
    let lower = message.to_ascii_lowercase();
    if lower.contains("rate limit") || lower.contains("too many requests") {
        return Some(429);
    }
    let mut words = message.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|word| {
        word.parse()
            .ok()
            .filter(|code| word.len() == 3 && (400..600).contains(code))
    })
}

fn kind(name: &str, status: Option<u16>, message: &str, data: &Value) -> ErrorKind {
    if name == "ProviderAuthError" {
        return ErrorKind::Credentials;
    }
    if let Some(kind) = status.and_then(kind_of_status) {
        return kind;
    }
    if message.starts_with("Model not found") || message.starts_with("ProviderModelNotFoundError") {
        return ErrorKind::ModelNotFound;
    }
    if status == Some(404) && message.to_ascii_lowercase().contains("model") {
        return ErrorKind::ModelNotFound;
    }
    if status.is_none() && is_unreachable(message, data) {
        return ErrorKind::GatewayDown;
    }
    ErrorKind::Other
}

/// ECONNRESET is not among them: it is a stream cut after bytes had come.
fn is_unreachable(message: &str, data: &Value) -> bool {
    let code = data
        .get("metadata")
        .map(|metadata| text(metadata, "code"))
        .unwrap_or_default();
    let codes = [
        "ECONNREFUSED",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ETIMEDOUT",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "ConnectionRefused",
    ];
    codes.contains(&code.as_str())
        || message.starts_with("Cannot connect to API")
        || message.starts_with("Unable to connect")
        || message.contains("ECONNREFUSED")
}

/// From the answer's status, or from an error object that came inside the stream.
fn status(data: &Value, message: &str) -> Option<u16> {
    let direct = data.get("statusCode").and_then(Value::as_u64);
    let inner = || {
        let parsed: Value = serde_json::from_str(message).ok()?;
        let error = parsed.get("error").unwrap_or(&parsed);
        error.get("code").and_then(Value::as_u64)
    };
    direct
        .or_else(inner)
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| *status >= 100)
}

fn retry_after_ms(data: &Value) -> Option<u64> {
    let headers = data.get("responseHeaders")?.as_object()?;
    let header = |wanted: &str| {
        let found = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        found
            .1
            .as_str()?
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
    };
    let ms =
        header("retry-after-ms").or_else(|| header("retry-after").map(|seconds| seconds * 1000.0));
    ms.map(crate::wire::count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn api(status: u16) -> SessionError {
        classify(&json!({"name": "APIError", "data": {"message": "m", "statusCode": status}}))
    }

    fn message(text: &str) -> ErrorKind {
        classify(&json!({"name": "UnknownError", "data": {"message": text}})).kind
    }

    #[test]
    fn statuses_have_their_kinds() {
        let cases = [
            (401, ErrorKind::Credentials),
            (403, ErrorKind::Credentials),
            (402, ErrorKind::Billing),
            (429, ErrorKind::RateLimited),
            (500, ErrorKind::GatewayDown),
            (503, ErrorKind::GatewayDown),
            (400, ErrorKind::Other),
        ];
        for (status, kind) in cases {
            assert_eq!((api(status).kind, api(status).status), (kind, Some(status)));
        }
    }

    #[test]
    fn texts_without_a_status_are_sorted() {
        assert_eq!(
            message("Model not found: kilo/x."),
            ErrorKind::ModelNotFound
        );
        assert_eq!(
            message("ProviderModelNotFoundError: Model not found: x"),
            ErrorKind::ModelNotFound
        );
        assert_eq!(message("Agent not found: \"x\""), ErrorKind::Other);
        assert_eq!(
            message("Cannot connect to API: Unable to connect."),
            ErrorKind::GatewayDown
        );
        assert_eq!(
            message("JSON parsing failed: Text: {not json"),
            ErrorKind::Other
        );
        assert_eq!(
            message(r#"{"error":{"code":502,"message":"bad"}}"#),
            ErrorKind::GatewayDown
        );
        let auth = json!({"name": "ProviderAuthError", "data": {"message": "x"}});
        assert_eq!(classify(&auth).kind, ErrorKind::Credentials);
        let cut = json!({"name": "APIError", "data": {"message": "Connection reset by server", "metadata": {"code": "ECONNRESET"}}});
        assert_eq!(classify(&cut).kind, ErrorKind::Other);
        let refused = json!({"name": "APIError", "data": {"message": "x", "metadata": {"code": "ECONNREFUSED"}}});
        assert_eq!(classify(&refused).kind, ErrorKind::GatewayDown);
    }

    #[test]
    fn anything_at_all_gives_some_error() {
        for value in [
            json!(null),
            json!("x"),
            json!([]),
            json!({"data": 3}),
            json!({"name": 1}),
        ] {
            assert_eq!(classify(&value).kind, ErrorKind::Other);
            assert!(!classify(&value).text.is_empty());
        }
    }

    #[test]
    fn retry_after_is_read_in_both_units() {
        let with = |headers: Value| {
            classify(&json!({"name": "APIError", "data": {"message": "m", "statusCode": 429, "responseHeaders": headers}}))
                .retry_after_ms
        };
        assert_eq!(with(json!({"Retry-After": "7"})), Some(7000));
        assert_eq!(
            with(json!({"retry-after-ms": "150", "retry-after": "7"})),
            Some(150)
        );
        assert_eq!(
            with(json!({"retry-after": "Sun, 22 Nov 2026 08:06:50 GMT"})),
            None
        );
    }

    #[test]
    fn texts_are_redacted_before_they_are_cut() {
        let redactor = Redactor::new(["canary-canary".to_owned().into()]);
        let long = format!("{}canary-canary", "x".repeat(TEXT_CHARS_MAX - 6));
        let error = json!({"name": "UnknownError", "data": {"message": long}});
        let text = classify_with(&error, &redactor).text;
        assert!(!text.contains("canary"), "{text}");
        assert!(text.chars().count() <= TEXT_CHARS_MAX + 1);
    }
}
