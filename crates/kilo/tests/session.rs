//! Sessions: prompts, their ends, gaps in the stream, and processes that are left in a directory.

mod support;

use kilo::{ErrorKind, Judgement, PermissionReply, SessionEnded, SessionEvent, TurnReason};
use serde_json::json;
use std::time::Duration;
use support::{Bench, GRACE, options, plain, to_end, turn, wait_for, within};

fn failed(judgement: &Judgement) -> ErrorKind {
    match judgement {
        Judgement::Failed(error) => error.kind,
        other => panic!("not failed: {other:?}"),
    }
}

fn is_output(event: &SessionEvent) -> bool {
    matches!(event, SessionEvent::Progress { output: true, .. })
}

#[tokio::test]
async fn a_turn_opens_moves_and_ends() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let (events, end) = turn(&mut session, "hello").await;
    assert_eq!(
        events
            .iter()
            .filter(|event| **event == SessionEvent::TurnOpened)
            .count(),
        1
    );
    assert!(events.iter().any(is_output));
    assert_eq!(end.reason, TurnReason::Completed);
    assert_eq!(end.text.as_deref(), Some("Hello from fake"));
    assert_eq!((end.usage.input, end.usage.output), (100, 7));
    assert!(matches!(
        end.judgement,
        Judgement::Answered {
            has_text: true,
            tools_completed: 0,
            ..
        }
    ));
    let (_, end) = turn(&mut session, "[[fake: sh echo hi > made.txt]]").await;
    assert!(
        matches!(
            end.judgement,
            Judgement::Answered {
                tools_completed: 1,
                ..
            }
        ),
        "{end:?}"
    );
    assert!(bench.work().join("made.txt").exists());
    assert_eq!(end.usage.input, 300, "cumulative");
    server.end(GRACE).await;
}

#[tokio::test]
async fn failures_have_their_kinds() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let cases = [
        ("e401", ErrorKind::Credentials),
        ("e402", ErrorKind::Billing),
        ("e403", ErrorKind::Credentials),
        ("e429", ErrorKind::RateLimited),
        ("e500", ErrorKind::GatewayDown),
        ("e400", ErrorKind::Other),
        ("malformed", ErrorKind::Other),
        ("cut", ErrorKind::Other),
        ("no-model", ErrorKind::ModelNotFound),
        ("no-agent", ErrorKind::Other),
        ("lie", ErrorKind::Credentials),
    ];
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    for (mode, kind) in cases {
        let (_, end) = turn(&mut session, &format!("[[fake: {mode}]]")).await;
        assert_eq!(failed(&end.judgement), kind, "{mode}");
    }
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_missing_credential_is_a_failed_turn_and_a_failed_preflight() {
    let bench = Bench::new(&plain()).without_token();
    let server = bench.start().await;
    assert_eq!(
        server.check_model("fake/ok").await.unwrap_err().kind(),
        ErrorKind::Credentials
    );
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let (_, end) = turn(&mut session, "hello").await;
    assert_eq!(failed(&end.judgement), ErrorKind::Credentials);
    assert!(!end.model_output);
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_model_that_is_not_listed_fails_the_preflight() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    assert_eq!(
        server.check_model("nope").await.unwrap_err().kind(),
        ErrorKind::ModelNotFound
    );
    server.end(GRACE).await;
}

#[tokio::test]
async fn nothing_and_half_done_are_not_answers() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let (_, end) = turn(&mut session, "[[fake: empty]]").await;
    assert_eq!(
        (end.reason, &end.judgement),
        (TurnReason::Completed, &Judgement::Empty)
    );
    // C11: a gateway that tells no usage says nothing by that; what it cost is unknown.
    let (_, end) = turn(&mut session, "[[fake: zero]]").await;
    assert!(
        matches!(&end.judgement, Judgement::Answered { has_text: true, .. }),
        "{end:?}"
    );
    assert_eq!(end.usage.unreported_steps, 1);
    let (_, end) = turn(&mut session, "[[fake: length]]").await;
    assert!(
        matches!(end.judgement, Judgement::Unfinished { .. }),
        "{end:?}"
    );
    server.end(GRACE).await;
}

#[tokio::test]
async fn an_aborted_turn_is_interrupted() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    session
        .prompt("[[fake: hang-mid]]", &options())
        .await
        .unwrap();
    assert!(
        session.prompt("again", &options()).await.is_err(),
        "a second prompt while one runs"
    );
    wait_for(&mut session, is_output).await;
    session.abort().await.unwrap();
    let (_, end) = to_end(&mut session).await;
    assert_eq!(
        (end.reason, end.judgement),
        (TurnReason::Interrupted, Judgement::Interrupted)
    );
    let (_, end) = turn(&mut session, "next").await;
    assert_eq!(end.reason, TurnReason::Completed);
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_lost_stream_is_made_up_for() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let (events, end) = turn(&mut session, "[[fake: drop]]").await;
    assert_eq!(end.reason, TurnReason::Completed);
    assert_eq!(end.text.as_deref(), Some("Hello from fake"));
    assert!(events.contains(&SessionEvent::TurnOpened), "{events:?}");
    let (_, end) = turn(&mut session, "[[fake: drop]] [[fake: e402]]").await;
    assert_eq!(
        (end.reason, failed(&end.judgement)),
        (TurnReason::Error, ErrorKind::Billing)
    );
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_question_asked_while_the_stream_was_lost_is_told() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    session
        .prompt("[[fake: drop]] [[fake: question]]", &options())
        .await
        .unwrap();
    let asked = wait_for(&mut session, |event| {
        matches!(event, SessionEvent::QuestionAsked { .. })
    })
    .await;
    let SessionEvent::QuestionAsked { id, text } = asked else {
        panic!("{asked:?}")
    };
    assert_eq!(text, "Which colour?");
    session.reject_question(&id).await.unwrap();
    let (_, end) = to_end(&mut session).await;
    assert_eq!(end.reason, TurnReason::Completed);
    assert!(
        matches!(end.judgement, Judgement::Unfinished { .. }),
        "{end:?}"
    );
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_turn_that_vanishes_is_unfinished() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let (_, end) = turn(&mut session, "[[fake: lost]]").await;
    assert_eq!(end.reason, TurnReason::Unfinished);
    assert!(
        matches!(end.judgement, Judgement::Unfinished { .. }),
        "{end:?}"
    );
    assert!(end.model_output);
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_disposed_directory_interrupts_without_a_close() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let (_, end) = turn(&mut session, "[[fake: dispose]]").await;
    assert_eq!(end.reason, TurnReason::Interrupted);
    server.end(GRACE).await;
}

#[tokio::test]
async fn doubled_and_late_frames_end_no_other_turn() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    turn(&mut session, "[[fake: dup]]").await;
    // The late double of the close above arrives while this one sleeps.
    let (events, end) = turn(&mut session, "[[fake: sleep 300]] [[fake: say second]]").await;
    assert_eq!(end.text.as_deref(), Some("second"));
    assert_eq!(
        events
            .iter()
            .filter(|event| **event == SessionEvent::TurnOpened)
            .count(),
        1
    );
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_child_session_moves_but_does_not_end_the_turn() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    let (events, end) = turn(
        &mut session,
        "[[fake: child]] [[fake: sleep 100]] [[fake: say parent]]",
    )
    .await;
    assert_eq!(end.text.as_deref(), Some("parent"));
    assert!(events.iter().any(is_output));
    server.end(GRACE).await;
}

#[tokio::test]
async fn what_waits_for_an_answer_is_told_once_and_can_be_answered() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    session
        .prompt(
            "[[fake: permission]] [[fake: offline]] [[fake: retry 2]]",
            &options(),
        )
        .await
        .unwrap();
    let (mut permissions, mut offline, mut retries) = (0, 0, Vec::new());
    let end = loop {
        match within("an event", session.next()).await {
            SessionEvent::PermissionAsked { id, text } => {
                permissions += 1;
                assert_eq!(text, "bash: sleep 300");
                session
                    .reply_permission(&id, PermissionReply::Once)
                    .await
                    .unwrap();
            }
            SessionEvent::Offline { request_id, .. } => {
                offline += 1;
                session.retry_network(&request_id).await.unwrap();
            }
            SessionEvent::Retrying {
                attempt, status, ..
            } => retries.push((attempt, status)),
            SessionEvent::TurnEnd(end) => break end,
            _ => {}
        }
    };
    assert_eq!((permissions, offline), (1, 1));
    assert_eq!(retries, [(1, Some(429)), (2, Some(429))]);
    assert_eq!(end.reason, TurnReason::Completed);
    session
        .prompt("[[fake: offline]]", &options())
        .await
        .unwrap();
    let event = wait_for(&mut session, |event| {
        matches!(event, SessionEvent::Offline { .. })
    })
    .await;
    let SessionEvent::Offline { request_id, .. } = event else {
        panic!("{event:?}")
    };
    session.reject_network(&request_id).await.unwrap();
    assert_eq!(
        failed(&to_end(&mut session).await.1.judgement),
        ErrorKind::GatewayDown
    );
    server.end(GRACE).await;
}

#[tokio::test]
async fn a_prompt_that_opens_nothing_says_nothing() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    session
        .prompt("[[fake: no-turn]]", &options())
        .await
        .unwrap();
    // The deadline for the first event is the caller's.
    let quiet = tokio::time::timeout(Duration::from_millis(300), async {
        wait_for(&mut session, |event| {
            !matches!(event, SessionEvent::Progress { .. })
        })
        .await
    });
    assert!(quiet.await.is_err());
    server.end(GRACE).await;
}

#[tokio::test]
async fn the_server_going_away_is_told_whatever_its_exit_code() {
    for (mode, code, signal) in [("crash", None, Some(9)), ("exit0", Some(0), None)] {
        let bench = Bench::new(&plain());
        let server = bench.start().await;
        let mut session = server.open_session(&bench.work(), "t").await.unwrap();
        session
            .prompt(&format!("[[fake: {mode}]]"), &options())
            .await
            .unwrap();
        let event = wait_for(&mut session, |event| {
            matches!(
                event,
                SessionEvent::ServerGone(_) | SessionEvent::TurnEnd(_)
            )
        })
        .await;
        let SessionEvent::ServerGone(info) = event else {
            panic!("{mode}: {event:?}")
        };
        assert_eq!((info.code, info.signal), (code, signal), "{mode}");
        assert!(matches!(session.end(GRACE).await, SessionEnded::Proven(_)));
    }
}

#[tokio::test]
async fn a_session_is_resumed_by_a_new_server() {
    let bench = Bench::new(&plain());
    let first = bench.start().await;
    let mut session = first.open_session(&bench.work(), "t").await.unwrap();
    let untold = first.open_session(&bench.work(), "u").await.unwrap();
    session.prompt("[[fake: crash]]", &options()).await.unwrap();
    wait_for(&mut session, |event| {
        matches!(event, SessionEvent::ServerGone(_))
    })
    .await;
    let second = bench.start().await;
    let mut resumed = second
        .resume_session(session.id(), &bench.work())
        .await
        .unwrap()
        .unwrap();
    assert!(resumed.has_history().await.unwrap());
    let untold = second.resume_session(untold.id(), &bench.work()).await;
    let untold = untold.unwrap().unwrap();
    assert!(
        !untold.has_history().await.unwrap(),
        "it never got its task"
    );
    let (_, end) = turn(&mut resumed, "go on").await;
    assert_eq!(end.text.as_deref(), Some("Hello from fake"));
    assert!(
        second
            .resume_session("ses_nope", &bench.work())
            .await
            .unwrap()
            .is_none()
    );
    second.end(GRACE).await;
}

#[tokio::test]
async fn the_end_of_a_session_is_proven_and_ends_what_it_left_behind() {
    let bench = Bench::new(&plain());
    let server = bench.start().await;
    let elsewhere = bench.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut other = server.open_session(&elsewhere, "other").await.unwrap();
    turn(&mut other, "[[fake: grandchild]]").await;
    let mut session = server.open_session(&bench.work(), "t").await.unwrap();
    session
        .prompt("[[fake: grandchild]] [[fake: hang]]", &options())
        .await
        .unwrap();
    wait_for(&mut session, |event| {
        matches!(event, SessionEvent::Progress { tool: Some(tool), .. } if tool.state == kilo::ToolStatus::Completed)
    })
    .await;
    let mut stranger = std::process::Command::new("sleep")
        .arg("600")
        .current_dir(bench.work())
        .spawn()
        .unwrap();
    let SessionEnded::Proven(swept) = session.end(GRACE).await else {
        panic!("still busy")
    };
    assert_eq!((swept.ended, swept.survivors.len()), (1, 0), "{swept:?}");
    assert_eq!(swept.foreign, [stranger.id()]);
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "a stranger was signalled"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    // The server itself and the other session's process.
    assert_eq!(bench.left().len(), 2);
    server.end(GRACE).await;
    assert!(bench.left().is_empty());
}

#[tokio::test]
async fn a_stream_that_always_breaks_is_not_asked_in_a_hot_loop() {
    let bench = Bench::new(&json!({ "closeEvents": true }));
    let server = bench.start().await;
    let mut events = server.events();
    let counted = tokio::time::timeout(Duration::from_secs(2), async {
        let mut connects = 0;
        while let Some(event) = kilo::EventFeed::next(&mut events).await {
            connects += usize::from(*event == kilo::Event::Reconnected);
            assert!(connects < 12, "{connects} connects");
        }
    });
    assert!(counted.await.is_err());
    server.end(GRACE).await;
}
