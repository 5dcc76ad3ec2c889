//! The stand-in sends what the real program was recorded to send, in the same order.
//!
//! Without this, the other tests would only prove that two of our own programs agree.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use kilo::{
    Event, EventFeed, PermissionReply, Server, Session, SessionEvent, SessionStatus, Subscription,
    ToolPart, parse_frame,
};
use std::time::Duration;
use support::{Bench, GRACE, options, plain, root, wait_for, within};

/// What an event is, without its ids and texts; `None` for what differs by machine and settings.
fn name(event: &Event) -> Option<String> {
    Some(match event {
        Event::TurnOpened { .. } => "turn.open".to_owned(),
        Event::TurnClosed { reason, .. } => format!("turn.close {reason:?}"),
        Event::Status { status, .. } => match status {
            SessionStatus::Retry { .. } => "retry".to_owned(),
            SessionStatus::Offline { .. } => "offline".to_owned(),
            other => format!("{other:?}"),
        },
        Event::Error { error, .. } => format!("error {}", error["name"]),
        Event::Message(info) if info.role == "assistant" => format!(
            "assistant {:?} done {} failed {}",
            info.finish,
            info.time.completed.is_some(),
            info.error.is_some()
        ),
        Event::Part { part, .. } if part.synthetic || part.kind == "patch" => return None,
        Event::Part { part, .. } => {
            let state = part
                .state
                .as_ref()
                .map(|ToolPart { status, .. }| status.as_str());
            format!("part {} {}", part.kind, state.unwrap_or_default())
        }
        Event::Delta { .. } => "delta".to_owned(),
        Event::PermissionAsked(_) => "permission".to_owned(),
        Event::QuestionAsked(_) => "question".to_owned(),
        Event::NetworkAsked(_) => "network".to_owned(),
        Event::Answered { .. } => "answered".to_owned(),
        Event::Reconnected
        | Event::Gap
        | Event::SessionCreated(_)
        | Event::SessionDeleted { .. }
        | Event::Message(_)
        | Event::Disposed { .. } => return None,
    })
}

/// From the opened turn to the last frame that belongs to it.
fn order<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<String> {
    let mut names: Vec<String> = events
        .filter_map(name)
        .skip_while(|name| name != "turn.open")
        .collect();
    names.dedup();
    // A step's first status and the housekeeping around it come in no fixed number.
    names.retain(|name| name != "Busy");
    names.dedup();
    names
}

fn recorded(trace: &str) -> Vec<String> {
    let path = root()
        .join("tests/fixtures/kilo-7.7.7")
        .join(format!("{trace}.sse"));
    let text = std::fs::read_to_string(path).unwrap();
    let frames = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Event> = frames.filter_map(|data| parse_frame(data)?.event).collect();
    order(events.iter())
}

/// Reads until as much was seen as in the recording; what is missing shows in the comparison.
async fn sent(events: &mut Subscription, like: &[String]) -> Vec<String> {
    let mut seen = Vec::new();
    let read = async {
        while order(seen.iter()).len() < like.len()
            && let Some(event) = events.next().await
        {
            seen.push((*event).clone());
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await;
    order(seen.iter())
}

/// Until the assistant's message has begun.
async fn wait_for_message(server: &Server, session: &Session) {
    within("the message", async {
        while server
            .client()
            .messages(session.id(), session.dir(), 9)
            .await
            .unwrap()
            .len()
            < 2
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_order_of_events_is_the_recorded_one() {
    let cases = [
        ("ok", "ok"),
        ("empty", "empty"),
        ("e401", "e401"),
        ("e402", "e402"),
        ("malformed", "malformed"),
        ("tool-bash", "sh true"),
        ("question-reject", "question"),
        ("permission-reject", "permission"),
        ("hang-mid-abort", "hang-mid"),
        ("hang-abort", "hang"),
    ];
    for (trace, directive) in cases {
        let bench = Bench::new(&plain());
        let server = bench.start().await;
        let mut session = server.open_session(&bench.work(), "t").await.unwrap();
        let mut events = server.events();
        session
            .prompt(&format!("[[fake: {directive}]]"), &options())
            .await
            .unwrap();
        let wanted = |event: &SessionEvent| match directive {
            "question" => matches!(event, SessionEvent::QuestionAsked { .. }),
            "permission" => matches!(event, SessionEvent::PermissionAsked { .. }),
            "hang-mid" => matches!(event, SessionEvent::Progress { output: true, .. }),
            // After the first message has begun, as in the recording.
            _ => matches!(event, SessionEvent::Progress { .. }),
        };
        match wait_for(&mut session, wanted).await {
            SessionEvent::QuestionAsked { id, .. } => session.reject_question(&id).await.unwrap(),
            SessionEvent::PermissionAsked { id, .. } => {
                session
                    .reply_permission(&id, PermissionReply::Reject)
                    .await
                    .unwrap();
            }
            _ if directive.starts_with("hang") => {
                wait_for_message(&server, &session).await;
                session.abort().await.unwrap();
            }
            _ => {}
        }
        let recorded = recorded(trace);
        assert!(recorded.len() > 3, "{trace}: {recorded:?}");
        assert_eq!(sent(&mut events, &recorded).await, recorded, "{trace}");
        server.end(GRACE).await;
    }
}
