//! The review queue: what becomes of an entry, and of the bead that it is about.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use support::{Bench, commit, completed, done_report};
use wellhead_rig::{
    AgentId, Bead, BeadId, EventType, Input, NewBead, Phase, Priority, Refused, Reply, Resolution,
    ReviewEntry, ReviewId, ReviewStatus, ReviewVerdict, Status,
};

/// An unconfigured rig, which always reviews, with one slung bead.
fn slung() -> (Bench, BeadId, AgentId) {
    let mut bench = Bench::new();
    let Reply::Slung { bead, agent } = bench.ok(Input::Sling(NewBead::issue("the task"))) else {
        panic!("not slung");
    };
    (bench, bead.id, agent.id)
}

/// The same, and the agent has called it done.
fn in_review() -> (Bench, BeadId, ReviewId) {
    let (mut bench, bead, agent) = slung();
    let (dispatch, report) = (None, done_report());
    bench.ok(Input::Done {
        agent,
        dispatch,
        report,
    });
    let id = open(&bench)[0].clone();
    (bench, bead, id)
}

fn open(bench: &Bench) -> Vec<ReviewId> {
    let open = bench.rig.open_reviews();
    open.map(|entry| entry.id.clone()).collect()
}

fn entry<'b>(bench: &'b Bench, id: &ReviewId) -> &'b ReviewEntry {
    bench.rig.review(id).expect("the entry")
}

fn submit(agent: &AgentId, bead: &BeadId) -> Input {
    Input::SubmitReview {
        agent: agent.clone(),
        bead: bead.clone(),
        report: done_report(),
    }
}

fn complete(review: &ReviewId, verdict: ReviewVerdict) -> Input {
    Input::CompleteReview {
        review: review.clone(),
        verdict,
        message: "looked at".to_owned(),
        commit: Some("c0ffee".to_owned()),
    }
}

fn resolution(bead: &Bead) -> Option<Resolution> {
    match bead.phase {
        Phase::Closed { resolution, .. } => Some(resolution),
        _ => None,
    }
}

#[test]
fn a_merged_review_closes_its_bead() {
    let (mut bench, bead, review) = in_review();
    assert_eq!(entry(&bench, &review).bead, bead);
    assert_eq!(entry(&bench, &review).pr_url, done_report().pr_url);
    bench.ok(complete(&review, ReviewVerdict::Merged));
    assert_eq!(resolution(bench.bead(&bead)), Some(Resolution::Worked));
    assert_eq!(bench.bead(&bead).commit.as_deref(), Some("c0ffee"));
    let done = entry(&bench, &review);
    assert_eq!(done.status, ReviewStatus::Merged);
    assert_eq!(done.processed_at, Some(bench.now));
    for kind in [
        EventType::ReviewSubmitted,
        EventType::ReviewCompleted,
        EventType::Closed,
    ] {
        assert_eq!(bench.count(kind), 1, "{kind:?}");
    }
    assert!(bench.escalations().is_empty());
}

#[test]
fn a_conflict_opens_its_bead_and_asks_a_person_once() {
    let (mut bench, bead, review) = in_review();
    bench.ok(complete(&review, ReviewVerdict::Conflict));
    assert_eq!(bench.bead(&bead).phase, Phase::Open);
    assert_eq!(entry(&bench, &review).status, ReviewStatus::Failed);
    let again = bench.ok(complete(&review, ReviewVerdict::Conflict));
    assert_eq!(again, Reply::Repeated);
    let escalations = bench.escalations();
    assert_eq!(escalations.len(), 1);
    let branch = done_report().branch;
    assert_eq!(escalations[0].title, format!("Merge conflict: {branch}"));
    assert_eq!(escalations[0].priority, Priority::High);
    assert_eq!(escalations[0].body.as_deref(), Some("looked at"));
    let metadata = serde_json::Value::Object(escalations[0].metadata.clone());
    let agent = &entry(&bench, &review).agent;
    let expected =
        serde_json::json!({"source_bead_id": bead, "source_branch": branch, "agent_id": agent});
    assert_eq!(metadata, expected);
}

#[test]
fn a_review_ends_once() {
    let (mut bench, _, review) = in_review();
    bench.ok(complete(&review, ReviewVerdict::Merged));
    let other = bench.refused(complete(&review, ReviewVerdict::Conflict));
    assert_eq!(
        other.to_string(),
        format!("review {review} is already merged")
    );
    let unknown = ReviewId::new("nope").unwrap();
    let refused = bench.refused(complete(&unknown, ReviewVerdict::Merged));
    assert_eq!(refused, Refused::NoReview(unknown));
}

#[test]
fn a_branch_may_be_submitted_by_the_way_and_leaves_its_bead_where_it_is() {
    let (mut bench, bead, agent) = slung();
    let before = bench.bead(&bead).clone();
    bench.ok(submit(&agent, &bead));
    assert_eq!(*bench.bead(&bead), before);
    assert_eq!(bench.ok(submit(&agent, &bead)), Reply::Repeated);
    assert_eq!(open(&bench).len(), 1);
    let nobody = AgentId::new("nobody").unwrap();
    let refused = bench.refused(submit(&nobody, &bead));
    assert_eq!(refused, Refused::NoAgent(nobody));
    let review = open(&bench)[0].clone();
    bench.ok(complete(&review, ReviewVerdict::Merged));
    assert_eq!(bench.bead(&bead).status(), Status::Closed);
    bench.ok(submit(&agent, &bead));
    let late = open(&bench)[0].clone();
    let closed = bench.bead(&bead).clone();
    bench.ok(complete(&late, ReviewVerdict::Merged));
    assert_eq!(*bench.bead(&bead), closed, "closed beads stay as they are");
}

#[test]
fn a_merged_bead_with_a_session_closes_when_that_is_over() {
    let (mut bench, order) = Bench::working();
    let bead = &order.dispatch.bead;
    bench.ok(submit(&order.agent, bead));
    let review = open(&bench)[0].clone();
    bench.ok(complete(&review, ReviewVerdict::Merged));
    assert_eq!(bench.bead(bead).status(), Status::InProgress);
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    assert_eq!(bench.bead(bead).status(), Status::Closed);
}

#[test]
fn a_bead_that_leaves_its_review_by_hand_withdraws_it() {
    for status in [
        Status::Open,
        Status::InProgress,
        Status::Closed,
        Status::Failed,
    ] {
        let (mut bench, bead, review) = in_review();
        let by = None;
        bench.ok(Input::SetStatus { bead, status, by });
        assert!(open(&bench).is_empty(), "{status:?}");
        let message = entry(&bench, &review).message.clone().unwrap();
        assert!(message.contains(status.as_str()), "{message}");
    }
    let (mut bench, bead, review) = in_review();
    bench.ok(Input::DeleteBead { bead });
    let message = entry(&bench, &review).message.as_deref();
    assert_eq!(message, Some("withdrawn: the bead was deleted"));
}

#[test]
fn a_review_set_by_hand_is_an_entry_like_any_other() {
    let (mut bench, bead, agent) = slung();
    bench.ok(Input::SetStatus {
        bead: bead.clone(),
        status: Status::InReview,
        by: None,
    });
    let review = open(&bench)[0].clone();
    assert_eq!(entry(&bench, &review).agent, Some(agent));
    bench.ok(complete(&review, ReviewVerdict::Merged));
    assert_eq!(bench.bead(&bead).status(), Status::Closed);
}
