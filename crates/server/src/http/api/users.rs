//! Rigs of a user: made, changed, shown.
//!
//! Owns how a token reaches the runtime: it goes to its store at once, and only an id goes on.

use actix_web::HttpResponse;
use rig::{CredentialSource, Refused, ReviewMode, RigConfig, TownId};
use runtime::{RigPatch, RigRow};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    input::{Body, Fields},
    once::Ticket,
    view,
};

use super::{beads::ID_MAX, towns::NAME_MAX};

const URL_MAX: usize = 2_048;
const BRANCH_MAX: usize = 255;
const MODEL_MAX: usize = 256;
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The API's word for a review mode.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Review {
    Off,
    Manual,
}

impl From<Review> for ReviewMode {
    fn from(review: Review) -> Self {
        match review {
            Review::Off => Self::Off,
            Review::Manual => Self::Manual,
        }
    }
}

/// What may be given for a new rig as well as changed later.
struct Changeable {
    name: Option<String>,
    default_branch: Option<String>,
    model: Option<String>,
    review: Option<ReviewMode>,
    token: Option<(Option<String>, SecretString)>,
}

/// `POST /api/users/{u}/rigs`.
pub(crate) async fn create_rig(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let user = ctx.user()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let town = fields.required_text("town_id", ID_MAX);
    let git_url = git_url(&mut fields);
    let named = fields.has("name");
    let given = changeable(&mut fields);
    if !named {
        fields.issue("name", "is required");
    }
    fields.finish()?;
    let once = ticket.as_ref().map(Ticket::once);
    if let Some(once) = &once
        && let Some(row) = ctx.directory().rig_made_before(once).await?
    {
        // Before its token is stored a second time.
        return Ok(answer::created(shown(&ctx, &row).await?));
    }
    let no_town = || Failure::not_found("Town not found");
    let town_id = TownId::new(town).map_err(|_| no_town())?;
    // Before the token is stored: a refused request leaves nothing behind.
    ctx.directory()
        .town(user, &town_id)
        .await?
        .ok_or_else(no_town)?;
    let config = RigConfig {
        town_id,
        name: given.name.clone().unwrap_or_default(),
        git_url,
        default_branch: given
            .default_branch
            .clone()
            .unwrap_or_else(|| "main".to_owned()),
        model: given.model.clone(),
        review: given.review.unwrap_or_default(),
        credentials: stored(&ctx, given.token).await?.unwrap_or_default(),
    };
    let row = ctx.directory().create_rig_once(user, config, once).await?;
    Ok(answer::created(shown(&ctx, &row).await?))
}

/// `GET /api/users/{u}/rigs/{r}`.
pub(crate) async fn show_rig(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let row = ctx.directory().rig(ctx.user()?, &ctx.rig_id()?).await?;
    Ok(answer::ok(shown(&ctx, &row.ok_or_else(no_rig)?).await?))
}

/// `PATCH /api/users/{u}/rigs/{r}`: everything but the town and the git URL.
pub(crate) async fn update_rig(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let (user, rig) = (ctx.user()?, ctx.rig_id()?);
    let mut fields = body.fields()?;
    for fixed in ["town_id", "git_url"] {
        if fields.has(fixed) {
            fields.issue(fixed, "can not be changed; make another rig");
        }
    }
    let given = changeable(&mut fields);
    fields.finish()?;
    ctx.directory().rig(user, &rig).await?.ok_or_else(no_rig)?;
    let patch = RigPatch {
        name: given.name,
        default_branch: given.default_branch,
        model: given.model,
        review: given.review,
        credentials: stored(&ctx, given.token).await?,
    };
    let row = ctx.directory().update_rig(user, &rig, patch).await?;
    Ok(answer::ok(shown(&ctx, &row).await?))
}

/// `DELETE /api/users/{u}/rigs/{r}`: what runs is stopped; the clone stays.
pub(crate) async fn delete_rig(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (user, rig) = (ctx.user()?, ctx.rig_id()?);
    ctx.directory().delete_rig(user, &rig).await?;
    Ok(answer::ok(json!({ "deleted": true })))
}

/// A rig's row, and whether it is held back.
pub(super) async fn shown(ctx: &Ctx, row: &RigRow) -> Result<Value, Failure> {
    let rig = ctx.runtime().rig(&row.id)?;
    let held = rig.look(|rig, _| rig.record().pause.clone()).await;
    let held = match held {
        // It was deleted between the two looks.
        Err(runtime::Error::Refused(Refused::Deleted)) => None,
        held => held?,
    };
    Ok(view::rig(row, held.as_ref()))
}

fn no_rig() -> Failure {
    Failure::not_found("Rig not found")
}

fn changeable(fields: &mut Fields) -> Changeable {
    let review: Option<Review> = fields.word("review", "off, manual");
    let default_branch = fields.text("default_branch", BRANCH_MAX);
    if default_branch
        .as_deref()
        .is_some_and(|branch| !is_branch(branch))
    {
        fields.issue("default_branch", "is no name of a branch");
    }
    Changeable {
        name: fields.text("name", NAME_MAX),
        default_branch,
        model: fields.text("model", MODEL_MAX),
        review: review.map(ReviewMode::from),
        token: token(fields),
    }
}

/// A token and the gateway that it is for.
fn token(fields: &mut Fields) -> Option<(Option<String>, SecretString)> {
    let gateway = fields.text("kilo_api_url", URL_MAX);
    let token = fields
        .long_text("kilocode_token", TOKEN_BYTES_MAX)
        .map(SecretString::from);
    let is_http =
        |url: &str| url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if gateway.as_deref().is_some_and(|url| !is_http(url)) {
        fields.issue("kilo_api_url", "must be an http or https URL");
    }
    if gateway.is_some() && token.is_none() {
        fields.issue("kilo_api_url", "needs kilocode_token beside it");
    }
    token.map(|token| (gateway, token))
}

/// A git URL must not carry a password: it is shown, logged and handed to programs.
fn git_url(fields: &mut Fields) -> String {
    let text = fields.required_text("git_url", URL_MAX);
    if text.starts_with('-') || text.contains(char::is_control) {
        fields.issue("git_url", "is no URL or path of a repository");
    }
    if url::Url::parse(&text).is_ok_and(|url| url.password().is_some()) {
        let fix = "must not contain a password; use a git credential helper or an SSH key";
        fields.issue("git_url", fix);
    }
    text
}

/// What git would take as an option, or refuse as a name of a branch in any case.
fn is_branch(name: &str) -> bool {
    let is_bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    !name.starts_with(['-', '/']) && !name.contains("..") && !name.contains(is_bad)
}

/// Stores a token that was given.
async fn stored(
    ctx: &Ctx,
    token: Option<(Option<String>, SecretString)>,
) -> Result<Option<CredentialSource>, Failure> {
    match token {
        None => Ok(None),
        Some((gateway, token)) => {
            let id = ctx.runtime().store_token(gateway, token).await?;
            Ok(Some(CredentialSource::Stored { id }))
        }
    }
}
