//! Towns of a user.

use actix_web::HttpResponse;
use serde_json::json;

use crate::http::{answer, ctx::Ctx, failure::Failure, input::Body, once::Ticket, view};

/// The longest name of a town or a rig, in characters.
pub(super) const NAME_MAX: usize = 64;

/// `POST /api/users/{u}/towns`.
pub(crate) async fn create(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let user = ctx.user()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let name = fields.required_text("name", NAME_MAX);
    fields.finish()?;
    let once = ticket.as_ref().map(Ticket::once);
    let town = ctx.directory().create_town_once(user, &name, once).await?;
    Ok(answer::created(view::town(&town)))
}

/// `DELETE /api/users/{u}/towns/{t}`: only a town without rigs.
pub(crate) async fn delete(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (user, town) = (ctx.user()?, ctx.town_id()?);
    ctx.directory().delete_town(user, &town).await?;
    Ok(answer::ok(json!({ "deleted": true })))
}

/// `GET /api/users/{u}/towns`: oldest first.
pub(crate) async fn list(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let mut query = ctx.query();
    let page = query.page(100);
    query.finish()?;
    let towns = ctx.directory().towns(ctx.user()?).await?;
    Ok(answer::ok(page.of(towns.iter().map(view::town))))
}

/// `GET /api/users/{u}/towns/{t}`.
pub(crate) async fn show(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let town = ctx.directory().town(ctx.user()?, &ctx.town_id()?).await?;
    town.map(|town| answer::ok(view::town(&town)))
        .ok_or_else(|| Failure::not_found("Town not found"))
}

/// `GET /api/users/{u}/towns/{t}/rigs`: oldest first.
pub(crate) async fn rigs(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (user, town) = (ctx.user()?, ctx.town_id()?);
    let mut query = ctx.query();
    let page = query.page(100);
    query.finish()?;
    if ctx.directory().town(user, &town).await?.is_none() {
        return Err(Failure::not_found("Town not found"));
    }
    let rigs = ctx.directory().rigs(user, &town).await?;
    let mut shown = Vec::new();
    for row in page.of(rigs.iter()) {
        shown.push(super::users::shown(&ctx, row).await?);
    }
    Ok(answer::ok(shown))
}
