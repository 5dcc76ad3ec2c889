//! What work may cost, what it has cost, and what is left.

use actix_web::HttpResponse;
use rig::{Budget, Input};

use crate::http::{answer, ctx::Ctx, failure::Failure, input::Body, view};

/// `GET R/budget`.
pub(crate) async fn of_rig(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let shown = rig.look(|rig, now| view::budget(rig.record(), now)).await?;
    Ok(answer::ok(shown))
}

/// `PUT R/budget`: the whole budget; what is left out or `null` is not limited.
pub(crate) async fn set_of_rig(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut fields = body.fields()?;
    let budget = Budget {
        bead: fields.limit("bead"),
        day: fields.limit("day"),
    };
    fields.finish()?;
    let by = ctx.who();
    rig.tell(Input::SetBudget { budget, by }).await?;
    of_rig(ctx).await
}

/// `GET /api/towns/{t}/budget`.
pub(crate) async fn of_town(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let town = ctx.town().await?;
    Ok(answer::ok(town.look(view::town_budget).await?))
}

/// `PUT /api/towns/{t}/budget`: the limit of the day alone.
pub(crate) async fn set_of_town(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let mut fields = body.fields()?;
    let day = fields.limit("day");
    fields.finish()?;
    let town = ctx.town().await?;
    town.set_day(day, ctx.who()).await?;
    tracing::info!(by = %ctx.who(), %day, "a town's budget was set");
    Ok(answer::ok(town.look(view::town_budget).await?))
}
