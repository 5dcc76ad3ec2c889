//! One HTTP exchange with a server: address, password, deadline, bounded answer, clean errors.
//!
//! It must not know which calls there are. Neither the password nor a secret out of an answer
//! leaves this file.

use crate::redact::Redactor;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use url::Url;

/// For calls that answer from memory.
pub(crate) const QUICK: Duration = Duration::from_secs(10);
/// For calls that boot a directory's instance: seconds, and tens of them on a busy machine.
pub(crate) const BOOT: Duration = Duration::from_mins(1);
const CONNECT: Duration = Duration::from_secs(5);
/// A long session's messages are some megabytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const ERROR_CHARS_MAX: usize = 300;

/// One server's address and password.
#[derive(Clone)]
pub(crate) struct Http {
    inner: reqwest::Client,
    base: Url,
    password: SecretString,
    redactor: Redactor,
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

impl Http {
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
        let inner = reqwest::Client::builder()
            // A proxy of the host must never see the password.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        let base = Url::parse(&format!("http://127.0.0.1:{port}/"))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            inner,
            base,
            password,
            redactor,
        })
    }

    /// The same, with one more secret that must not be shown.
    pub(crate) fn with_secret(&self, secret: SecretString) -> Self {
        Self {
            redactor: self.redactor.with(secret),
            ..self.clone()
        }
    }

    /// A text out of an answer, fit to be shown.
    pub(crate) fn clean(&self, text: &str) -> String {
        self.redactor.clean_cut(text, ERROR_CHARS_MAX)
    }

    pub(crate) async fn get<T: DeserializeOwned>(
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

    pub(crate) async fn post<T: DeserializeOwned>(
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
    pub(crate) async fn tell(
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

    pub(crate) fn url(&self, path: &[&str], dir: Option<&Path>) -> Url {
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

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.inner
            .request(method, url)
            .basic_auth("kilo", Some(self.password.expose_secret()))
    }

    pub(crate) async fn call<T: DeserializeOwned>(
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

    pub(crate) fn error(
        &self,
        call: &'static str,
        kind: ClientErrorKind,
        text: &str,
    ) -> ClientError {
        ClientError {
            call,
            kind,
            text: self.clean(text),
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}
