//! A busy session is stopped and prompted again, and one that waits for the gateway asks again.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use kilo::{Judgement, PromptError, Repeats, SessionEvent, TurnReason};
use std::time::Duration;
use support::{Bench, GRACE, options, plain, to_end, turn, wait_for};

fn opened(events: &[SessionEvent]) -> usize {
    let opened = events.iter();
    opened
        .filter(|event| **event == SessionEvent::TurnOpened)
        .count()
}

#[tokio::test]
async fn an_aborted_turn_gives_way_to_the_next_prompt_at_once() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    assert!(!session.is_turn_open());
    for (busy, doubled) in [
        ("[[fake: hang]]", ""),
        ("[[fake: hang-mid]]", ""),
        ("[[fake: sh sleep 60]]", ""),
        ("[[fake: permission]]", ""),
        ("[[fake: offline]]", ""),
        // From now on each frame comes twice, and each close once more 50 ms later.
        ("[[fake: hang-mid]]", "[[fake: dup]]"),
        ("[[fake: sh sleep 60]]", ""),
    ] {
        let prompt = format!("{doubled} {busy}");
        session.prompt(&prompt, &options()).await.unwrap();
        wait_for(&mut session, |event| *event == SessionEvent::TurnOpened).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(session.is_turn_open());
        let refused = session.prompt("too early", &options()).await;
        assert_eq!(refused, Err(PromptError::TurnOpen));
        session.abort().await.unwrap();
        let (_, end) = to_end(&mut session).await;
        assert_eq!(end.judgement, Judgement::Interrupted, "{busy}");
        assert!(!session.is_turn_open());
        let (events, end) = turn(&mut session, "[[fake: sleep 200]] [[fake: say on]]").await;
        assert_eq!(end.reason, TurnReason::Completed, "{busy}: {end:?}");
        assert_eq!(end.text.as_deref(), Some("on"), "{busy}");
        assert_eq!(opened(&events), 1, "{busy}");
    }
    server.end(GRACE).await;
}

#[tokio::test]
async fn an_abort_before_the_turn_opened_ends_it_too() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    session
        .prompt("[[fake: no-turn]]", &options())
        .await
        .unwrap();
    session.abort().await.unwrap();
    let (_, end) = to_end(&mut session).await;
    assert_eq!(end.judgement, Judgement::Interrupted);
    let (_, end) = turn(&mut session, "[[fake: say on]]").await;
    assert_eq!(end.text.as_deref(), Some("on"));
    server.end(GRACE).await;
}

#[tokio::test]
async fn each_wait_for_the_gateway_is_told_by_its_own_id() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let waits = "[[fake: offline]] [[fake: drop]] [[fake: offline]] [[fake: offline]]";
    session.prompt(waits, &options()).await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < 3 {
        let event = wait_for(&mut session, |event| {
            matches!(event, SessionEvent::Offline { .. })
        });
        let SessionEvent::Offline { request_id, .. } = event.await else {
            unreachable!()
        };
        session.retry_network(&request_id).await.unwrap();
        assert!(!ids.contains(&request_id), "told twice");
        ids.push(request_id);
    }
    let (_, end) = to_end(&mut session).await;
    assert_eq!(end.reason, TurnReason::Completed);
    // A wait that was aborted stays in kilo's list, and is not told after a gap.
    session
        .prompt("[[fake: offline]]", &options())
        .await
        .unwrap();
    wait_for(&mut session, |event| {
        matches!(event, SessionEvent::Offline { .. })
    })
    .await;
    session.abort().await.unwrap();
    to_end(&mut session).await;
    let session_id = session.id().to_owned();
    let again = server.resume_session(&session_id, &bench.work()).await;
    let mut again = again.unwrap().unwrap();
    let (events, end) = turn(&mut again, "[[fake: drop]] [[fake: sleep 1000]]").await;
    assert_eq!(end.reason, TurnReason::Completed);
    let offline = |event: &&SessionEvent| matches!(event, SessionEvent::Offline { .. });
    assert_eq!(events.iter().find(offline), None);
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_loop_shows_in_the_tools() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let prompt = "[[fake: sh true]] ".repeat(4) + "[[fake: sh false]]";
    let (events, _) = turn(&mut session, &prompt).await;
    let mut repeats = Repeats::default();
    let counts = events.iter().filter_map(|event| match event {
        SessionEvent::Progress {
            tool: Some(tool), ..
        } => Some(repeats.note(tool)),
        _ => None,
    });
    let mut counts: Vec<u32> = counts.collect();
    counts.dedup();
    assert_eq!(counts, [0, 1, 2, 3, 4, 1]);
    server.end(GRACE).await;
}
