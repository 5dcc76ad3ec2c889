//! The review queue: submitted, completed, withdrawn.
//!
//! Owns every change of an entry, and that a bead is in review exactly as long as its entry is
//! open. An entry that was submitted for a bead by the way leaves that bead where it is.

use serde_json::json;

use super::{
    draft::{Draft, NewEvent},
    intake, orders,
};
use crate::{
    AgentId, BeadId, DoneReport, EventType, NewBead, Order, Phase, Priority, REVIEWS_OPEN_MAX,
    Refused, Reply, Resolution, ReviewEntry, ReviewId, ReviewStatus, ReviewVerdict,
};

/// Makes a pending entry; whoever calls says what becomes of the bead.
pub(super) fn make_entry(
    draft: &mut Draft<'_>,
    bead: &BeadId,
    agent: Option<&AgentId>,
    report: DoneReport,
) -> ReviewId {
    let created_at = draft.stamp();
    let id = ReviewId::generate(created_at, draft.record().event_no, draft.nonce());
    draft.put_review(ReviewEntry {
        id: id.clone(),
        agent: agent.cloned(),
        bead: bead.clone(),
        branch: report.branch,
        pr_url: report.pr_url,
        summary: report.summary,
        status: ReviewStatus::Pending,
        created_at,
        processed_at: None,
        message: None,
        commit: None,
    });
    id
}

fn submitted_event(draft: &mut Draft<'_>, bead: &BeadId, agent: Option<&AgentId>, branch: String) {
    let mut event = NewEvent::of(EventType::ReviewSubmitted, bead);
    event.agent = agent;
    event.new = Some(branch);
    draft.event(event);
}

/// Puts a bead into review, with its one event.
pub(super) fn submit_bead(
    draft: &mut Draft<'_>,
    id: &BeadId,
    agent: Option<&AgentId>,
    report: DoneReport,
) -> Result<(), Refused> {
    let branch = report.branch.clone();
    let review = make_entry(draft, id, agent, report);
    submitted_event(draft, id, agent, branch);
    draft.bead_mut(id)?.phase = Phase::InReview { review };
    Ok(())
}

/// An agent submits a branch by the way: of any bead, which stays where it is.
pub(super) fn submit(
    draft: &mut Draft<'_>,
    agent: AgentId,
    bead: &BeadId,
    report: DoneReport,
) -> Result<Reply, Refused> {
    if draft.agent(&agent).is_none() {
        return Err(Refused::NoAgent(agent));
    }
    if draft.bead(bead).is_none() {
        return Err(Refused::NoBead(bead.clone()));
    }
    let is_same = |entry: &ReviewEntry| {
        entry.bead == *bead
            && entry.agent.as_ref() == Some(&agent)
            && (&entry.branch, &entry.pr_url, &entry.summary)
                == (&report.branch, &report.pr_url, &report.summary)
    };
    if draft.open_reviews().any(is_same) {
        return Ok(Reply::Repeated);
    }
    if draft.open_reviews().count() >= REVIEWS_OPEN_MAX {
        return Err(Refused::Conflict(format!(
            "this rig has {REVIEWS_OPEN_MAX} open reviews; complete some of them first"
        )));
    }
    let branch = report.branch.clone();
    make_entry(draft, bead, Some(&agent), report);
    submitted_event(draft, bead, Some(&agent), branch);
    Ok(Reply::Accepted)
}

pub(super) fn complete(
    draft: &mut Draft<'_>,
    id: &ReviewId,
    verdict: ReviewVerdict,
    message: String,
    commit: Option<String>,
) -> Result<Reply, Refused> {
    let entry = draft.review(id).cloned();
    let entry = entry.ok_or_else(|| Refused::NoReview(id.clone()))?;
    let status = match verdict {
        ReviewVerdict::Merged => ReviewStatus::Merged,
        ReviewVerdict::Conflict => ReviewStatus::Failed,
    };
    if !entry.is_open() {
        let is_same = entry.status == status
            && entry.message.as_deref() == Some(message.as_str())
            && entry.commit == commit;
        let word = entry.status.as_str();
        return if is_same {
            Ok(Reply::Repeated)
        } else {
            Err(Refused::Conflict(format!("review {id} is already {word}")))
        };
    }
    let entry = ReviewEntry {
        status,
        processed_at: Some(draft.stamp()),
        message: Some(message),
        commit,
        ..entry
    };
    draft.put_review(entry.clone());
    completed_event(draft, &entry, verdict);
    match verdict {
        ReviewVerdict::Merged => close_merged(draft, &entry)?,
        ReviewVerdict::Conflict => hand_back(draft, &entry)?,
    }
    Ok(Reply::Accepted)
}

fn completed_event(draft: &mut Draft<'_>, entry: &ReviewEntry, verdict: ReviewVerdict) {
    let mut event = NewEvent::of(EventType::ReviewCompleted, &entry.bead);
    event.agent = entry.agent.as_ref();
    event.new = Some(verdict.as_str().to_owned());
    event.metadata = json!({
        "review_id": entry.id, "branch": entry.branch, "message": entry.message,
        "commit_sha": entry.commit,
    });
    draft.event(event);
}

/// A merged branch closes its bead; one with a session when that is over, a terminal one never.
fn close_merged(draft: &mut Draft<'_>, entry: &ReviewEntry) -> Result<(), Refused> {
    let (id, at) = (&entry.bead, draft.now());
    let Some(bead) = draft.bead(id).filter(|bead| !bead.is_terminal()) else {
        return Ok(());
    };
    if bead.run().is_some() {
        return match orders::order(draft, id, Order::Close, entry.agent.as_ref()) {
            // It is being deleted: there will be nothing to close.
            Err(Refused::Conflict(_)) => Ok(()),
            other => other,
        };
    }
    let bead = draft.bead_mut(id)?;
    bead.branch.get_or_insert_with(|| entry.branch.clone());
    if entry.commit.is_some() {
        bead.commit.clone_from(&entry.commit);
    }
    bead.phase = Phase::Closed {
        at,
        resolution: Resolution::Worked,
    };
    orders::closed_event(draft, id, entry.agent.as_ref(), "merged");
    Ok(())
}

/// A conflict opens the bead that waited for this review, and asks a person.
fn hand_back(draft: &mut Draft<'_>, entry: &ReviewEntry) -> Result<(), Refused> {
    let waited = draft.bead(&entry.bead).is_some_and(
        |bead| matches!(&bead.phase, Phase::InReview { review } if *review == entry.id),
    );
    if waited {
        orders::set_phase(draft, &entry.bead, Phase::Open, None)?;
    }
    let mut metadata = serde_json::Map::new();
    metadata.insert("source_bead_id".to_owned(), json!(entry.bead));
    metadata.insert("source_branch".to_owned(), json!(entry.branch));
    metadata.insert("agent_id".to_owned(), json!(entry.agent));
    let new = NewBead {
        body: entry.message.clone(),
        priority: Priority::High,
        metadata,
        ..NewBead::issue(format!("Merge conflict: {}", entry.branch))
    };
    intake::escalate(draft, new);
    Ok(())
}

/// At the end of each step: a review that nothing waits for any more is over.
pub(super) fn withdraw(draft: &mut Draft<'_>) {
    let left = draft.left_review();
    let gone: Vec<BeadId> = draft.deleted_beads().cloned().collect();
    let is_over = |entry: &&ReviewEntry| gone.contains(&entry.bead) || left.contains(&entry.id);
    if left.is_empty() && gone.is_empty() {
        return;
    }
    let over: Vec<ReviewEntry> = draft.open_reviews().filter(is_over).cloned().collect();
    for entry in over {
        let status = draft.bead(&entry.bead).map(|bead| bead.status().as_str());
        let message = match status {
            Some(status) => format!("withdrawn: the bead is {status}"),
            None => "withdrawn: the bead was deleted".to_owned(),
        };
        let processed_at = Some(draft.stamp());
        draft.put_review(ReviewEntry {
            status: ReviewStatus::Failed,
            processed_at,
            message: Some(message),
            ..entry
        });
    }
}
