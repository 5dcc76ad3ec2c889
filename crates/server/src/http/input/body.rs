//! The body of a request: bounded, JSON, and never deeper than what is stored can be read again.
//!
//! Owns the limits. The content type is not asked for: a body is JSON or it is refused.

use std::time::Duration;

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::StatusCode};
use bytes::BytesMut;
use futures_util::{StreamExt as _, future::LocalBoxFuture};
use serde_json::Value;

use super::fields::Fields;
use crate::http::failure::{Failure, Issue};

/// The largest body, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// A slow sender holds a connection for no longer.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// The deepest nesting. Stored records wrap it once more and have to stay below the 128 levels that
/// the JSON reader takes.
const DEPTH_MAX: usize = 64;

/// A body as it came.
pub(crate) struct Body(BytesMut);

impl Body {
    /// The bytes as they came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The fields of a body that has to be there.
    pub(crate) fn fields(self) -> Result<Fields, Failure> {
        if self.0.is_empty() {
            return Err(Failure::body(vec![Issue::new(
                "",
                "a JSON object is required",
            )]));
        }
        let value: Value = serde_json::from_slice(&self.0)
            .map_err(|error| Failure::body(vec![Issue::new("", format!("not JSON: {error}"))]))?;
        if is_deeper(&value, DEPTH_MAX) {
            let text = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(Failure::body(vec![Issue::new("", text)]));
        }
        match value {
            Value::Object(map) => Ok(Fields::new(map)),
            _ => Err(Failure::body(vec![Issue::new("", "must be a JSON object")])),
        }
    }

    /// The same for a route whose body may be left out.
    pub(crate) fn fields_or_none(self) -> Result<Fields, Failure> {
        if self.0.is_empty() {
            Ok(Fields::new(serde_json::Map::new()))
        } else {
            self.fields()
        }
    }
}

/// The reader has bounded the depth, so this recursion is bounded as well.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return matches!(value, Value::Array(_) | Value::Object(_));
    };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, below)),
        Value::Object(map) => map.values().any(|item| is_deeper(item, below)),
        _ => false,
    }
}

impl FromRequest for Body {
    type Error = Failure;
    type Future = LocalBoxFuture<'static, Result<Self, Failure>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let declared = req
            .headers()
            .get("content-length")
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
            .unwrap_or(0);
        let payload = payload.take();
        Box::pin(async move {
            if declared > BODY_BYTES_MAX {
                return Err(too_large());
            }
            let read = tokio::time::timeout(BODY_WITHIN, read(payload, declared)).await;
            read.unwrap_or_else(|_| Err(too_slow()))
        })
    }
}

async fn read(mut payload: Payload, declared: usize) -> Result<Body, Failure> {
    let mut body = BytesMut::with_capacity(declared);
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            let text = format!("the body could not be read: {error}");
            Failure::body(vec![Issue::new("", text)])
        })?;
        if body.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Body(body))
}

fn too_slow() -> Failure {
    let sentence = format!("The body did not arrive within {} s", BODY_WITHIN.as_secs());
    Failure::new(StatusCode::REQUEST_TIMEOUT, "too_slow", sentence)
}

fn too_large() -> Failure {
    let sentence = format!("The body is larger than {BODY_BYTES_MAX} bytes");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Result<Fields, Failure> {
        Body(BytesMut::from(text)).fields()
    }

    #[test]
    fn a_body_is_an_object_of_bounded_depth() {
        assert!(fields("{}").is_ok());
        for bad in [
            "",
            " ",
            "null",
            "[]",
            "\"x\"",
            "1",
            "{",
            "{\"a\":}",
            "{\"a\":1e999}",
            "\u{feff}{}",
        ] {
            assert!(fields(bad).is_err(), "{bad}");
        }
        let nested =
            |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(fields(&nested(DEPTH_MAX - 1)).is_ok());
        assert!(fields(&nested(DEPTH_MAX)).is_err());
        assert!(fields(&nested(100_000)).is_err());
    }

    #[test]
    fn a_body_that_may_be_left_out_may_not_be_wrong() {
        assert!(Body(BytesMut::new()).fields_or_none().is_ok());
        assert!(Body(BytesMut::from("nope")).fields_or_none().is_err());
    }
}
