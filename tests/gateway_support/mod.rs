//! A client of the scripted gateway that speaks to it as the real program does.
//!
//! Shared by the gateway's tests; it judges nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use wellhead::gateway::{Gateway, GatewaySettings, Script};

pub(crate) const TOKEN: &str = "a-token-that-no-log-may-show";
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) async fn start() -> Gateway {
    start_with(Script::default()).await
}

pub(crate) async fn start_with(script: Script) -> Gateway {
    Gateway::start(script, GatewaySettings::new(SecretString::from(TOKEN)))
        .await
        .unwrap()
}

/// A chat request in the making.
#[derive(Clone)]
pub(crate) struct Chat {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) mode: String,
    pub(crate) body: Value,
}

impl Chat {
    pub(crate) fn new(gateway: &Gateway, model: &str) -> Self {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        Self {
            url: gateway.url(),
            token: Some(TOKEN.into()),
            mode: "code".into(),
            body: json!({
                "model": model,
                "stream": true,
                "messages": [{"role": "system", "content": "You are an agent."}],
                "tools": [tool("bash"), tool("question")],
            }),
        }
    }

    pub(crate) fn says(mut self, role: &str, text: &str) -> Self {
        self.body["messages"]
            .as_array_mut()
            .unwrap()
            .push(json!({"role": role, "content": text}));
        self
    }

    pub(crate) fn user(self, text: &str) -> Self {
        self.says("user", text)
    }

    pub(crate) async fn send(&self) -> reqwest::Result<reqwest::Response> {
        let mut request = reqwest::Client::new()
            .post(format!("{}/api/openrouter/chat/completions", self.url))
            .header("x-kilocode-taskid", "ses_1")
            .header("x-kilocode-mode", &self.mode)
            .header("content-type", "application/json")
            .body(self.body.to_string());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await
    }

    /// The whole answer of a stream that ends well.
    pub(crate) async fn answer(&self) -> Answer {
        let response = self.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Answer::read(&response.text().await.unwrap())
    }

    /// Status and body of an HTTP error.
    pub(crate) async fn refusal(&self) -> (u16, Value) {
        let response = self.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

/// A stream, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) chunks: Vec<Value>,
    pub(crate) done: bool,
}

impl Answer {
    pub(crate) fn read(text: &str) -> Self {
        let mut data: Vec<&str> = text
            .split("\n\n")
            .filter(|frame| !frame.is_empty())
            .map(|frame| frame.strip_prefix("data: ").unwrap())
            .collect();
        let done = data.last() == Some(&"[DONE]");
        if done {
            data.pop();
        }
        let chunks = data
            .iter()
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        Self { chunks, done }
    }

    fn each<'a>(&'a self, pointer: &'static str) -> impl Iterator<Item = &'a Value> {
        self.chunks
            .iter()
            .filter_map(move |chunk| chunk.pointer(pointer))
    }

    pub(crate) fn text(&self) -> String {
        self.each("/choices/0/delta/content")
            .filter_map(Value::as_str)
            .collect()
    }

    pub(crate) fn finish(&self) -> Vec<&str> {
        self.each("/choices/0/finish_reason")
            .filter_map(Value::as_str)
            .collect()
    }

    pub(crate) fn usage(&self) -> &Value {
        self.each("/usage").next().unwrap()
    }

    /// Name and arguments of the only tool call.
    pub(crate) fn tool_call(&self) -> (String, Value) {
        let calls: Vec<&Value> = self.each("/choices/0/delta/tool_calls/0").collect();
        assert_eq!(calls.len(), 1, "{self:?}");
        let function = &calls[0]["function"];
        let arguments = function["arguments"].as_str().unwrap();
        (
            function["name"].as_str().unwrap().into(),
            serde_json::from_str(arguments).unwrap(),
        )
    }

    pub(crate) fn command(&self) -> String {
        let (tool, arguments) = self.tool_call();
        assert_eq!(tool, "bash");
        arguments["command"].as_str().unwrap().into()
    }
}
