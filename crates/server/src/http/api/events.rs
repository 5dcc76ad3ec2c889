//! Events of a rig, and of all rigs of a town.
//!
//! Owns the cursor: an event's id (exact) or a time. Events are read from disk, page by page.

use actix_web::HttpResponse;
use rig::{BeadEvent, RigId, Timestamp};
use runtime::RigStub;
use serde_json::Value;

use crate::http::{answer, ctx::Ctx, failure::Failure, input::Query, view};

/// Events read at once.
const CHUNK: usize = 500;

/// `GET R/events`: oldest first.
pub(crate) async fn of_rig(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (id, rig) = (ctx.rig_id()?, ctx.rig()?);
    let mut query = ctx.query();
    let since = since(&mut query, true);
    let bead = query.text("bead_id");
    let page = query.page(100);
    query.finish()?;
    // A deleted rig has none to show; events are read past it, from disk.
    rig.look(|_, _| ()).await?;
    let from = first_after(&rig, since).await?;
    let wanted = |event: &BeadEvent| {
        bead.as_deref().is_none_or(|wanted| {
            event
                .bead_id
                .as_ref()
                .is_some_and(|id| id.as_str() == wanted)
        })
    };
    let found = read(&rig, from, page.offset.saturating_add(page.limit), wanted).await?;
    let shown = page
        .of(found.iter())
        .into_iter()
        .map(|event| view::event(&id, event));
    Ok(answer::ok(shown.collect::<Vec<_>>()))
}

/// `GET /api/users/{u}/towns/{t}/events`: oldest first, ties by rig and then by number.
pub(crate) async fn of_town(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let (user, town) = (ctx.user()?.to_owned(), ctx.town_id()?);
    let mut query = ctx.query();
    let since = since(&mut query, false);
    let page = query.page(100);
    query.finish()?;
    let directory = ctx.directory();
    if directory.town(&user, &town).await?.is_none() {
        return Err(Failure::not_found("Town not found"));
    }
    let wanted = page.offset.saturating_add(page.limit);
    let mut found: Vec<(Timestamp, RigId, u64, Value)> = Vec::new();
    for row in directory.rigs(&user, &town).await? {
        let rig = ctx.runtime().rig(&row.id)?;
        let from = first_after(&rig, since).await?;
        for event in read(&rig, from, wanted, |_| true).await? {
            let shown = view::event(&row.id, &event);
            found.push((event.created_at, row.id.clone(), event.no, shown));
        }
    }
    found.sort_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
    Ok(answer::ok(
        page.of(found.into_iter().map(|(_, _, _, value)| value)),
    ))
}

/// After which event or time.
#[derive(Clone, Copy, Debug)]
enum Since {
    Start,
    Event(u64),
    Time(Timestamp),
}

fn since(query: &mut Query, has_ids: bool) -> Since {
    let Some(text) = query.text("since") else {
        return Since::Start;
    };
    if has_ids && let Ok(no) = text.parse() {
        return Since::Event(no);
    }
    // A plus that was not encoded arrives as a space.
    if let Some(at) = view::parse_time(&text.replace(' ', "+")) {
        return Since::Time(at);
    }
    query.issue(
        "since",
        if has_ids {
            "must be an event id or an RFC 3339 time"
        } else {
            "must be an RFC 3339 time"
        },
    );
    Since::Start
}

/// The number of the first event after the cursor. Times never go back within a rig, so the place
/// of a time is found by halving.
async fn first_after(rig: &RigStub, since: Since) -> Result<u64, Failure> {
    let at = match since {
        Since::Start => return Ok(1),
        Since::Event(no) => return Ok(no.saturating_add(1)),
        Since::Time(at) => at,
    };
    let last = rig.look(|rig, _| rig.record().event_no).await?;
    let (mut low, mut high) = (1, last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let event = rig.events(middle, 1).await?;
        if event.first().is_some_and(|event| event.created_at <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Up to `limit` events from the number `from` on that are wanted.
async fn read(
    rig: &RigStub,
    mut from: u64,
    limit: usize,
    wanted: impl Fn(&BeadEvent) -> bool,
) -> Result<Vec<BeadEvent>, Failure> {
    let mut found = Vec::new();
    while found.len() < limit {
        let events = rig.events(from, CHUNK).await?;
        let is_last = events.len() < CHUNK;
        from = events
            .last()
            .map_or(from, |event| event.no.saturating_add(1));
        found.extend(events.into_iter().filter(|event| wanted(event)));
        if is_last {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}
