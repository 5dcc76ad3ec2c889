//! The calls to one server that this project makes.
//!
//! It must not know turns or processes, nor how an exchange is done: that is `http`.

use crate::http::{BOOT, ClientError, ClientErrorKind, Http, QUICK};
use crate::redact::Redactor;
use crate::wire::{Ask, ConfigWarning, Health, Message, Providers, SessionInfo, SessionStatus};
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use url::Url;

/// Calls to one server. Cheap to clone; `Debug` shows the address only.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
}

/// Which model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// `kilo` for the gateway.
    pub provider: String,
    /// The provider's own id of the model.
    pub id: String,
}

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptRequest<'a> {
    /// What is asked.
    pub text: &'a str,
    /// Who answers.
    pub model: ModelRef,
    /// Added to the system prompt.
    pub system: Option<&'a str>,
    /// Tools that are not offered.
    pub tools_off: Vec<&'a str>,
    /// Kilo's agent; its default without.
    pub agent: Option<&'a str>,
}

/// A reply to a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionReply {
    /// This time.
    Once,
    /// This time and each like it.
    Always,
    /// No.
    Reject,
}

impl ModelRef {
    /// A model of the gateway, by the gateway's own id.
    pub fn kilo(id: impl Into<String>) -> Self {
        Self {
            provider: "kilo".to_owned(),
            id: id.into(),
        }
    }
}

impl Client {
    /// For a server on this machine's own address.
    pub(crate) fn new(
        port: u16,
        password: SecretString,
        redactor: Redactor,
    ) -> Result<Self, ClientError> {
        Http::new(port, password, redactor).map(|http| Self { http })
    }

    /// `GET /global/health`.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.http
            .get("health", &["global", "health"], None, QUICK)
            .await
    }

    /// What kilo complains about in its configuration.
    pub async fn warnings(&self) -> Result<Vec<ConfigWarning>, ClientError> {
        let all: Vec<ConfigWarning> = self
            .http
            .get("config warnings", &["config", "warnings"], None, BOOT)
            .await?;
        Ok(all
            .into_iter()
            .map(|warning| self.cleaned(&warning))
            .collect())
    }

    fn cleaned(&self, warning: &ConfigWarning) -> ConfigWarning {
        let clean = |text: &str| self.http.clean(text);
        ConfigWarning {
            path: clean(&warning.path),
            message: clean(&warning.message),
        }
    }

    /// The providers, where their credentials come from, and their models.
    pub async fn providers(&self) -> Result<Providers, ClientError> {
        self.http
            .get("providers", &["config", "providers"], None, BOOT)
            .await
    }

    /// Makes a session that works in a directory. The title saves a call to the gateway.
    pub async fn create_session(
        &self,
        dir: &Path,
        title: &str,
    ) -> Result<SessionInfo, ClientError> {
        let body = json!({ "title": title });
        self.http
            .post("create session", &["session"], dir, &body, BOOT)
            .await
    }

    /// Whether the server knows the session.
    pub async fn session_exists(&self, id: &str, dir: &Path) -> Result<bool, ClientError> {
        match self
            .http
            .get::<Value>("get session", &["session", id], Some(dir), BOOT)
            .await
        {
            Ok(_) => Ok(true),
            // 500 is the answer to an id that is not even shaped like one.
            Err(ClientError {
                kind: ClientErrorKind::Status(404 | 400 | 500),
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hands over a prompt. Success proves nothing: the turn's events do.
    pub async fn prompt(
        &self,
        session: &str,
        dir: &Path,
        prompt: &PromptRequest<'_>,
    ) -> Result<(), ClientError> {
        let mut body = json!({
            "parts": [{ "type": "text", "text": prompt.text }],
            "model": { "providerID": prompt.model.provider, "modelID": prompt.model.id },
            "tools": prompt.tools_off.iter().map(|tool| (*tool, false)).collect::<HashMap<_, _>>(),
        });
        for (name, value) in [("system", prompt.system), ("agent", prompt.agent)] {
            if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
                body.insert(name.to_owned(), value.into());
            }
        }
        self.http
            .tell("prompt", &["session", session, "prompt_async"], dir, &body)
            .await
    }

    /// Stops a session's turn and its tools; no error when nothing runs.
    pub async fn abort(&self, session: &str, dir: &Path) -> Result<(), ClientError> {
        self.http
            .tell("abort", &["session", session, "abort"], dir, &json!({}))
            .await
    }

    /// What the sessions of a directory do; idle ones are absent.
    pub async fn status(&self, dir: &Path) -> Result<HashMap<String, SessionStatus>, ClientError> {
        let raw: HashMap<String, Value> = self
            .http
            .get("status", &["session", "status"], Some(dir), QUICK)
            .await?;
        let parsed = raw
            .into_iter()
            .map(|(session, status)| (session, SessionStatus::parse(&status)));
        Ok(parsed
            .filter(|(_, status)| *status != SessionStatus::Idle)
            .collect())
    }

    /// The last messages of a session, oldest first.
    pub async fn messages(
        &self,
        session: &str,
        dir: &Path,
        limit: usize,
    ) -> Result<Vec<Message>, ClientError> {
        let mut url = self.http.url(&["session", session, "message"], Some(dir));
        url.query_pairs_mut()
            .append_pair("limit", &limit.to_string());
        self.http
            .call("messages", self.http.request(Method::GET, url), BOOT)
            .await
    }

    /// Open permission requests of a directory.
    pub async fn permissions(&self, dir: &Path) -> Result<Vec<Ask>, ClientError> {
        self.asks("permissions", "permission", dir).await
    }

    /// Answers one.
    pub async fn reply_permission(
        &self,
        id: &str,
        dir: &Path,
        reply: PermissionReply,
    ) -> Result<(), ClientError> {
        let reply = match reply {
            PermissionReply::Once => "once",
            PermissionReply::Always => "always",
            PermissionReply::Reject => "reject",
        };
        self.http
            .tell(
                "reply permission",
                &["permission", id, "reply"],
                dir,
                &json!({ "reply": reply }),
            )
            .await
    }

    /// Open questions of a directory.
    pub async fn questions(&self, dir: &Path) -> Result<Vec<Ask>, ClientError> {
        self.asks("questions", "question", dir).await
    }

    /// Refuses one; the turn then ends without a `stop`.
    pub async fn reject_question(&self, id: &str, dir: &Path) -> Result<(), ClientError> {
        self.http
            .tell(
                "reject question",
                &["question", id, "reject"],
                dir,
                &json!({}),
            )
            .await
    }

    /// Sessions of a directory that wait for the gateway.
    pub async fn network(&self, dir: &Path) -> Result<Vec<Ask>, ClientError> {
        self.asks("network", "network", dir).await
    }

    /// Lets one ask the gateway again, now.
    pub async fn reply_network(&self, id: &str, dir: &Path) -> Result<(), ClientError> {
        self.http
            .tell("reply network", &["network", id, "reply"], dir, &json!({}))
            .await
    }

    /// Lets one fail.
    pub async fn reject_network(&self, id: &str, dir: &Path) -> Result<(), ClientError> {
        self.http
            .tell(
                "reject network",
                &["network", id, "reject"],
                dir,
                &json!({}),
            )
            .await
    }

    /// Offers the tools of an MCP server to all sessions of a directory. An error unless it is
    /// connected afterwards.
    pub async fn register_mcp(
        &self,
        dir: &Path,
        name: &str,
        url: &Url,
        bearer: &SecretString,
    ) -> Result<(), ClientError> {
        let call = "register tools";
        let authorization = format!("Bearer {}", bearer.expose_secret());
        let config = json!({ "type": "remote", "url": url.as_str(), "oauth": false,
            "headers": { "Authorization": authorization } });
        let http = self.http.with_secret(bearer.clone());
        let body = json!({ "name": name, "config": config });
        let answer: Value = http.post(call, &["mcp"], dir, &body, BOOT).await?;
        let status = answer
            .get(name)
            .and_then(|server| server.get("status"))
            .and_then(Value::as_str);
        if status == Some("connected") {
            return Ok(());
        }
        let text = http.clean(&format!("kilo did not connect to {name}: {answer}"));
        Err(ClientError {
            call,
            kind: ClientErrorKind::Answer,
            text,
        })
    }

    /// The request for the stream of all directories' events; no deadline, it is watched instead.
    pub(crate) fn events(&self) -> RequestBuilder {
        self.http
            .request(Method::GET, self.http.url(&["global", "event"], None))
    }

    async fn asks(
        &self,
        call: &'static str,
        route: &str,
        dir: &Path,
    ) -> Result<Vec<Ask>, ClientError> {
        let raw: Vec<Value> = self.http.get(call, &[route], Some(dir), QUICK).await?;
        Ok(raw.iter().filter_map(Ask::parse).collect())
    }
}
