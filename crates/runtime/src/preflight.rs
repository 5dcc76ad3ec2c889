//! Checks that need no session: credentials, program, model, git, in this order.
//!
//! Owns the questions to the gateway's own routes and what their answers mean. Spends nothing. It
//! must not know breakers or dispatches: it says what was found and what would fix it.

use std::time::Duration;

use kilo::{Credentials, Found, Program, ProgramError, Search};
use reqwest::{Client, Response, StatusCode, header, redirect};
use rig::{Class, Failure, RigConfig, Stage};
use secrecy::ExposeSecret;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::OnceCell;

use crate::{
    vault::{Resolved, Vault},
    workspace::{GitUrl, check_remote},
};

/// For one question to the gateway, its answer included.
const DEADLINE: Duration = Duration::from_secs(15);
/// The real list has about two megabytes.
const BODY_BYTES_MAX: usize = 32 << 20;
/// How many models a failure names.
const NAMED_MAX: usize = 3;

/// What the checks need.
pub(crate) struct Checks<'a> {
    pub(crate) vault: &'a Vault,
    /// A program that was found once is not looked for again; one that was not found is.
    pub(crate) program: &'a OnceCell<Found>,
    pub(crate) search: &'a Search,
    /// The container's model for rigs that name none.
    pub(crate) default_model: Option<&'a str>,
    /// Made by [`http_client`].
    pub(crate) http: &'a Client,
}

/// What the checks have found where all is well.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checked {
    /// The gateway's id of the model.
    pub(crate) model: String,
    /// What the gateway tells of its costs.
    pub(crate) price: Price,
}

/// What a gateway tells of a model's costs; what it does not tell is estimated from above.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Price {
    /// US dollars per token, read and written. Zero is a price.
    pub(crate) per_token_usd: Option<(f64, f64)>,
    /// The most that a step can read.
    pub(crate) context_tokens: Option<u64>,
}

/// A client that follows no redirects: a token goes to the gateway and nowhere else.
pub(crate) fn http_client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(DEADLINE)
        .build()
}

/// Runs the checks up to the first that fails.
pub(crate) async fn check(kit: &Checks<'_>, config: &RigConfig) -> Result<Checked, Failure> {
    let Resolved { credentials, .. } = kit.vault.resolve(&config.credentials).await?;
    find_program(kit.program, kit.search).await?;
    let found = models_of(kit, config, &credentials).await?;
    let url = git_url(config)?;
    check_remote(&url, &config.default_branch).await?;
    Ok(found)
}

/// The credentials and the model alone.
pub(crate) async fn check_models(kit: &Checks<'_>, config: &RigConfig) -> Result<Checked, Failure> {
    let Resolved { credentials, .. } = kit.vault.resolve(&config.credentials).await?;
    models_of(kit, config, &credentials).await
}

async fn models_of(
    kit: &Checks<'_>,
    config: &RigConfig,
    credentials: &Credentials,
) -> Result<Checked, Failure> {
    let wanted = config.model.as_deref();
    let model = resolve_model(kit.http, credentials, wanted, kit.default_model).await?;
    let price = check_model(kit.http, credentials, &model).await?;
    Ok(Checked { model, price })
}

/// The rig's repository, if it has a usable one.
pub(crate) fn git_url(config: &RigConfig) -> Result<GitUrl, Failure> {
    GitUrl::parse(&config.git_url).map_err(|error| {
        failure(
            Class::Git,
            format!("the rig's git URL can not be used: {error}"),
        )
    })
}

/// The kilo program; success is remembered.
pub(crate) async fn find_program<'a>(
    cell: &'a OnceCell<Found>,
    search: &Search,
) -> Result<&'a Found, Failure> {
    let found = cell.get_or_try_init(|| Program::find(search)).await;
    found.map_err(|error: ProgramError| failure(Class::KiloMissing, error.to_string()))
}

/// The gateway's id of the model to use: the rig's, else the container's, else the gateway's own
/// default. `kilo/` before it means the gateway and is no part of the id.
pub(crate) async fn resolve_model(
    http: &Client,
    credentials: &Credentials,
    configured: Option<&str>,
    default_model: Option<&str>,
) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Defaults {
        #[serde(rename = "defaultModel")]
        model: Option<String>,
    }
    let named = |name: &&str| !name.trim().is_empty();
    if let Some(name) = configured.filter(named).or(default_model.filter(named)) {
        return Ok(bare(name).to_owned());
    }
    let defaults: Defaults = get(http, credentials, "/api/defaults").await?;
    let offered = defaults
        .model
        .as_deref()
        .filter(named)
        .map(|name| bare(name).to_owned());
    offered.ok_or_else(|| {
        let text = "no model is set and the gateway names no default; set the rig's model";
        failure(Class::ModelNotFound, text)
    })
}

fn bare(name: &str) -> &str {
    let name = name.trim();
    name.strip_prefix("kilo/").unwrap_or(name)
}

/// Asks the gateway for its models and looks at none of them.
pub(crate) async fn ask_models(credentials: &Credentials) -> Result<(), Failure> {
    let http = http_client().map_err(|error| {
        let text = format!("the system refused an HTTP client: {error}");
        failure(Class::Gateway, text)
    })?;
    ask_gateway(&http, credentials).await
}

/// The same with a client that is there.
pub(crate) async fn ask_gateway(http: &Client, credentials: &Credentials) -> Result<(), Failure> {
    let _: serde_json::Value = get(http, credentials, "/api/openrouter/models").await?;
    Ok(())
}

/// Asks the gateway for its models: proves that it is there and takes the token. What it tells of
/// the model's costs comes back.
async fn check_model(
    http: &Client,
    credentials: &Credentials,
    model: &str,
) -> Result<Price, Failure> {
    #[derive(Deserialize)]
    struct Models {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
        #[serde(default)]
        pricing: Option<serde_json::Value>,
        #[serde(default)]
        context_length: Option<serde_json::Value>,
    }
    let Models { data } = get(http, credentials, "/api/openrouter/models").await?;
    // An empty list says nothing.
    let found = data.iter().find(|offered| offered.id == model);
    if let Some(found) = found {
        return Ok(Price {
            per_token_usd: found.pricing.as_ref().and_then(prices),
            context_tokens: found
                .context_length
                .as_ref()
                .and_then(serde_json::Value::as_u64),
        });
    }
    if data.is_empty() {
        return Ok(Price::default());
    }
    // The last part often is what was mistyped least.
    let tail = model.rsplit('/').next().unwrap_or(model);
    let (near, far): (Vec<&Model>, Vec<&Model>) =
        data.iter().partition(|offered| offered.id.contains(tail));
    let names = near
        .into_iter()
        .chain(far)
        .take(NAMED_MAX)
        .map(|model| model.id.as_str());
    let names: Vec<&str> = names.collect();
    let text = format!(
        "the gateway does not offer the model {model}; {} (it offers {})",
        Class::ModelNotFound.fix(),
        names.join(", ")
    );
    Err(failure(Class::ModelNotFound, text))
}

/// Prices per token, which come as numbers or as text.
fn prices(pricing: &serde_json::Value) -> Option<(f64, f64)> {
    let price = |name: &str| match pricing.get(name) {
        Some(serde_json::Value::Number(number)) => number.as_f64(),
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    // A negative one means that it varies.
    let known = |name: &str| price(name).filter(|usd: &f64| usd.is_finite() && *usd >= 0.0);
    Some((known("prompt")?, known("completion")?))
}

async fn get<T: DeserializeOwned>(
    http: &Client,
    credentials: &Credentials,
    route: &str,
) -> Result<T, Failure> {
    let base = credentials.gateway_url().as_str().trim_end_matches('/');
    let mut request = http.get(format!("{base}{route}")).timeout(DEADLINE);
    if let Some(token) = credentials.token() {
        request = request.bearer_auth(token.expose_secret());
    }
    if let Some(organization) = credentials.organization() {
        request = request.header("X-KiloCode-OrganizationId", organization);
    }
    let answer = request
        .send()
        .await
        .map_err(|error| unreachable(base, &error))?;
    let answer = accepted(base, route, answer)?;
    let body = read(base, answer).await?;
    serde_json::from_slice(&body).map_err(|_| {
        let text = format!("{base}{route} answered with something else than a gateway's JSON");
        failure(Class::Gateway, format!("{text}; {}", Class::Gateway.fix()))
    })
}

/// The answer, where its status is a success.
fn accepted(base: &str, route: &str, answer: Response) -> Result<Response, Failure> {
    let status = answer.status();
    let class = match status {
        _ if status.is_success() => return Ok(answer),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Class::Credentials,
        StatusCode::PAYMENT_REQUIRED => Class::Billing,
        StatusCode::TOO_MANY_REQUESTS => Class::RateLimited,
        _ => Class::Gateway,
    };
    let text = format!(
        "{base}{route} answered {}; {}",
        status.as_u16(),
        class.fix()
    );
    let mut failure = failure(class, text);
    if class == Class::RateLimited {
        failure.retry_after_ms = retry_after_ms(&answer);
    }
    Err(failure)
}

/// `Retry-After` in seconds; as a date it is left to the default pause.
fn retry_after_ms(answer: &Response) -> Option<i64> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: i64 = text.trim().parse().ok()?;
    Some(seconds.max(0).saturating_mul(1_000))
}

async fn read(base: &str, mut answer: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|error| unreachable(base, &error))?
    {
        if body.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
            let text = format!(
                "{base} sends an answer without end; {}",
                Class::Gateway.fix()
            );
            return Err(failure(Class::Gateway, text));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause is the one that helps.
fn unreachable(base: &str, error: &reqwest::Error) -> Failure {
    let what = if error.is_timeout() {
        format!("did not answer within {} s", DEADLINE.as_secs())
    } else {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        format!(
            "can not be reached ({})",
            kilo::Redactor::default().clean_cut(&cause.to_string(), 200)
        )
    };
    failure(
        Class::Gateway,
        format!("{base} {what}; {}", Class::Gateway.fix()),
    )
}

fn failure(class: Class, text: impl Into<String>) -> Failure {
    Failure::new(class, Stage::Preflight, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Environment;
    use rig::{CredentialSource, ReviewMode, TownId};
    use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};
    use tempfile::TempDir;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::Mutex,
    };

    const MODELS: &str = r#"{"data":[{"id":"a/one"},{"id":"b/two"},{"id":"c/big"},{"id":"d/x"}]}"#;
    const TOKEN: &str = "canary-4711";

    /// A gateway that gives one answer to the models route and knows its default model.
    struct Gateway {
        url: String,
        requests: Arc<Mutex<Vec<String>>>,
    }

    impl Gateway {
        async fn answering(
            status: &'static str,
            headers: &'static str,
            body: &'static str,
        ) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let requests = Arc::<Mutex<Vec<String>>>::default();
            let seen = Arc::clone(&requests);
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(stream.read_u8().await.unwrap());
                    }
                    let request = String::from_utf8(request).unwrap();
                    let is_defaults = request.starts_with("GET /api/defaults ");
                    seen.lock().await.push(request);
                    let (status, headers, body) = if is_defaults {
                        ("200 OK", "", r#"{"defaultModel":"kilo/b/two"}"#)
                    } else {
                        (status, headers, body)
                    };
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\
                         connection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            Self { url, requests }
        }

        async fn check(&self, model: Option<&str>) -> Result<Checked, Failure> {
            Kit::new(&self.url, Some(TOKEN))
                .check(model, CredentialSource::Environment)
                .await
        }
    }

    /// A program that only knows its version, and a repository with one commit.
    struct Kit {
        dir: TempDir,
        vault: Vault,
        search: Search,
        program: OnceCell<Found>,
        http: Client,
    }

    impl Kit {
        fn new(gateway: &str, token: Option<&str>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("kilo");
            std::fs::write(&path, "#!/bin/sh\necho 7.7.7\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            make_repository(dir.path());
            let environment = Environment {
                gateway_url: Some(gateway.to_owned()),
                token: token.map(Into::into),
                organization: None,
            };
            Self {
                vault: Vault::new(dir.path().join("secrets"), "i", environment),
                search: Search {
                    setting: Some(path),
                    ..Search::default()
                },
                program: OnceCell::new(),
                http: http_client().unwrap(),
                dir,
            }
        }

        async fn check(
            &self,
            model: Option<&str>,
            credentials: CredentialSource,
        ) -> Result<Checked, Failure> {
            let config = RigConfig {
                town_id: TownId::new("t").unwrap(),
                name: "n".into(),
                git_url: self.dir.path().join("repo").display().to_string(),
                default_branch: "main".into(),
                model: model.map(str::to_owned),
                review: ReviewMode::Off,
                credentials,
            };
            let kit = Checks {
                vault: &self.vault,
                program: &self.program,
                search: &self.search,
                default_model: None,
                http: &self.http,
            };
            check(&kit, &config).await
        }
    }

    fn make_repository(dir: &Path) {
        for args in [
            &["init", "-q", "-b", "main", "repo"][..],
            &[
                "-C",
                "repo",
                "-c",
                "user.name=A",
                "-c",
                "user.email=a@b.invalid",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                "first",
            ],
        ] {
            let mut git = std::process::Command::new("git");
            assert!(git.args(args).current_dir(dir).status().unwrap().success());
        }
    }

    fn failed(checked: &Result<Checked, Failure>) -> &Failure {
        checked.as_ref().expect_err("it passed")
    }

    #[tokio::test]
    async fn all_is_well_and_the_token_goes_along() {
        let gateway = Gateway::answering("200 OK", "", MODELS).await;
        for (named, found) in [
            (Some("kilo/a/one"), "a/one"),
            (Some("a/one"), "a/one"),
            (None, "b/two"),
        ] {
            let checked = gateway.check(named).await;
            assert_eq!(checked.unwrap().model, found);
        }
        let requests = gateway.requests.lock().await;
        assert_eq!(
            requests.len(),
            4,
            "the defaults are asked for only where they are needed"
        );
        for request in requests.iter() {
            let request = request.to_ascii_lowercase();
            assert!(
                request.contains(&format!("authorization: bearer {TOKEN}")),
                "{request}"
            );
        }
    }

    #[tokio::test]
    async fn each_answer_of_the_gateway_has_its_class_and_its_fix() {
        for (status, class) in [
            ("401 Unauthorized", Class::Credentials),
            ("403 Forbidden", Class::Credentials),
            ("402 Payment Required", Class::Billing),
            ("429 Too Many Requests", Class::RateLimited),
            ("500 Internal Server Error", Class::Gateway),
            ("404 Not Found", Class::Gateway),
        ] {
            let gateway = Gateway::answering(status, "retry-after: 7\r\n", "{}").await;
            let checked = gateway.check(Some("a/one")).await;
            let failure = failed(&checked);
            assert_eq!((failure.class, failure.stage), (class, Stage::Preflight));
            assert!(failure.text.contains(class.fix()), "{}", failure.text);
            assert!(!failure.text.contains(TOKEN), "{}", failure.text);
            let pause = (class == Class::RateLimited).then_some(7_000);
            assert_eq!(failure.retry_after_ms, pause);
        }
    }

    #[tokio::test]
    async fn an_unknown_model_is_named_with_what_is_offered() {
        let gateway = Gateway::answering("200 OK", "", MODELS).await;
        let checked = gateway.check(Some("z/big")).await;
        let failure = failed(&checked);
        assert_eq!(failure.class, Class::ModelNotFound);
        assert!(failure.text.contains("z/big"), "{}", failure.text);
        assert!(
            failure.text.contains("(it offers c/big, a/one, b/two)"),
            "{}",
            failure.text
        );
        let empty = Gateway::answering("200 OK", "", r#"{"data":[]}"#).await;
        let passed = empty.check(Some("z/big")).await.unwrap();
        assert_eq!(passed.price, Price::default(), "an empty list says nothing");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_nonsense_is_no_answer() {
        let other = Gateway::answering("200 OK", "", MODELS).await;
        let header = format!("location: {}/api/openrouter/models\r\n", other.url);
        let moved = Gateway::answering("302 Found", header.leak(), "").await;
        let checked = moved.check(Some("a/one")).await;
        assert_eq!(failed(&checked).class, Class::Gateway);
        assert!(
            other.requests.lock().await.is_empty(),
            "the token has not left"
        );
        let nonsense = Gateway::answering("200 OK", "", "<html>").await;
        assert_eq!(
            failed(&nonsense.check(Some("a/one")).await).class,
            Class::Gateway
        );
    }

    #[tokio::test]
    async fn a_gateway_that_is_down_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let checked = Kit::new(&url, Some(TOKEN))
            .check(None, CredentialSource::Environment)
            .await;
        assert_eq!(failed(&checked).class, Class::Gateway);
        assert!(
            failed(&checked).text.contains("can not be reached"),
            "{:?}",
            failed(&checked)
        );
    }

    #[tokio::test]
    async fn the_first_that_is_missing_is_told_and_nothing_after_it_is_asked() {
        let gateway = Gateway::answering("200 OK", "", MODELS).await;
        let kit = Kit::new(&gateway.url, None);
        std::fs::remove_file(kit.dir.path().join("kilo")).unwrap();
        let checked = kit.check(None, CredentialSource::Environment).await;
        assert_eq!(failed(&checked).class, Class::Credentials);

        let mut kit = Kit::new(&gateway.url, Some(TOKEN));
        let program = kit.search.setting.replace("/nonexistent/kilo".into());
        let checked = kit.check(None, CredentialSource::Environment).await;
        assert_eq!(failed(&checked).class, Class::KiloMissing);
        assert!(gateway.requests.lock().await.is_empty());

        // Installed since: not being there is not remembered, being there is.
        kit.search.setting = program;
        let checked = kit.check(None, CredentialSource::Environment).await;
        assert_eq!(checked.unwrap().model, "b/two");
        std::fs::remove_file(kit.dir.path().join("kilo")).unwrap();
        std::fs::remove_dir_all(kit.dir.path().join("repo")).unwrap();
        let checked = kit.check(None, CredentialSource::Environment).await;
        assert_eq!(failed(&checked).class, Class::Git);
    }
}
