//! HTTP calls to one server, each with a deadline and a bounded answer.
//!
//! It must not know turns or processes. Neither the password nor an answer's body with a secret
//! in it leaves this file.

use crate::redact::Redactor;
use crate::wire::{Ask, ConfigWarning, Health, Message, Providers, SessionInfo, SessionStatus};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use url::Url;

/// For calls that answer from memory.
const QUICK: Duration = Duration::from_secs(10);
/// For calls that boot a directory's instance: seconds, and tens of them on a busy machine.
const BOOT: Duration = Duration::from_mins(1);
const CONNECT: Duration = Duration::from_secs(5);
/// A long session's messages are some megabytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const ERROR_CHARS_MAX: usize = 300;

/// Calls to one server. Cheap to clone; `Debug` shows the address only.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    password: SecretString,
    redactor: Redactor,
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

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {text}")]
pub struct ClientError {
    /// Which call.
    pub call: &'static str,
    /// In what way.
    pub kind: ClientErrorKind,
    /// Redacted.
    pub text: String,
}

/// In what way a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientErrorKind {
    /// No answer in time; whether it took effect is unknown.
    Timeout,
    /// Nothing listens, or the connection broke.
    Connect,
    /// An answer with this status.
    Status(u16),
    /// An answer that is too long or not what it should be.
    Answer,
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
        let refused = |text: String| ClientError {
            call: "client",
            kind: ClientErrorKind::Connect,
            text,
        };
        let http = reqwest::Client::builder()
            // A proxy of the host must never see the password.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        let base = Url::parse(&format!("http://127.0.0.1:{port}/"))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            http,
            base,
            password,
            redactor,
        })
    }

    /// `GET /global/health`.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get("health", &["global", "health"], None, QUICK).await
    }

    /// What kilo complains about in its configuration.
    pub async fn warnings(&self) -> Result<Vec<ConfigWarning>, ClientError> {
        let all: Vec<ConfigWarning> = self
            .get("config warnings", &["config", "warnings"], None, BOOT)
            .await?;
        Ok(all
            .into_iter()
            .map(|warning| self.cleaned(&warning))
            .collect())
    }

    fn cleaned(&self, warning: &ConfigWarning) -> ConfigWarning {
        let clean = |text: &str| self.redactor.clean_cut(text, ERROR_CHARS_MAX);
        ConfigWarning {
            path: clean(&warning.path),
            message: clean(&warning.message),
        }
    }

    /// The providers, where their credentials come from, and their models.
    pub async fn providers(&self) -> Result<Providers, ClientError> {
        self.get("providers", &["config", "providers"], None, BOOT)
            .await
    }

    /// Makes a session that works in a directory. The title saves a call to the gateway.
    pub async fn create_session(
        &self,
        dir: &Path,
        title: &str,
    ) -> Result<SessionInfo, ClientError> {
        let body = json!({ "title": title });
        self.post("create session", &["session"], dir, &body, BOOT)
            .await
    }

    /// Whether the server knows the session.
    pub async fn session_exists(&self, id: &str, dir: &Path) -> Result<bool, ClientError> {
        match self
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
        self.tell("prompt", &["session", session, "prompt_async"], dir, &body)
            .await
    }

    /// Stops a session's turn and its tools; no error when nothing runs.
    pub async fn abort(&self, session: &str, dir: &Path) -> Result<(), ClientError> {
        self.tell("abort", &["session", session, "abort"], dir, &json!({}))
            .await
    }

    /// What the sessions of a directory do; idle ones are absent.
    pub async fn status(&self, dir: &Path) -> Result<HashMap<String, SessionStatus>, ClientError> {
        let raw: HashMap<String, Value> = self
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
        let mut url = self.url(&["session", session, "message"], Some(dir));
        url.query_pairs_mut()
            .append_pair("limit", &limit.to_string());
        self.call("messages", self.request(Method::GET, url), BOOT)
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
        self.tell(
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
        self.tell(
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
        self.tell("reply network", &["network", id, "reply"], dir, &json!({}))
            .await
    }

    /// Lets one fail.
    pub async fn reject_network(&self, id: &str, dir: &Path) -> Result<(), ClientError> {
        self.tell(
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
        let this = Self {
            redactor: self.redactor.with(bearer.clone()),
            ..self.clone()
        };
        let body = json!({ "name": name, "config": config });
        let answer: Value = this.post(call, &["mcp"], dir, &body, BOOT).await?;
        let status = answer
            .get(name)
            .and_then(|server| server.get("status"))
            .and_then(Value::as_str);
        if status == Some("connected") {
            return Ok(());
        }
        let text = this.redactor.clean_cut(
            &format!("kilo did not connect to {name}: {answer}"),
            ERROR_CHARS_MAX,
        );
        Err(ClientError {
            call,
            kind: ClientErrorKind::Answer,
            text,
        })
    }

    /// The request for the stream of all directories' events; no deadline, it is watched instead.
    pub(crate) fn events(&self) -> RequestBuilder {
        self.request(Method::GET, self.url(&["global", "event"], None))
    }

    async fn asks(
        &self,
        call: &'static str,
        route: &str,
        dir: &Path,
    ) -> Result<Vec<Ask>, ClientError> {
        let raw: Vec<Value> = self.get(call, &[route], Some(dir), QUICK).await?;
        Ok(raw.iter().filter_map(Ask::parse).collect())
    }

    async fn get<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &[&str],
        dir: Option<&Path>,
        deadline: Duration,
    ) -> Result<T, ClientError> {
        self.call(
            call,
            self.request(Method::GET, self.url(path, dir)),
            deadline,
        )
        .await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &[&str],
        dir: &Path,
        body: &Value,
        deadline: Duration,
    ) -> Result<T, ClientError> {
        let request = self
            .request(Method::POST, self.url(path, Some(dir)))
            .json(body);
        self.call(call, request, deadline).await
    }

    /// A post whose answer's body says nothing.
    async fn tell(
        &self,
        call: &'static str,
        path: &[&str],
        dir: &Path,
        body: &Value,
    ) -> Result<(), ClientError> {
        let request = self
            .request(Method::POST, self.url(path, Some(dir)))
            .json(body);
        self.answer(call, request, BOOT).await.map(drop)
    }

    fn url(&self, path: &[&str], dir: Option<&Path>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if let Some(dir) = dir {
            url.query_pairs_mut()
                .append_pair("directory", &dir.to_string_lossy());
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http
            .request(method, url)
            .basic_auth("kilo", Some(self.password.expose_secret()))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        call: &'static str,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<T, ClientError> {
        let body = self.answer(call, request, deadline).await?;
        serde_json::from_slice(&body).map_err(|error| {
            // The position tells enough; the body may hold anything.
            self.error(
                call,
                ClientErrorKind::Answer,
                &format!("the answer was not understood: {error}"),
            )
        })
    }

    async fn answer(
        &self,
        call: &'static str,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        let exchange = async {
            let response = request
                .send()
                .await
                .map_err(|error| self.transport(call, error))?;
            let status = response.status();
            let body = self.body(call, response).await?;
            if status.is_success() {
                Ok(body)
            } else {
                Err(self.refused(call, status, &body))
            }
        };
        if let Ok(result) = tokio::time::timeout(deadline, exchange).await {
            result
        } else {
            let text = format!("no answer within {} s", deadline.as_secs());
            Err(self.error(call, ClientErrorKind::Timeout, &text))
        }
    }

    async fn body(
        &self,
        call: &'static str,
        mut response: Response,
    ) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.transport(call, error))?
        {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.error(call, ClientErrorKind::Answer, "the answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn refused(&self, call: &'static str, status: StatusCode, body: &[u8]) -> ClientError {
        let head = body.get(..2048).unwrap_or(body);
        let text = format!("{status} {}", String::from_utf8_lossy(head));
        self.error(call, ClientErrorKind::Status(status.as_u16()), text.trim())
    }

    fn transport(&self, call: &'static str, error: reqwest::Error) -> ClientError {
        let kind = if error.is_timeout() {
            ClientErrorKind::Timeout
        } else {
            ClientErrorKind::Connect
        };
        // Without the URL: a directory's name is nobody's business in an error text.
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        self.error(call, kind, &format!("{error}{}", cause.unwrap_or_default()))
    }

    fn error(&self, call: &'static str, kind: ClientErrorKind, text: &str) -> ClientError {
        ClientError {
            call,
            kind,
            text: self.redactor.clean_cut(text, ERROR_CHARS_MAX),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}
