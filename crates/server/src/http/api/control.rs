//! Pause, stop and resume of a rig and of a town. Each stays in force over restarts.

use actix_web::HttpResponse;
use rig::{Input, PauseMode, Reply, Rig, Timestamp, town::TownInput};
use runtime::Json;
use serde_json::{Value, json};

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    input::{Body, Fields},
    once,
    once::Ticket,
    view,
};

/// The longest reason, in characters.
const REASON_MAX: usize = 500;
const MODES: &str = "pause, stop";

/// `POST R/pause`: nothing new is dispatched; with `mode: "stop"` what runs ends too.
pub(crate) async fn pause_rig(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    hold_rig(ctx, body, None).await
}

/// `POST R/stop`: what runs ends as well, its work saved; it is continued after the resume.
pub(crate) async fn stop_rig(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    hold_rig(ctx, body, Some(PauseMode::Stop)).await
}

/// `POST R/resume`.
pub(crate) async fn resume_rig(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    body.fields_or_none()?;
    let by = ctx.who();
    tell_rig(&ctx, ticket, Input::Resume { by }).await
}

async fn hold_rig(ctx: Ctx, body: Body, mode: Option<PauseMode>) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    let (mode, reason) = read(body.fields_or_none()?, mode)?;
    let by = ctx.who();
    tell_rig(&ctx, ticket, Input::Pause { mode, by, reason }).await
}

async fn tell_rig(
    ctx: &Ctx,
    ticket: Option<Ticket>,
    input: Input,
) -> Result<HttpResponse, Failure> {
    let show = |rig: &Rig, _: &Reply, _: Timestamp| {
        let paused = view::pause(rig.record().pause.as_ref());
        Json::of(&held(&paused, rig.running().count()))
    };
    let shown = once::tell(&ctx.rig()?, ticket.as_ref(), input, show).await?;
    Ok(answer::ok_text(&shown))
}

/// `POST /api/towns/{t}/pause`: as that of a rig, for all of them.
pub(crate) async fn pause_town(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    hold_town(ctx, body, None).await
}

/// `POST /api/towns/{t}/stop`.
pub(crate) async fn stop_town(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    hold_town(ctx, body, Some(PauseMode::Stop)).await
}

/// `POST /api/towns/{t}/resume`.
pub(crate) async fn resume_town(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    body.fields_or_none()?;
    let by = ctx.who();
    tell_town(&ctx, ticket, TownInput::Resume { by }).await
}

async fn hold_town(ctx: Ctx, body: Body, mode: Option<PauseMode>) -> Result<HttpResponse, Failure> {
    let ticket = ctx.once(&body)?;
    let (mode, reason) = read(body.fields_or_none()?, mode)?;
    let by = ctx.who();
    tell_town(&ctx, ticket, TownInput::Pause { mode, by, reason }).await
}

async fn tell_town(
    ctx: &Ctx,
    ticket: Option<Ticket>,
    input: TownInput,
) -> Result<HttpResponse, Failure> {
    let town = ctx.town().await?;
    let word = match &input {
        TownInput::Pause { mode, .. } => mode.as_str(),
        _ => "resumed",
    };
    tracing::info!(by = %ctx.who(), "a town was {word}");
    let once = ticket.as_ref().map(Ticket::once);
    let show = |town: &rig::town::Town, _: Timestamp| {
        let paused = view::pause(town.record().pause.as_ref());
        Json::of(&held(&paused, town.taken_count()))
    };
    let shown = town.tell_once(input, once, show).await?;
    Ok(answer::ok_text(&shown))
}

/// What the answer says: what holds from now on, and how many sessions are not over yet.
fn held(paused: &Value, running: usize) -> Value {
    json!({ "paused": paused, "running": running })
}

fn read(
    mut fields: Fields,
    fixed: Option<PauseMode>,
) -> Result<(PauseMode, Option<String>), Failure> {
    let reason = fields.text("reason", REASON_MAX);
    let mode = fixed.or_else(|| fields.word("mode", MODES));
    fields.finish()?;
    Ok((mode.unwrap_or(PauseMode::Pause), reason))
}
