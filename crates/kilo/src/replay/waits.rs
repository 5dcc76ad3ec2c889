//! What waits for an answer or for the gateway: told once, and not when nothing waits any more.
//!
//! Test code only.

use super::play::{Play, SECONDS, interrupted, nudged, second_open};
use super::{events, replay};
use crate::event::Event;
use crate::judge::TurnReason;
use crate::redact::Redactor;
use crate::seen::Seen;
use crate::session_event::SessionEvent;
use crate::turn::{Turn, Want};
use crate::wire::{Ask, Message, SessionStatus};

#[test]
fn each_offline_wait_is_told_once_and_leaving_it_is_progress() {
    let events = events("offline-again");
    let mut play = Play::new(&events, SECONDS[0]);
    play.turn.aborted();
    for event in &events {
        if matches!(event, Event::Message(info) if info.role == "user") && play.status.is_none() {
            // One second passed before the next prompt.
            play.wait();
            if play.ends.len() == 1 && play.turn.is_idle() {
                play.prompt();
            }
        }
        let from = play.told.len();
        play.play(std::slice::from_ref(event));
        if matches!(event, Event::Answered { .. }) {
            let progress = SessionEvent::Progress {
                output: false,
                tool: None,
            };
            assert_eq!(play.told[from..], [progress]);
        }
    }
    play.wait();
    let waits = play.told.iter().filter_map(|told| match told {
        SessionEvent::Offline { request_id, .. } => Some(request_id),
        SessionEvent::Retrying { .. } => panic!("{told:?}"),
        _ => None,
    });
    let mut waits: Vec<_> = waits.collect();
    waits.dedup();
    assert_eq!(waits.len(), 3, "{waits:?}");
    let offline = play.told.iter();
    let offline = offline.filter(|told| matches!(told, SessionEvent::Offline { .. }));
    assert_eq!(offline.count(), 3);
    assert_eq!(play.ends[0].reason, TurnReason::Interrupted);
    nudged(&play, "offline-again");
}

#[test]
fn an_aborted_offline_wait_whose_close_was_lost_is_interrupted() {
    let events = events("offline-again");
    let mut play = Play::new(&events, SECONDS[0]);
    play.turn.aborted();
    for event in &events[..second_open(&events)] {
        if !matches!(event, Event::TurnClosed { .. }) {
            play.feed(event);
        }
    }
    play.wait();
    interrupted(&play);
}

fn ask(id: &str, session: &str, message: Option<&str>) -> Ask {
    Ask {
        id: id.to_owned(),
        session_id: session.to_owned(),
        text: "bash: sleep 300".to_owned(),
        message_id: message.map(str::to_owned),
    }
}

fn asked(turn: &mut Turn, seen: &Seen) -> Vec<String> {
    let wants = turn.catch_up(seen).into_iter();
    wants
        .filter_map(|want| match want {
            Want::Tell(
                SessionEvent::PermissionAsked { id, .. }
                | SessionEvent::QuestionAsked { id, .. }
                | SessionEvent::Offline { request_id: id, .. },
            ) => Some(id),
            _ => None,
        })
        .collect()
}

#[test]
fn what_an_abort_left_in_the_lists_is_not_told() {
    let mut turn = Turn::new("ses_a".to_owned(), "/w".to_owned(), Redactor::default());
    turn.prompted();
    let mut seen = Seen {
        permissions: vec![ask("per_stale", "ses_a", Some("msg_before"))],
        questions: vec![ask("que_other", "ses_other", None)],
        ..Seen::default()
    };
    assert!(asked(&mut turn, &seen).is_empty(), "nothing waits");
    seen.statuses
        .insert("ses_a".to_owned(), SessionStatus::Busy);
    assert!(asked(&mut turn, &seen).is_empty(), "it waits for nothing");
    let now = r#"{"info": {"id": "msg_now", "sessionID": "ses_a", "role": "assistant"}}"#;
    seen.messages.push(serde_json::from_str(now).unwrap());
    seen.permissions
        .push(ask("per_now", "ses_a", Some("msg_now")));
    seen.questions.push(ask("que_now", "ses_a", None));
    assert_eq!(asked(&mut turn, &seen), ["per_now", "que_now"]);
    assert!(asked(&mut turn, &seen).is_empty(), "told twice");
    let offline = SessionStatus::Offline {
        request_id: "que_net".to_owned(),
        message: "gone".to_owned(),
    };
    seen.statuses.insert("ses_a".to_owned(), offline);
    assert_eq!(asked(&mut turn, &seen), ["que_net"]);
    assert!(asked(&mut turn, &seen).is_empty(), "told twice");
}

#[test]
fn a_child_session_that_waits_is_told_after_a_gap_too() {
    let mut turn = Turn::new("ses_a".to_owned(), "/w".to_owned(), Redactor::default());
    turn.prompted();
    let child = r#"{"id": "ses_child", "parentID": "ses_a", "directory": "/w"}"#;
    turn.on_event(&Event::SessionCreated(serde_json::from_str(child).unwrap()));
    let at_work = |turn: &Turn| {
        turn.children_at_work()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let step = |done: &str| {
        let text = format!(
            r#"{{"info": {{"id": "msg_1", "sessionID": "ses_child", "role": "assistant", "time": {{"completed": {done}}},
            "tokens": {{"input": {}}}}}, "parts": []}}"#,
            if done == "null" { 0 } else { 5 }
        );
        serde_json::from_str::<Message>(&text).unwrap()
    };
    turn.on_event(&Event::Message(step("null").info));
    assert_eq!(at_work(&turn), ["ses_child"]);
    let offline = SessionStatus::Offline {
        request_id: "que_net".to_owned(),
        message: "gone".to_owned(),
    };
    let stale = Seen {
        statuses: [("ses_a".to_owned(), SessionStatus::Busy)].into(),
        permissions: vec![ask("per_stale", "ses_child", Some("msg_1"))],
        ..Seen::default()
    };
    assert!(asked(&mut turn, &stale).is_empty(), "the child is idle");
    let seen = Seen {
        statuses: [("ses_child".to_owned(), offline)].into(),
        of_children: vec![step("2")],
        ..Seen::default()
    };
    assert_eq!(asked(&mut turn, &seen), ["que_net"]);
    assert!(at_work(&turn).is_empty());
    assert_eq!(turn.finish(TurnReason::Completed, &[]).usage.input, 5);
}

#[test]
fn permissions_of_both_versions_are_told_once_with_their_message() {
    for name in ["permission-once", "kilo-7.0.33/permission"] {
        let events = events(name);
        let mut play = Play::new(&events, SECONDS[0]);
        for event in &events {
            play.feed(event);
            // Told by the list as well.
            if let Event::PermissionAsked(ask) = event {
                assert!(ask.message_id.is_some(), "{name}");
                play.feed(event);
            }
        }
        let told = play.told.iter();
        let told = told.filter(|told| matches!(told, SessionEvent::PermissionAsked { .. }));
        assert_eq!(told.count(), 1, "{name}");
    }
}

#[test]
fn a_retry_names_the_status_that_its_words_mean_and_no_other() {
    for (name, wanted) in [("e429ra", Some(429)), ("e500", None), ("flaky500", None)] {
        let (told, _) = replay(name);
        let retries = told.iter().filter_map(|event| match event {
            SessionEvent::Retrying {
                attempt,
                next_at_ms,
                status,
                ..
            } => Some((*attempt, *next_at_ms, *status)),
            _ => None,
        });
        let retries: Vec<_> = retries.collect();
        assert!(retries.len() >= 2, "{name}");
        for (n, (attempt, next_at_ms, status)) in retries.iter().enumerate() {
            assert_eq!((*attempt, *status), (n as u64 + 1, wanted), "{name}");
            assert!(*next_at_ms > 1_700_000_000_000, "{name}: {next_at_ms}");
        }
        assert!(retries.windows(2).all(|two| two[0].1 < two[1].1), "{name}");
    }
}
