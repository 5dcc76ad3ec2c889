//! A house for the tests: runtime, facade and clients. Owns no expectation.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::{Method, RequestBuilder, Response, header::HeaderMap};
use runtime::{Runtime, Settings};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use wellhead::{Facade, FacadeSettings};

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Everything that one test needs. Drop order: facade, runtime, directory.
pub(crate) struct House {
    pub(crate) facade: Facade,
    pub(crate) runtime: Runtime,
    pub(crate) admin: String,
    pub(crate) viewer: String,
    client: reqwest::Client,
    settings: Settings,
    dir: TempDir,
}

/// One answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// The data of a success with that status.
    #[track_caller]
    pub(crate) fn data(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["success"], json!(true), "{}", self.text);
        self.body["data"].clone()
    }

    /// The sentence of a failure with that status; checks the envelope.
    #[track_caller]
    pub(crate) fn error(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["success"], json!(false), "{}", self.text);
        assert!(self.body["request_id"].is_string(), "{}", self.text);
        assert!(self.body["code"].is_string(), "{}", self.text);
        self.body["error"].as_str().expect("a sentence")
    }

    /// The stable word of a failure.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The fields that issues name.
    pub(crate) fn issues(&self) -> Vec<String> {
        let issues = self.body["issues"].as_array().cloned().unwrap_or_default();
        issues
            .iter()
            .filter_map(|i| i["path"].as_str().map(str::to_owned))
            .collect()
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(|settings| settings, |settings| settings).await
    }

    pub(crate) async fn with(
        settings: impl FnOnce(Settings) -> Settings,
        facade: impl FnOnce(FacadeSettings) -> FacadeSettings,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(Settings::new(dir.path().join("data")));
        Self::open(dir, settings, facade).await
    }

    /// The same house after the end of its process: everything starts again on the same data.
    pub(crate) async fn restarted(self) -> Self {
        self.restarted_after(Duration::from_secs(20), |_| ()).await
    }

    /// The same, with some work on the data directory while nobody uses it.
    pub(crate) async fn restarted_after(self, stop: Duration, work: impl FnOnce(&Path)) -> Self {
        let Self {
            facade,
            runtime,
            settings,
            dir,
            ..
        } = self;
        facade.stop().await;
        drop(facade);
        runtime.stop(stop).await;
        drop(runtime);
        work(&settings.data_dir);
        Self::open(dir, settings, |settings| settings).await
    }

    /// Beside the data directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    async fn open(
        dir: TempDir,
        settings: Settings,
        facade: impl FnOnce(FacadeSettings) -> FacadeSettings,
    ) -> Self {
        let runtime = Box::pin(Runtime::start(settings.clone())).await.unwrap();
        let given = FacadeSettings {
            jwt_secret: Some(SecretString::from(SECRET)),
            ..FacadeSettings::loopback()
        };
        let facade = Facade::start(runtime.clone(), facade(given)).await.unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap().trim().to_owned();
        let (admin, viewer) = (
            read(facade.admin_token_file()),
            read(facade.viewer_token_file()),
        );
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            facade,
            runtime,
            admin,
            viewer,
            client,
            settings,
            dir,
        }
    }

    /// A request without any credential.
    pub(crate) fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client
            .request(method, format!("{}{path}", self.facade.url()))
    }

    /// A request with a bearer credential.
    pub(crate) fn with_token(&self, token: &str, method: &str, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(token)
    }

    /// A request of the admin.
    pub(crate) fn admin(&self, method: &str, path: &str) -> RequestBuilder {
        self.with_token(&self.admin, method, path)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.admin("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.admin("POST", path).json(body)).await
    }

    /// A bead of that rig, made by the admin.
    pub(crate) async fn bead(&self, rig: &str, title: &str) -> Value {
        let body = json!({"type": "issue", "title": title});
        self.post(&format!("/api/rigs/{rig}/beads"), &body)
            .await
            .data(201)
    }

    /// An agent of that rig.
    pub(crate) async fn agent(&self, rig: &str, name: &str) -> Value {
        let body = json!({"role": "polecat", "name": name, "identity": format!("id-{name}")});
        self.post(&format!("/api/rigs/{rig}/agents"), &body)
            .await
            .data(201)
    }
}

/// Sends it and reads the whole answer.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    read(request.send().await.unwrap()).await
}

pub(crate) async fn read(response: Response) -> Answer {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer {
        status,
        headers,
        body,
        text,
    }
}

/// An agent's token for a rig.
pub(crate) fn jwt(agent: &str, rig: &str) -> String {
    jwt_of(&json!({"agentId": agent, "rigId": rig}))
}

/// A token with these claims over the usual ones.
pub(crate) fn jwt_of(changes: &Value) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut claims = json!({
        "agentId": "agent-1", "rigId": "rig-1", "townId": "town-1", "userId": "user-1",
        "iat": now, "exp": now + 3_600,
    });
    for (key, value) in changes.as_object().unwrap() {
        claims[key] = value.clone();
    }
    encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )
    .unwrap()
}

/// The text of a JSON value.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
