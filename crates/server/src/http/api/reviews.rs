//! The review queue: submitted, listed, completed.

use actix_web::HttpResponse;
use rig::{DoneReport, Input, Reply, ReviewEntry, ReviewStatus, ReviewVerdict, Rig};
use runtime::Json;
use serde_json::json;

use crate::http::{
    answer,
    ctx::{Ctx, agent_id, bead_id},
    failure::Failure,
    input::Body,
    once, view,
};

use super::{beads::ID_MAX, reports::done_report};

const MESSAGE_MAX: usize = 64 * 1024;
const COMMIT_MAX: usize = 64;
const STATUSES: &str = "pending, running, merged, failed";

/// `POST R/review-queue`.
pub(crate) async fn submit(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let ticket = ctx.once(&body)?;
    let mut fields = body.fields()?;
    let agent = fields.required_text("agent_id", ID_MAX);
    let bead = fields.required_text("bead_id", ID_MAX);
    let report: DoneReport = done_report(&mut fields);
    fields.finish()?;
    ctx.check_named("agent_id", Some(&agent))?;
    let input = Input::SubmitReview {
        agent: agent_id(&agent)?,
        bead: bead_id(&bead)?,
        report,
    };
    let show = |_: &Rig, _: &Reply, _| Json::of(&json!({ "submitted": true }));
    let submitted = once::tell(&rig, ticket.as_ref(), input, show).await?;
    Ok(answer::created_text(&submitted))
}

/// `GET R/review-queue`: oldest first.
pub(crate) async fn list(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut query = ctx.query();
    let status: Option<ReviewStatus> = query.word("status", STATUSES);
    let page = query.page(100);
    query.finish()?;
    let is_wanted = move |entry: &&ReviewEntry| status.is_none_or(|status| entry.status == status);
    let found = rig
        .look(move |rig, _| {
            let entries = page.of(rig.reviews().filter(is_wanted));
            entries.into_iter().map(view::review).collect::<Vec<_>>()
        })
        .await?;
    Ok(answer::ok(found))
}

/// `POST R/review-queue/{id}/complete`.
pub(crate) async fn complete(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let mut fields = body.fields()?;
    let verdict = fields
        .required_word("status", "merged, conflict")
        .unwrap_or(ReviewVerdict::Conflict);
    if !fields.has("message") {
        fields.issue("message", "is required");
    }
    let message = fields.long_text("message", MESSAGE_MAX).unwrap_or_default();
    let commit = fields.text("commit_sha", COMMIT_MAX);
    fields.finish()?;
    let input = Input::CompleteReview {
        review: ctx.review_id()?,
        verdict,
        message,
        commit,
    };
    rig.tell(input).await?;
    Ok(answer::ok(json!({ "completed": true })))
}
