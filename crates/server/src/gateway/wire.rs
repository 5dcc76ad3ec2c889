//! The wire shapes of the gateway: stream chunks, error bodies, the list of models.
//!
//! Shapes only: which of them answers a request is decided in `reply`.

use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::script::{AUTO, MODEL_PREFIX};

/// What every chunk of one answer repeats.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created_s: i64,
}

impl Envelope {
    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Value {
        json!({
            "id": self.id,
            "provider": "Scripted",
            "model": self.model,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "choices": [{
                "index": 0,
                "delta": delta,
                "finish_reason": finish,
                "native_finish_reason": finish,
                "logprobs": null,
            }],
        })
    }

    /// A piece of the answer's text.
    pub(super) fn text(&self, text: &str) -> Value {
        self.chunk(&json!({"role": "assistant", "content": text}), None)
    }

    /// A whole tool call.
    pub(super) fn tool_call(&self, call_id: &str, tool: &str, arguments: &Value) -> Value {
        let call = json!({
            "index": 0,
            "id": call_id,
            "type": "function",
            "function": {"name": tool, "arguments": arguments.to_string()},
        });
        self.chunk(
            &json!({"role": "assistant", "content": null, "tool_calls": [call]}),
            None,
        )
    }

    /// The end of the answer: `stop` or `tool_calls`.
    pub(super) fn finish(&self, reason: &str) -> Value {
        self.chunk(&json!({"role": "assistant", "content": ""}), Some(reason))
    }

    /// What it cost.
    pub(super) fn usage(&self, usage: Usage) -> Value {
        let mut chunk = self.chunk(&json!({"role": "assistant", "content": ""}), None);
        chunk["usage"] = usage.to_json();
        chunk
    }
}

/// Tokens of one request, and their price.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

/// Millionths of a cent, so that the sum is exact: 0.25 and 1.00 dollar per million tokens.
const PROMPT_PRICE: u64 = 25;
const COMPLETION_PRICE: u64 = 100;
const PRICE_UNITS_PER_DOLLAR: f64 = 100_000_000.0;

impl Usage {
    /// Four characters are a token, as a rule of thumb. The same conversation costs the same.
    pub(super) fn of(prompt_chars: usize, completion_chars: usize) -> Self {
        let tokens = |chars: usize| u64::try_from(chars.div_ceil(4)).unwrap_or(u64::MAX);
        Self {
            prompt_tokens: tokens(prompt_chars).max(1),
            completion_tokens: tokens(completion_chars),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a price far below 2^53 units")]
    fn cost_dollars(self) -> f64 {
        let prompt = self.prompt_tokens.saturating_mul(PROMPT_PRICE);
        let completion = self.completion_tokens.saturating_mul(COMPLETION_PRICE);
        prompt.saturating_add(completion) as f64 / PRICE_UNITS_PER_DOLLAR
    }

    fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens.saturating_add(self.completion_tokens),
            "cost": self.cost_dollars(),
            "is_byok": false,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }
}

/// The body of an HTTP error.
pub(super) fn error(status: u16, message: &str) -> Value {
    let mut body = json!({"error": {"message": message, "code": status}});
    if status == 402 {
        body["error"]["title"] = json!("Low Credit Warning!");
        body["error"]["balance"] = json!(0);
        body["error"]["buyCreditsUrl"] = json!("https://app.kilo.ai/profile");
    }
    body
}

/// The list of models: one for each behaviour, one that leaves the choice to the conversation, and
/// those that the user added.
pub(super) fn models(extra: &[String]) -> Value {
    let scripted = [AUTO].into_iter().chain(Behaviour::NAMES);
    let scripted = scripted.map(|name| model(&format!("{MODEL_PREFIX}{name}")));
    let data: Vec<Value> = scripted.chain(extra.iter().map(|id| model(id))).collect();
    json!({ "data": data })
}

fn model(id: &str) -> Value {
    json!({
        "id": id,
        "canonical_slug": id,
        "name": id,
        "created": 1_700_000_000,
        "description": "Answers from a script.",
        "context_length": 128_000,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": null,
        },
        "pricing": {
            "prompt": "0.00000025", "completion": "0.000001", "request": "0", "image": "0",
        },
        "top_provider": {
            "context_length": 128_000, "max_completion_tokens": 8_192, "is_moderated": false,
        },
        "per_request_limits": null,
        "supported_parameters": ["max_tokens", "temperature", "tools", "tool_choice"],
    })
}

/// The models that are taken when none is named.
pub(super) fn defaults() -> Value {
    let auto = format!("{MODEL_PREFIX}{AUTO}");
    json!({"defaultModel": auto, "defaultFreeModel": auto})
}

/// One server-sent event.
pub(super) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}
