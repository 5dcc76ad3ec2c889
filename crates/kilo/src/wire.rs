//! What kilo's HTTP answers hold, as far as it is used here.
//!
//! Tolerant by rule: unknown fields are ignored, missing and null ones take a default. Nothing is
//! judged here.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// A session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SessionInfo {
    /// `ses_…`
    #[serde(deserialize_with = "or_default")]
    pub id: String,
    /// The session that started this one.
    #[serde(rename = "parentID")]
    pub parent_id: Option<String>,
    /// Where it works.
    #[serde(deserialize_with = "or_default")]
    pub directory: String,
}

/// A message with its parts.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Head of the message.
    pub info: MessageInfo,
    /// Its parts in order.
    #[serde(deserialize_with = "or_default")]
    pub parts: Vec<Part>,
}

/// The head of a message.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MessageInfo {
    /// `msg_…`
    #[serde(deserialize_with = "or_default")]
    pub id: String,
    /// Its session.
    #[serde(rename = "sessionID", deserialize_with = "or_default")]
    pub session_id: String,
    /// `user` or `assistant`.
    #[serde(deserialize_with = "or_default")]
    pub role: String,
    /// Why the model stopped: `stop`, `tool-calls`, `length` …
    pub finish: Option<String>,
    /// When.
    #[serde(deserialize_with = "or_default")]
    pub time: MessageTime,
    /// `{name, data}`.
    pub error: Option<Value>,
    /// What it used.
    #[serde(deserialize_with = "or_default")]
    pub tokens: Tokens,
    /// In US dollars.
    #[serde(deserialize_with = "or_default")]
    pub cost: f64,
}

/// Times of a message in epoch milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MessageTime {
    /// Start.
    pub created: Option<f64>,
    /// End; missing while it runs and for ever after a crash.
    pub completed: Option<f64>,
}

/// Token counts of a message.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Prompt without what came from the cache.
    #[serde(deserialize_with = "or_default")]
    pub input: f64,
    /// Answer.
    #[serde(deserialize_with = "or_default")]
    pub output: f64,
    /// Thinking.
    #[serde(deserialize_with = "or_default")]
    pub reasoning: f64,
    /// Prompt from and to the cache.
    #[serde(deserialize_with = "or_default")]
    pub cache: CacheTokens,
}

/// Cached token counts.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CacheTokens {
    /// Read from the cache.
    #[serde(deserialize_with = "or_default")]
    pub read: f64,
    /// Written to it.
    #[serde(deserialize_with = "or_default")]
    pub write: f64,
}

/// One part of a message.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Part {
    /// `prt_…`
    #[serde(deserialize_with = "or_default")]
    pub id: String,
    /// Its message.
    #[serde(rename = "messageID", deserialize_with = "or_default")]
    pub message_id: String,
    /// `text`, `reasoning`, `tool`, `step-start`, `step-finish`, `patch` …
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    /// Of text and reasoning.
    #[serde(deserialize_with = "or_default")]
    pub text: String,
    /// Written by kilo itself, such as the snapshot spinner: no output of the model.
    #[serde(deserialize_with = "or_default")]
    pub synthetic: bool,
    /// Name of the tool.
    pub tool: Option<String>,
    /// The model's id of this call.
    #[serde(rename = "callID")]
    pub call_id: Option<String>,
    /// State of the tool.
    pub state: Option<ToolPart>,
}

/// State of a tool part.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ToolPart {
    /// `pending`, `running`, `completed`, `error`.
    #[serde(deserialize_with = "or_default")]
    pub status: String,
    /// A digest of its input, which may be a whole file.
    #[serde(deserialize_with = "digest_of")]
    pub input: Option<u64>,
}

/// What a session does now. Idle sessions are absent from the status map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionStatus {
    /// Nothing.
    Idle,
    /// Works, or waits for an answer to a question or permission.
    Busy,
    /// Waits before it asks the gateway again.
    Retry {
        /// Counted from 1; 0 after an offline wait was answered.
        attempt: u64,
        /// The gateway's words.
        message: String,
        /// Epoch milliseconds.
        next_at_ms: u64,
    },
    /// Waits for ever, until somebody answers.
    Offline {
        /// To answer it.
        request_id: String,
        /// Why.
        message: String,
    },
    /// One we do not know; not idle.
    Other(String),
}

impl SessionStatus {
    /// Reads `{type, …}`.
    pub(crate) fn parse(value: &Value) -> Self {
        match text(value, "type").as_str() {
            "idle" => Self::Idle,
            "busy" => Self::Busy,
            "retry" => Self::Retry {
                attempt: number(value, "attempt"),
                message: text(value, "message"),
                next_at_ms: number(value, "next"),
            },
            "offline" => Self::Offline {
                request_id: text(value, "requestID"),
                message: text(value, "message"),
            },
            other => Self::Other(other.to_owned()),
        }
    }
}

/// An open request for a permission, an answer or the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// To reply to it.
    pub id: String,
    /// Who waits; stale entries exist, so match by this.
    pub session_id: String,
    /// What is asked, for people.
    pub text: String,
    /// The message whose tool call waits, where that is told.
    pub message_id: Option<String>,
}

impl Ask {
    /// Reads a permission, a question or a network request; `None` without an id or a session.
    pub(crate) fn parse(value: &Value) -> Option<Self> {
        let ask = Self {
            id: text(value, "id"),
            session_id: text(value, "sessionID"),
            text: ask_text(value),
            message_id: value
                .get("tool")
                .map(|tool| text(tool, "messageID"))
                .filter(|id| !id.is_empty()),
        };
        (!ask.id.is_empty() && !ask.session_id.is_empty()).then_some(ask)
    }
}

fn ask_text(value: &Value) -> String {
    if let Some(questions) = value.get("questions").and_then(Value::as_array) {
        let all: Vec<String> = questions
            .iter()
            .map(|question| text(question, "question"))
            .collect();
        return all.join(" / ");
    }
    match text(value, "permission") {
        permission if permission.is_empty() => text(value, "message"),
        permission => {
            let patterns = value.get("patterns").and_then(Value::as_array);
            let patterns: Vec<&str> = patterns
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            format!("{permission}: {}", patterns.join(" "))
        }
    }
}

/// The providers a server knows.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Providers {
    /// All of them.
    #[serde(deserialize_with = "or_default")]
    pub providers: Vec<Provider>,
}

/// One provider.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// `kilo` is the gateway.
    #[serde(deserialize_with = "or_default")]
    pub id: String,
    /// `custom`: no credentials; `env`, `config`, `api`: credentials present.
    #[serde(deserialize_with = "or_default")]
    pub source: String,
    /// By id.
    #[serde(deserialize_with = "or_default")]
    pub models: BTreeMap<String, Value>,
}

/// A complaint of kilo about its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConfigWarning {
    /// Which source.
    #[serde(deserialize_with = "or_default")]
    pub path: String,
    /// What is wrong.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
}

/// Answer of the health route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Whether it says so.
    #[serde(deserialize_with = "or_default")]
    pub healthy: bool,
    /// The server's own version.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
}

/// A text field, or nothing.
pub(crate) fn text(value: &Value, name: &str) -> String {
    value
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// A count; fractions and negative numbers become the nearest count.
pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_f64).map_or(0, count)
}

/// A count out of a JSON number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped first"
)]
pub(crate) fn count(number: f64) -> u64 {
    // Up to 2^53 every count is exact, and no token count or epoch time comes near it.
    number.clamp(0.0, 9_007_199_254_740_992.0).round() as u64
}

fn digest_of<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<Value>::deserialize(from)?;
    Ok(value.as_ref().map(crate::tools::digest))
}

fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}
