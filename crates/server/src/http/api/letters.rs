//! Messages that were given up after many tries: listed, sent again, or dropped by a person.

use actix_web::HttpResponse;
use runtime::Letter;
use serde_json::{Value, json};

use crate::http::{answer, ctx::Ctx, failure::Failure, input::Body, view};

/// `GET /api/dead-letters`.
pub(crate) async fn list(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let letters = ctx.runtime().dead_letters().await?;
    Ok(answer::ok(letters.iter().map(shown).collect::<Vec<_>>()))
}

/// `POST /api/dead-letters/{sender}/{id}/{seq}/retry`: it is sent again, under its old number.
pub(crate) async fn retry(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    settle(&ctx, body, true).await?;
    Ok(answer::ok(json!({ "sent": true })))
}

/// `POST /api/dead-letters/{sender}/{id}/{seq}/drop`: it is gone for good.
pub(crate) async fn discard(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    settle(&ctx, body, false).await?;
    Ok(answer::ok(json!({ "dropped": true })))
}

async fn settle(ctx: &Ctx, body: Body, again: bool) -> Result<(), Failure> {
    body.fields_or_none()?;
    let unknown = || Failure::not_found("Dead letter not found");
    let (sender, id, seq) = ctx.letter().ok_or_else(unknown)?;
    let runtime = ctx.runtime();
    let settled = runtime.settle_dead_letter(sender, id, seq, again).await?;
    settled.then_some(()).ok_or_else(unknown)
}

fn shown(letter: &Letter) -> Value {
    json!({
        "sender": letter.sender,
        "id": letter.id,
        "seq": letter.seq,
        "what": letter.what,
        "reason": letter.reason,
        "tries": letter.tries,
        "first_tried_at": view::time(letter.first_tried_at),
        "last_tried_at": view::time(letter.last_tried_at),
    })
}
