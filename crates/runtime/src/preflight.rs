//! Checks that need no session: credentials, program, model, git, in this order.
//!
//! Owns the questions to the gateway's own routes and what their answers mean. Spends nothing. It
//! must not know breakers or dispatches: it says what was found and what would fix it.

use std::time::Duration;

use kilo::{Credentials, Found, Program, ProgramError, Search};
use reqwest::{Client, Response, StatusCode, header, redirect};
use rig::{Class, Failure, Preflight, RigConfig, Stage};
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

/// The result, and the model where it got as far as that.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checked {
    pub(crate) preflight: Preflight,
    pub(crate) model: Option<String>,
}

/// A client that follows no redirects: a token goes to the gateway and nowhere else.
pub(crate) fn http_client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(DEADLINE)
        .build()
}

/// Runs the checks up to the first that fails.
pub(crate) async fn check(kit: &Checks<'_>, config: &RigConfig) -> Checked {
    let mut model = None;
    let preflight = match run(kit, config, &mut model).await {
        Ok(()) => Preflight::Passed,
        Err(failure) => Preflight::Failed(failure),
    };
    Checked { preflight, model }
}

async fn run(
    kit: &Checks<'_>,
    config: &RigConfig,
    model: &mut Option<String>,
) -> Result<(), Failure> {
    let Resolved { credentials, .. } = kit.vault.resolve(&config.credentials).await?;
    find_program(kit.program, kit.search).await?;
    let wanted = config.model.as_deref();
    let found = resolve_model(kit.http, &credentials, wanted, kit.default_model).await?;
    let found = model.insert(found);
    check_model(kit.http, &credentials, found).await?;
    let url = git_url(config)?;
    check_remote(&url, &config.default_branch).await
}

/// The rig's repository, if it has a usable one.
pub(crate) fn git_url(config: &RigConfig) -> Result<GitUrl, Failure> {
    GitUrl::parse(&config.git_url).map_err(|error| {
        failure(Class::Git, format!("the rig's git URL can not be used: {error}"))
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

/// Asks the gateway for its models: proves that it is there and takes the token.
async fn check_model(http: &Client, credentials: &Credentials, model: &str) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Models {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
    }
    let Models { data } = get(http, credentials, "/api/openrouter/models").await?;
    // An empty list says nothing.
    if data.is_empty() || data.iter().any(|offered| offered.id == model) {
        return Ok(());
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
