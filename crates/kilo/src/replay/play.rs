//! A session without a server: it does what `session` does, and its server answers by what the
//! recorded stream has shown so far.
//!
//! Test code only. How long its second is, frames tell.

use crate::event::Event;
use crate::judge::{Judgement, TurnReason};
use crate::redact::Redactor;
use crate::seen::Seen;
use crate::session_event::{SessionEvent, TurnEnd};
use crate::turn::{Look, Turn, Verdict, Want};
use crate::wire::{Message, SessionStatus};

/// All of an abort within one second, and an abort that takes some.
pub(super) const SECONDS: [usize; 2] = [6, 60];

/// A session whose server answers by what the trace has shown so far.
pub(super) struct Play {
    pub(super) id: String,
    pub(super) turn: Turn,
    pub(super) status: Option<SessionStatus>,
    all: Vec<Message>,
    /// How many of them were there before the prompt.
    before: usize,
    a_while: usize,
    /// What to look at again, and after how many frames.
    due: Option<(usize, Look)>,
    pub(super) told: Vec<SessionEvent>,
    pub(super) ends: Vec<TurnEnd>,
}

impl Play {
    pub(super) fn new(events: &[Event], a_while: usize) -> Self {
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

    pub(super) fn prompt(&mut self) {
        assert!(self.turn.is_idle());
        self.before = self.all.len();
        self.due = None;
        self.turn.prompted();
    }

    pub(super) fn feed(&mut self, event: &Event) {
        self.keep(event);
        for want in self.turn.on_event(event) {
            match want {
                Want::Tell(told) => self.told.push(told),
                Want::Close(reason) => self.look(Look::Close(reason)),
                Want::Resync => self.look(Look::Resync),
                Want::ResyncSoon => self.soon(Look::Resync),
            }
        }
        self.pass();
    }

    pub(super) fn soon(&mut self, look: Look) {
        self.due = Some(match self.due {
            None => (self.a_while, look),
            Some((at, known)) if look == Look::Resync => (at, known),
            Some((at, _)) => (at, look),
        });
    }

    /// The time of one frame.
    pub(super) fn pass(&mut self) {
        match self.due.take() {
            Some((0, closed)) => self.look(closed),
            Some((frames, closed)) => self.due = Some((frames - 1, closed)),
            None => {}
        }
    }

    pub(super) fn play(&mut self, events: &[Event]) {
        for event in events {
            let was_first = self.ends.is_empty();
            self.feed(event);
            if was_first && !self.ends.is_empty() {
                self.prompt();
            }
        }
    }

    pub(super) fn wait(&mut self) {
        for _ in 0..4 * self.a_while {
            self.pass();
        }
    }

    /// What the server knows by now.
    pub(super) fn keep(&mut self, event: &Event) {
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

    pub(super) fn look(&mut self, look: Look) {
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
        match self.turn.weigh(status, &seen.messages, look) {
            Verdict::Runs => {}
            Verdict::Odd(look) => self.soon(look),
            Verdict::Unclear(look) => self.due = Some((self.a_while, look)),
            Verdict::Over(reason) => {
                self.due = None;
                self.ends.push(self.turn.finish(reason, &seen.messages));
            }
        }
    }

    pub(super) fn late_double(&mut self, reason: TurnReason) {
        let session = self.id.clone();
        self.feed(&Event::TurnClosed { session, reason });
        self.feed_late_idle();
    }

    pub(super) fn feed_late_idle(&mut self) {
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

pub(super) fn is_open(event: &Event) -> bool {
    matches!(event, Event::TurnOpened { .. })
}

/// Where the second turn's frames begin: with its open.
pub(super) fn second_open(events: &[Event]) -> usize {
    events.iter().rposition(is_open).unwrap()
}

pub(super) fn interrupted(play: &Play) {
    let ends: Vec<_> = play.ends.iter().map(|end| &end.judgement).collect();
    assert_eq!(ends, [&Judgement::Interrupted]);
}

pub(super) fn nudged(play: &Play, name: &str) {
    assert_eq!(play.ends.len(), 2, "{name}: {:?}", play.ends);
    let end = &play.ends[1];
    assert_eq!(end.reason, TurnReason::Completed, "{name}");
    assert!(
        matches!(end.judgement, Judgement::Answered { .. }),
        "{name}: {end:?}"
    );
    assert_eq!(end.text.as_deref(), Some("Hello"), "{name}");
}
