//! A turn that is aborted and the prompt after it, in the recorded orders of both versions, with
//! late doubles put in at each place.
//!
//! Test code only.

use super::events;
use super::play::{Play, SECONDS, interrupted, is_open, nudged, second_open};
use crate::event::Event;
use crate::judge::{Judgement, TurnReason};
use crate::redact::Redactor;
use crate::session_event::SessionEvent;
use crate::turn::{Look, Turn, Verdict};
use crate::wire::SessionStatus;

const TRACES: [&str; 4] = [
    "nudge",
    "nudge-tool",
    "kilo-7.0.33/nudge",
    "kilo-7.0.33/nudge-tool",
];

fn cases() -> impl Iterator<Item = (&'static str, usize)> {
    let each = TRACES.into_iter();
    each.flat_map(|name| SECONDS.map(|a_while| (name, a_while)))
}

#[test]
fn a_session_is_prompted_again_as_soon_as_its_abort_is_told() {
    for (name, a_while) in cases() {
        let events = events(name);
        let mut play = Play::new(&events, a_while);
        play.turn.aborted();
        let first_end = events
            .iter()
            .position(|event| {
                play.feed(event);
                !play.ends.is_empty()
            })
            .unwrap();
        interrupted(&play);
        assert_eq!(play.ends[0].reason, TurnReason::Interrupted, "{name}");
        let late = &events[first_end + 1..second_open(&events)];
        let idles = late.iter().filter(
            |event| matches!(event, Event::Status { status, .. } if *status == SessionStatus::Idle),
        );
        assert!(
            idles.count() >= 1,
            "{name}: the trace has lost its late doubles"
        );
        play.prompt();
        for event in &events[first_end + 1..] {
            play.feed(event);
            // Whatever the hint was: the server is asked, and the turn goes on.
            if play.ends.len() == 1 && !is_open(event) {
                play.look(Look::Resync);
            }
        }
        play.wait();
        nudged(&play, name);
        let opened = play.told.iter();
        let opened = opened.filter(|told| **told == SessionEvent::TurnOpened);
        assert_eq!(opened.count(), 2, "{name}");
    }
}

#[test]
fn a_late_double_of_the_aborted_turn_ends_no_other_wherever_it_comes() {
    for (name, a_while) in cases() {
        let events = events(name);
        let is_close = |event: &Event| matches!(event, Event::TurnClosed { .. });
        let first_end = events.iter().position(is_close).unwrap();
        let second_end = events.iter().rposition(is_close).unwrap();
        for at in first_end + 1..second_end {
            let mut play = Play::new(&events, a_while);
            play.turn.aborted();
            play.play(&events[..=at]);
            if play.ends.is_empty() {
                continue;
            }
            play.late_double(TurnReason::Interrupted);
            play.play(&events[at + 1..]);
            play.wait();
            nudged(&play, &format!("{name} at {at}"));
        }
    }
}

#[test]
fn a_turn_that_was_stopped_before_its_first_message_ends_all_the_same() {
    let events = events("abort-at-open");
    let answers = |event: &&Event| matches!(event, Event::Message(info) if info.role != "user");
    assert_eq!(events.iter().filter(answers).count(), 0);
    let mut play = Play::new(&events, SECONDS[0]);
    for event in &events {
        play.feed(event);
    }
    play.wait();
    interrupted(&play);
}

#[test]
fn a_prompt_that_was_stopped_before_it_opened_a_turn_is_over() {
    let events = events("abort-at-once");
    assert!(!events.iter().any(is_open), "the trace has a turn");
    for was_aborted in [false, true] {
        let mut play = Play::new(&events, SECONDS[0]);
        if was_aborted {
            play.turn.aborted();
        }
        for event in &events {
            play.feed(event);
        }
        play.wait();
        // Without an abort it may still be on its way.
        assert_eq!(play.turn.is_idle(), was_aborted);
        if was_aborted {
            interrupted(&play);
        }
    }
}

#[test]
fn a_late_error_of_the_turn_before_is_not_the_next_ones() {
    let error = serde_json::json!({"name": "UnknownError", "data": {"message": "stack trace"}});
    for (name, a_while) in cases() {
        let events = events(name);
        let open = second_open(&events);
        let mut play = Play::new(&events, a_while);
        play.turn.aborted();
        play.play(&events[..open]);
        play.wait();
        let session = play.id.clone();
        let error = error.clone();
        play.feed(&Event::Error { session, error });
        play.play(&events[open..]);
        play.wait();
        nudged(&play, name);
    }
}

#[test]
fn an_error_before_the_open_is_a_reason_only_for_want_of_another() {
    let error = serde_json::json!({"name": "ProviderAuthError", "data": {"message": "no key"}});
    let session = || "ses_a".to_owned();
    let mut turn = Turn::new(session(), "/w".to_owned(), Redactor::default());
    turn.prompted();
    let early = Event::Error {
        session: session(),
        error,
    };
    turn.on_event(&early);
    assert_eq!(
        turn.weigh(None, &[], Look::Resync),
        Verdict::Unclear(Look::Resync)
    );
    turn.on_event(&Event::TurnOpened { session: session() });
    // The open is news: what was unclear before it counts no more.
    let close = Look::Close(TurnReason::Error);
    assert_eq!(turn.weigh(None, &[], close), Verdict::Unclear(close));
    assert_eq!(
        turn.weigh(None, &[], close),
        Verdict::Over(TurnReason::Error)
    );
    let end = turn.finish(TurnReason::Error, &[]);
    assert!(
        matches!(&end.judgement, Judgement::Failed(error) if error.text == "no key"),
        "{end:?}"
    );
}

#[test]
fn late_output_of_the_turn_before_is_not_the_next_ones() {
    let session = || "ses_a".to_owned();
    let mut turn = Turn::new(session(), "/w".to_owned(), Redactor::default());
    let delta = Event::Delta {
        session: session(),
        message: "msg_old".to_owned(),
    };
    for is_own in [false, true] {
        turn.prompted();
        turn.on_event(&delta);
        turn.on_event(&Event::TurnOpened { session: session() });
        if is_own {
            turn.on_event(&delta);
        }
        let end = turn.finish(TurnReason::Error, &[]);
        assert_eq!(end.model_output, is_own);
    }
}
