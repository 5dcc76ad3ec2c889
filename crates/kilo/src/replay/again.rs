//! A turn that is aborted and the prompt after it, in the recorded orders of both versions, with
//! late doubles put in at each place.
//!
//! Test code only. `Play` does what `session` does; how long its second is, frames tell.

use super::events;
use crate::event::Event;
use crate::judge::{Judgement, TurnReason};
use crate::redact::Redactor;
use crate::seen::Seen;
use crate::session_event::{SessionEvent, TurnEnd};
use crate::turn::{Turn, Verdict, Want};
use crate::wire::{Ask, Message, SessionStatus};

const TRACES: [&str; 4] = [
    "nudge",
    "nudge-tool",
    "kilo-7.0.33/nudge",
    "kilo-7.0.33/nudge-tool",
];

/// A session whose server answers by what the trace has shown so far.
struct Play {
    id: String,
    turn: Turn,
    status: Option<SessionStatus>,
    all: Vec<Message>,
    /// How many of them were there before the prompt.
    before: usize,
    a_while: usize,
    /// What to look at again, and after how many frames.
    due: Option<(usize, Look)>,
    told: Vec<SessionEvent>,
    ends: Vec<TurnEnd>,
}

/// A close with the number of its look, or a resync.
type Look = Option<(TurnReason, u8)>;

/// All of an abort within one second, and an abort that takes some.
const SECONDS: [usize; 2] = [6, 60];

impl Play {
    fn new(events: &[Event], a_while: usize) -> Self {
        let id = events
            .iter()
            .find_map(|event| match event {
                Event::TurnOpened { session } | Event::Status { session, .. } => Some(session),
                _ => None,
            })
            .unwrap()
            .clone();
        let mut turn = Turn::new(id.clone(), "/w/repo".to_owned(), Redactor::default());
        turn.prompted();
        Self {
            id,
            turn,
            status: None,
            all: Vec::new(),
            before: 0,
            a_while,
            due: None,
            told: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn prompt(&mut self) {
        assert!(self.turn.is_idle());
        self.before = self.all.len();
        self.due = None;
        self.turn.prompted();
    }

    fn feed(&mut self, event: &Event) {
        self.keep(event);
        for want in self.turn.on_event(event) {
            match want {
                Want::Tell(told) => self.told.push(told),
                Want::Close(reason) => self.look(Some((reason, 1))),
                Want::Resync => self.look(None),
                Want::ResyncSoon => self.soon(None),
            }
        }
        self.pass();
    }

    fn soon(&mut self, look: Look) {
        self.due = Some(match self.due {
            None => (self.a_while, look),
            Some((at, known)) => (at, look.or(known)),
        });
    }

    /// The time of one frame.
    fn pass(&mut self) {
        match self.due.take() {
            Some((0, closed)) => self.look(closed),
            Some((frames, closed)) => self.due = Some((frames - 1, closed)),
            None => {}
        }
    }

    fn play(&mut self, events: &[Event]) {
        for event in events {
            let was_first = self.ends.is_empty();
            self.feed(event);
            if was_first && !self.ends.is_empty() {
                self.prompt();
            }
        }
    }

    fn wait(&mut self) {
        for _ in 0..4 * self.a_while {
            self.pass();
        }
    }

    /// What the server knows by now.
    fn keep(&mut self, event: &Event) {
        match event {
            Event::Status { status, .. } => {
                self.status = Some(status.clone()).filter(|one| *one != SessionStatus::Idle);
            }
            Event::Message(info) => match self.all.iter_mut().find(|one| one.info.id == info.id) {
                Some(known) => known.info = info.clone(),
                None => self.all.push(Message {
                    info: info.clone(),
                    parts: Vec::new(),
                }),
            },
            Event::Part { part, .. } => {
                let mut all = self.all.iter_mut();
                if let Some(known) = all.find(|one| one.info.id == part.message_id) {
                    known.parts.retain(|one| one.id != part.id);
                    known.parts.push(part.clone());
                }
            }
            _ => {}
        }
    }

    fn look(&mut self, look: Look) {
        let closed = look.map(|(reason, _)| reason);
        let messages = self.all[self.before..].to_vec();
        let seen = Seen {
            messages,
            ..Seen::default()
        };
        for want in self.turn.catch_up(&seen) {
            if let Want::Tell(told) = want {
                self.told.push(told);
            }
        }
        let status = self.status.as_ref();
        match self.turn.weigh(status, &seen.messages, closed) {
            Verdict::Over(reason) => {
                self.due = None;
                self.ends.push(self.turn.finish(reason, &seen.messages));
            }
            Verdict::Unclear => self.due = Some((self.a_while, look)),
            Verdict::Runs if matches!(look, Some((_, 1))) => {
                self.soon(closed.map(|reason| (reason, 2)));
            }
            Verdict::Runs => {}
        }
    }

    fn late_double(&mut self, reason: TurnReason) {
        let session = self.id.clone();
        self.feed(&Event::TurnClosed { session, reason });
        self.feed_late_idle();
    }

    fn feed_late_idle(&mut self) {
        // Late: the server itself is further on.
        let status = self.status.clone();
        let session = self.id.clone();
        self.feed(&Event::Status {
            session,
            status: SessionStatus::Idle,
        });
        self.status = status;
    }
}

fn cases() -> impl Iterator<Item = (&'static str, usize)> {
    let each = TRACES.into_iter();
    each.flat_map(|name| SECONDS.map(|a_while| (name, a_while)))
}

fn is_open(event: &Event) -> bool {
    matches!(event, Event::TurnOpened { .. })
}

/// Where the second turn's frames begin: with its open.
fn second_open(events: &[Event]) -> usize {
    events.iter().rposition(is_open).unwrap()
}

fn interrupted(play: &Play) {
    let ends: Vec<_> = play.ends.iter().map(|end| &end.judgement).collect();
    assert_eq!(ends, [&Judgement::Interrupted]);
}

fn nudged(play: &Play, name: &str) {
    assert_eq!(play.ends.len(), 2, "{name}: {:?}", play.ends);
    let end = &play.ends[1];
    assert_eq!(end.reason, TurnReason::Completed, "{name}");
    assert!(
        matches!(end.judgement, Judgement::Answered { .. }),
        "{name}: {end:?}"
    );
    assert_eq!(end.text.as_deref(), Some("Hello"), "{name}");
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
                play.look(None);
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
