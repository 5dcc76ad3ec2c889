//! The recorded traces of the real program, run through parsing, the turn and the judge.
//!
//! Test code only. What these traces show is the truth that the rest is written against.

mod again;
mod play;
mod usage;
mod waits;

use crate::error::ErrorKind;
use crate::event::{Event, parse_frame};
use crate::judge::{Judgement, TurnReason, judge};
use crate::redact::Redactor;
use crate::repeats::Repeats;
use crate::session_event::{SessionEvent, ToolState, ToolStatus, TurnEnd};
use crate::turn::{Turn, Want};
use crate::wire::Message;
use std::path::{Path, PathBuf};

/// By its name, which may have the version before it.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(if name.contains('/') {
            "."
        } else {
            "kilo-7.7.7"
        })
        .join(name)
}

fn events(name: &str) -> Vec<Event> {
    let text = std::fs::read_to_string(fixture(&format!("{name}.sse"))).unwrap();
    let frames = text.lines().filter_map(|line| line.strip_prefix("data: "));
    frames
        .filter_map(|data| parse_frame(data).expect(data).event)
        .collect()
}

fn messages(name: &str) -> Vec<Message> {
    let text = std::fs::read_to_string(fixture(&format!("{name}.messages.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What a session of the trace tells, each turn ended with the messages read afterwards.
fn replay(name: &str) -> (Vec<SessionEvent>, Vec<TurnEnd>) {
    let events = events(name);
    let messages = messages(name);
    let id = messages.first().unwrap().info.session_id.clone();
    let mut turn = Turn::new(id, "/w/repo".to_owned(), Redactor::default());
    turn.prompted();
    let (mut told, mut ends) = (Vec::new(), Vec::new());
    for event in &events {
        for want in turn.on_event(event) {
            match want {
                Want::Tell(event) => told.push(event),
                Want::Close(reason) => {
                    ends.push(turn.finish(reason, &messages));
                    turn.prompted();
                }
                Want::Resync | Want::ResyncSoon => {}
            }
        }
    }
    (told, ends)
}

fn only_end(name: &str) -> TurnEnd {
    let (_, mut ends) = replay(name);
    assert_eq!(ends.len(), 1, "{name}");
    ends.remove(0)
}

fn error_of(name: &str) -> (ErrorKind, Option<u16>) {
    match only_end(name) {
        TurnEnd {
            reason: TurnReason::Error,
            judgement: Judgement::Failed(error),
            ..
        } => (error.kind, error.status),
        end => panic!("{name}: {end:?}"),
    }
}

#[test]
fn answers_are_answers() {
    for (name, tools) in [
        ("ok", 0),
        ("flaky500", 0),
        ("tool-bash", 2),
        ("tool-write", 2),
        ("permission-once", 2),
        ("question-reply", 1),
    ] {
        let end = only_end(name);
        assert_eq!(end.text.as_deref(), Some("Hello from fake"), "{name}");
        assert!(end.model_output, "{name}");
        assert!(
            end.usage.input >= 100 && end.usage.output >= 7,
            "{name}: {:?}",
            end.usage
        );
        match end.judgement {
            Judgement::Answered {
                has_text: true,
                tools_completed,
                ..
            } => {
                assert!(tools_completed <= tools, "{name}: {tools_completed}");
                assert_eq!(tools_completed == 0, tools == 0, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn errors_have_their_kinds() {
    assert_eq!(error_of("e401"), (ErrorKind::Credentials, Some(401)));
    assert_eq!(error_of("e402"), (ErrorKind::Billing, Some(402)));
    assert_eq!(error_of("e403"), (ErrorKind::Credentials, Some(403)));
    assert_eq!(error_of("e429ra"), (ErrorKind::RateLimited, Some(429)));
    assert_eq!(error_of("e500"), (ErrorKind::GatewayDown, Some(500)));
    assert_eq!(error_of("malformed"), (ErrorKind::Other, None));
    assert_eq!(
        error_of("nocreds-kilo-model"),
        (ErrorKind::Credentials, Some(401))
    );
}

#[test]
fn errors_without_output_show_none() {
    for name in ["e401", "e402", "e403", "e500", "nocreds-kilo-model"] {
        assert!(!only_end(name).model_output, "{name}");
    }
    assert!(only_end("malformed").model_output);
}

#[test]
fn an_empty_turn_is_empty_whatever_kilo_calls_it() {
    let end = only_end("empty");
    assert_eq!(
        (end.reason, end.judgement),
        (TurnReason::Completed, Judgement::Empty)
    );
    assert!(!end.model_output);
}

#[test]
fn aborts_are_interruptions() {
    for name in ["hang-abort", "hang-mid-abort", "tool-sleep-abort"] {
        let end = only_end(name);
        assert_eq!(
            (end.reason, end.judgement),
            (TurnReason::Interrupted, Judgement::Interrupted),
            "{name}"
        );
    }
}

#[test]
fn a_rejected_request_leaves_a_turn_unfinished() {
    for name in ["question-reject", "permission-reject"] {
        let end = only_end(name);
        assert_eq!(end.reason, TurnReason::Completed, "{name}");
        assert!(
            matches!(end.judgement, Judgement::Unfinished { .. }),
            "{name}: {:?}",
            end.judgement
        );
    }
}

#[test]
fn requests_are_told_once() {
    for (name, wanted) in [
        ("permission-once", "bash"),
        ("question-reply", "Which colour?"),
    ] {
        let (told, _) = replay(name);
        let texts: Vec<&str> = told
            .iter()
            .filter_map(|event| match event {
                SessionEvent::PermissionAsked { text, .. }
                | SessionEvent::QuestionAsked { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(texts.len(), 1, "{name}: {texts:?}");
        assert!(
            texts[0].contains(wanted) || texts[0].contains("external_directory"),
            "{texts:?}"
        );
    }
}

#[test]
fn an_offline_wait_is_told_and_its_rejection_is_the_gateways_fault() {
    let (told, ends) = replay("gateway-down-reject");
    let offline = told
        .iter()
        .filter(|event| matches!(event, SessionEvent::Offline { .. }))
        .count();
    // The answer in this trace was for an older request of another session: ours still waits.
    assert_eq!((offline, ends.len()), (1, 0));
    let other = "ses_dfdabfdc1ffet85o2OG8SD5i6v".to_owned();
    let mut turn = Turn::new(other.clone(), "/w/repo".to_owned(), Redactor::default());
    turn.prompted();
    turn.on_event(&Event::TurnOpened { session: other });
    let wants = events("gateway-down-reject")
        .iter()
        .flat_map(|event| turn.on_event(event))
        .collect::<Vec<_>>();
    assert!(wants.contains(&Want::Close(TurnReason::Error)), "{wants:?}");
    let end = turn.finish(TurnReason::Error, &[]);
    assert!(
        matches!(&end.judgement, Judgement::Failed(error) if error.kind == ErrorKind::GatewayDown)
    );
}

#[test]
fn retries_are_told_with_their_times() {
    let (told, _) = replay("e429ra");
    let attempts: Vec<u64> = told
        .iter()
        .filter_map(|event| match event {
            SessionEvent::Retrying {
                attempt,
                next_at_ms,
                status: Some(429),
                ..
            } if *next_at_ms > 0 => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
}

#[test]
fn tools_are_told_through_their_states() {
    let (told, _) = replay("tool-bash");
    let mut states: Vec<ToolStatus> = told
        .iter()
        .filter_map(|event| match event {
            SessionEvent::Progress {
                output: true,
                tool: Some(tool),
            } if tool.name == "bash" => Some(tool.state),
            _ => None,
        })
        .collect();
    states.dedup();
    assert_eq!(
        states,
        [
            ToolStatus::Pending,
            ToolStatus::Running,
            ToolStatus::Completed
        ]
    );
}

#[test]
fn a_call_has_one_fingerprint_and_counts_once() {
    for (name, tool) in [("tool-bash", "bash"), ("question-reply", "question")] {
        let (told, _) = replay(name);
        let calls: Vec<ToolState> = told
            .into_iter()
            .filter_map(|event| match event {
                SessionEvent::Progress { tool, .. } => tool,
                _ => None,
            })
            .filter(|state| state.name == tool)
            .collect();
        for state in &calls {
            let is_pending = state.state == ToolStatus::Pending;
            assert_eq!(state.input.is_none(), is_pending, "{name}: {state:?}");
        }
        let mut inputs: Vec<_> = calls.iter().filter_map(|state| state.input).collect();
        inputs.dedup();
        assert_eq!(inputs.len(), 1, "{name}");
        let mut repeats = Repeats::default();
        assert_eq!(calls.iter().map(|state| repeats.note(state)).max(), Some(1));
    }
}

#[test]
fn the_spinner_is_no_output() {
    let (told, _) = replay("ok");
    let first = told
        .iter()
        .position(|event| matches!(event, SessionEvent::Progress { output: true, .. }))
        .unwrap();
    let before = events("ok")
        .iter()
        .filter(|event| matches!(event, Event::Part { part, .. } if part.synthetic))
        .count();
    assert!(before > 0, "the trace has lost its spinner");
    let opened = told
        .iter()
        .position(|event| *event == SessionEvent::TurnOpened)
        .unwrap();
    assert!(first > opened + before, "{first} {opened} {before}");
}

#[test]
fn the_unknown_agent_opens_no_turn_and_the_unknown_model_does() {
    let events = events("api-errors");
    let agent = events.iter().position(|event| matches!(event, Event::Error { error, .. } if error.to_string().contains("Agent not found"))).unwrap();
    let after = &events[agent..];
    assert!(
        !after
            .iter()
            .any(|event| matches!(event, Event::TurnOpened { .. }))
    );
    let closes = events
        .iter()
        .filter(|event| {
            matches!(
                event,
                Event::TurnClosed {
                    reason: TurnReason::Error,
                    ..
                }
            )
        })
        .count();
    assert!(closes >= 2, "{closes}");
    let models = events.iter().filter_map(|event| match event {
        Event::Error { error, .. } => Some(crate::error::classify(error)),
        _ => None,
    });
    let models = models
        .filter(|error| error.kind == ErrorKind::ModelNotFound)
        .count();
    assert_eq!(models, 4);
}

#[test]
fn the_streams_of_two_directories_are_told_apart() {
    let events = events("global-two-dirs");
    let opened = events
        .iter()
        .filter(|event| matches!(event, Event::TurnOpened { .. }))
        .count();
    let closed = events
        .iter()
        .filter(|event| matches!(event, Event::TurnClosed { .. }))
        .count();
    assert!(opened > 1 && closed > 1, "{opened} {closed}");
    let disposed = events.iter().filter(
        |event| matches!(event, Event::Disposed { directory } if directory.starts_with("/w/repo")),
    );
    assert!(disposed.count() >= 2);
    // A session hears nothing of the others.
    let mut turn = Turn::new(
        "ses_other".to_owned(),
        "/elsewhere".to_owned(),
        Redactor::default(),
    );
    turn.prompted();
    assert!(events.iter().all(|event| turn.on_event(event).is_empty()));
}

#[test]
fn a_crashed_turn_is_seen_in_its_messages() {
    let messages = messages("after-sigkill-restart");
    assert_eq!(crate::judge::reason_of(&messages), TurnReason::Unfinished);
    assert!(matches!(
        judge(TurnReason::Unfinished, &[], &messages),
        Judgement::Unfinished { .. }
    ));
    // What the spinner left behind is no output.
    assert!(!crate::judge::has_output(&messages));
}

#[test]
fn what_comes_after_a_completed_turn_is_no_progress() {
    for name in ["ok", "tool-bash", "e401", "malformed"] {
        let messages = messages(name);
        let id = messages.first().unwrap().info.session_id.clone();
        let mut turn = Turn::new(id, "/w/repo".to_owned(), Redactor::default());
        turn.prompted();
        let mut late = Vec::new();
        let mut over = false;
        for event in &events(name) {
            for want in turn.on_event(event) {
                match want {
                    Want::Close(reason) => {
                        turn.finish(reason, &messages);
                        over = true;
                    }
                    Want::Tell(told @ SessionEvent::Progress { .. }) if over => late.push(told),
                    Want::Tell(_) | Want::Resync | Want::ResyncSoon => {}
                }
            }
        }
        assert!(over && late.is_empty(), "{name}: {late:?}");
    }
}
