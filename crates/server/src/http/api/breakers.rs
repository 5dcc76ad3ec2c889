//! Breakers: a rig's own one with the shared ones that it depends on, and all of a town.

use actix_web::HttpResponse;
use rig::{Input, Reply, Rig, Timestamp, town::TownInput};
use runtime::Json;
use serde_json::{Value, json};

use crate::http::{answer, ctx::Ctx, failure::Failure, input::Body, once, once::Ticket, view};

/// `GET R/breaker`.
pub(crate) async fn of_rig(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let show = |rig: &Rig, _| {
        let record = rig.record();
        let mut shown = view::breaker(&record.breaker);
        shown["hold"] = view::hold(record.hold.as_ref());
        shown
    };
    let mut shown = ctx.rig()?.look(show).await?;
    let scopes = ctx.runtime().breakers_of(&ctx.rig_id()?).await?;
    let scopes = scopes
        .iter()
        .map(|(scope, guard)| view::shared(scope, guard.as_ref()));
    shown["scopes"] = scopes.collect();
    Ok(answer::ok(shown))
}

/// `POST R/breaker/reset`: tried again at once, closed by the model's output alone.
pub(crate) async fn reset_of_rig(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    body.fields_or_none()?;
    let input = Input::ResetBreaker { by: ctx.who() };
    let show = |rig: &Rig, _: &Reply, _: Timestamp| Json::of(&view::breaker(&rig.record().breaker));
    let shown = once::tell(&rig, ticket.as_ref(), input, show).await?;
    Ok(answer::ok_text(&shown))
}

/// `GET /api/towns/{t}/breakers`: the open ones first.
pub(crate) async fn of_town(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let town = ctx.town().await?;
    let show = |town: &rig::town::Town, _| view::guards(town, |_| true).collect::<Vec<Value>>();
    Ok(answer::ok(town.look(show).await?))
}

/// `POST /api/towns/{t}/breakers/reset`: all of them are looked at again at once.
pub(crate) async fn reset_of_town(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    body.fields_or_none()?;
    let town = ctx.town().await?;
    tracing::info!(by = %ctx.who(), "a town's breakers are looked at again");
    let once = ticket.as_ref().map(Ticket::once);
    let show = |town: &rig::town::Town, _: Timestamp| {
        Json::of(&json!(view::guards(town, |_| true).collect::<Vec<_>>()))
    };
    let input = TownInput::Reset {
        scopes: None,
        by: ctx.who(),
    };
    let shown = town.tell_once(input, once, show).await?;
    Ok(answer::ok_text(&shown))
}
