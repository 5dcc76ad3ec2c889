//! One session's events as a state machine: what to tell, and when to read status and messages.
//!
//! Pure and synchronous: it does no I/O and has no clock. `session` feeds it and does what it
//! asks for.

mod over;

use crate::error::{ErrorKind, SessionError, classify_with, is_abort, status_in};
use crate::event::Event;
use crate::judge::TurnReason;
use crate::redact::Redactor;
use crate::session_event::{SessionEvent, ToolState};
use crate::tools::tool_state;
use crate::usage::{Meter, is_finished, is_output};
use crate::wire::{Ask, MessageInfo, Part, SessionStatus};
use std::collections::{HashSet, VecDeque};

pub(crate) use over::{Look, Verdict};

/// More errors in one turn say nothing new.
const ERRORS_MAX: usize = 8;
/// Sessions below one session; kilo's agents start a handful.
const CHILDREN_MAX: usize = 256;
/// Requests that were already reported.
const ASKED_MAX: usize = 256;
const TEXT_CHARS_MAX: usize = 500;

/// What the state machine wants done next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Want {
    Tell(SessionEvent),
    /// The stream closed the turn: confirm by the status, then read the messages.
    Close(TurnReason),
    /// Read status and messages now.
    Resync,
    /// Read them if nothing happens for a while: an end is due.
    ResyncSoon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Prompted,
    Open,
}

#[derive(Debug)]
pub(crate) struct Turn {
    session: String,
    directory: String,
    children: HashSet<String>,
    /// Child sessions whose latest step is not finished.
    children_at_work: HashSet<String>,
    phase: Phase,
    errors: Vec<SessionError>,
    /// Those before the turn opened: its own, or a late echo of the turn before.
    early_errors: Vec<SessionError>,
    was_aborted: bool,
    model_output: bool,
    was_offline: bool,
    asked: VecDeque<String>,
    meter: Meter,
    /// Looks in a row at which it seemed over, without a proof.
    unclear_looks: u8,
    redactor: Redactor,
}

impl Turn {
    pub(crate) fn new(session: String, directory: String, redactor: Redactor) -> Self {
        Self {
            session,
            directory,
            children: HashSet::new(),
            children_at_work: HashSet::new(),
            phase: Phase::Idle,
            errors: Vec::new(),
            early_errors: Vec::new(),
            was_aborted: false,
            model_output: false,
            was_offline: false,
            asked: VecDeque::new(),
            meter: Meter::default(),
            unclear_looks: 0,
            redactor,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Child sessions whose steps may have gone on while nobody read the stream.
    pub(crate) fn children_at_work(&self) -> impl Iterator<Item = &str> {
        self.children_at_work.iter().map(String::as_str)
    }

    /// A prompt is about to be sent.
    pub(crate) fn prompted(&mut self) {
        self.phase = Phase::Prompted;
        self.errors.clear();
        self.early_errors.clear();
        self.was_aborted = false;
        self.model_output = false;
        self.was_offline = false;
        self.unclear_looks = 0;
    }

    /// The prompt was not accepted.
    pub(crate) fn withdrawn(&mut self) {
        self.phase = Phase::Idle;
    }

    /// An abort was accepted. Of a prompt that had opened no turn yet nothing may be left to tell.
    pub(crate) fn aborted(&mut self) {
        self.was_aborted = !self.is_idle();
    }

    pub(crate) fn on_event(&mut self, event: &Event) -> Vec<Want> {
        match event {
            Event::Reconnected | Event::Gap => self.when_running(Want::Resync),
            Event::SessionCreated(info) => {
                let parent = info.parent_id.as_deref().unwrap_or_default();
                if self.is_ours(parent) && self.children.len() < CHILDREN_MAX {
                    self.children.insert(info.id.clone());
                }
                Vec::new()
            }
            Event::SessionDeleted { session } if *session == self.session => {
                self.when_running(Want::Resync)
            }
            Event::Disposed { directory } if *directory == self.directory => {
                self.when_running(Want::ResyncSoon)
            }
            Event::TurnOpened { session } if *session == self.session => self.on_open(),
            Event::TurnClosed { session, reason } if *session == self.session => {
                self.on_close(*reason)
            }
            Event::Error { session, error } if *session == self.session => self.on_error(error),
            Event::Status { session, status } if self.is_ours(session) => {
                let own = *session == self.session;
                self.on_status(status, own)
            }
            Event::Message(info) if self.is_ours(&info.session_id) => self.on_message(info),
            Event::Part { session, part } if self.is_ours(session) => self.on_part(part),
            Event::Delta { session, message } if self.is_ours(session) => {
                self.on_output(message, None)
            }
            Event::PermissionAsked(ask) if self.is_ours(&ask.session_id) => self.on_permission(ask),
            Event::QuestionAsked(ask) if self.is_ours(&ask.session_id) => self.on_question(ask),
            Event::NetworkAsked(ask) if self.is_ours(&ask.session_id) => {
                self.on_offline(&ask.id, &ask.text)
            }
            Event::Answered { session, .. } if self.is_ours(session) => progress(false, None),
            // Of other sessions and directories.
            Event::SessionDeleted { .. }
            | Event::Disposed { .. }
            | Event::TurnOpened { .. }
            | Event::TurnClosed { .. }
            | Event::Error { .. }
            | Event::Status { .. }
            | Event::Message(_)
            | Event::Part { .. }
            | Event::Delta { .. }
            | Event::PermissionAsked(_)
            | Event::QuestionAsked(_)
            | Event::NetworkAsked(_)
            | Event::Answered { .. } => Vec::new(),
        }
    }

    pub(crate) fn is_ours(&self, session: &str) -> bool {
        session == self.session || self.children.contains(session)
    }

    fn when_running(&self, want: Want) -> Vec<Want> {
        if self.is_idle() {
            Vec::new()
        } else {
            vec![want]
        }
    }

    fn on_open(&mut self) -> Vec<Want> {
        if self.phase != Phase::Prompted {
            return Vec::new();
        }
        self.phase = Phase::Open;
        self.early_errors = std::mem::take(&mut self.errors);
        self.unclear_looks = 0;
        vec![Want::Tell(SessionEvent::TurnOpened)]
    }

    fn on_close(&self, reason: TurnReason) -> Vec<Want> {
        match self.phase {
            Phase::Open => vec![Want::Close(reason)],
            // A late double of the turn before, or our open was missed: the messages know.
            Phase::Prompted => vec![Want::ResyncSoon],
            Phase::Idle => Vec::new(),
        }
    }

    fn on_error(&mut self, error: &serde_json::Value) -> Vec<Want> {
        if self.is_idle() || is_abort(error) {
            return Vec::new();
        }
        let mut error = classify_with(error, &self.redactor);
        if self.was_offline && error.kind == ErrorKind::Other {
            // What ends an offline wait is the gateway's absence, whatever it is called.
            error.kind = ErrorKind::GatewayDown;
        }
        if self.errors.len() < ERRORS_MAX && !self.errors.contains(&error) {
            self.errors.push(error);
        }
        // Before any turn it may be all that ever comes.
        if self.phase == Phase::Prompted {
            vec![Want::ResyncSoon]
        } else {
            Vec::new()
        }
    }

    fn on_status(&mut self, status: &SessionStatus, own: bool) -> Vec<Want> {
        match status {
            // A close follows, unless it got lost.
            SessionStatus::Idle if own => self.when_running(Want::ResyncSoon),
            SessionStatus::Idle | SessionStatus::Busy | SessionStatus::Other(_) => {
                progress(false, None)
            }
            // The gateway is asked again at once, after an offline wait was answered.
            SessionStatus::Retry { attempt: 0, .. } => progress(false, None),
            SessionStatus::Retry {
                attempt,
                message,
                next_at_ms,
            } => {
                vec![Want::Tell(SessionEvent::Retrying {
                    attempt: *attempt,
                    message: self.redactor.clean_cut(message, TEXT_CHARS_MAX),
                    next_at_ms: *next_at_ms,
                    status: status_in(message),
                })]
            }
            SessionStatus::Offline {
                request_id,
                message,
            } => self.on_offline(request_id, message),
        }
    }

    fn on_message(&mut self, info: &MessageInfo) -> Vec<Want> {
        if info.role != "assistant" {
            // Kilo writes the prompt's own message again after the turn has closed. Taken for
            // progress, it would look as if the turn went on, and nobody would judge it.
            return Vec::new();
        }
        self.note_child(info);
        if self.meter.head(info) {
            self.tell_usage()
        } else {
            progress(false, None)
        }
    }

    fn note_child(&mut self, info: &MessageInfo) {
        if !self.children.contains(&info.session_id) {
            return;
        }
        if is_finished(info) {
            self.children_at_work.remove(&info.session_id);
        } else {
            self.children_at_work.insert(info.session_id.clone());
        }
    }

    fn on_part(&mut self, part: &Part) -> Vec<Want> {
        let tool = tool_state(part);
        if part.kind == "text" {
            // It also repeats the prompt and shows kilo's spinner; deltas are the model's. Whose
            // it is shows in the head of its message, and the meter knows that.
            let mut wants = progress(false, None);
            if is_output(part) && self.meter.output(&part.message_id) {
                wants.extend(self.tell_usage());
            }
            return wants;
        }
        if !is_output(part) {
            return progress(false, tool);
        }
        self.on_output(&part.message_id, tool)
    }

    fn on_output(&mut self, message: &str, tool: Option<ToolState>) -> Vec<Want> {
        // Before the turn has opened it is an echo of the turn before.
        self.model_output |= self.phase == Phase::Open;
        let mut wants = progress(true, tool);
        if self.meter.output(message) {
            wants.extend(self.tell_usage());
        }
        wants
    }

    fn tell_usage(&self) -> Vec<Want> {
        vec![Want::Tell(SessionEvent::Usage(self.meter.usage()))]
    }

    fn on_permission(&mut self, ask: &Ask) -> Vec<Want> {
        let text = self.redactor.clean_cut(&ask.text, TEXT_CHARS_MAX);
        self.once(
            &ask.id,
            SessionEvent::PermissionAsked {
                id: ask.id.clone(),
                text,
            },
        )
    }

    fn on_question(&mut self, ask: &Ask) -> Vec<Want> {
        let text = self.redactor.clean_cut(&ask.text, TEXT_CHARS_MAX);
        self.once(
            &ask.id,
            SessionEvent::QuestionAsked {
                id: ask.id.clone(),
                text,
            },
        )
    }

    fn on_offline(&mut self, id: &str, message: &str) -> Vec<Want> {
        self.was_offline = true;
        let message = self.redactor.clean_cut(message, TEXT_CHARS_MAX);
        self.once(
            id,
            SessionEvent::Offline {
                request_id: id.to_owned(),
                message,
            },
        )
    }

    /// Each request is told once, though the stream, the status and the lists all show it.
    fn once(&mut self, id: &str, event: SessionEvent) -> Vec<Want> {
        if self.asked.iter().any(|known| known == id) {
            return Vec::new();
        }
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back(id.to_owned());
        vec![Want::Tell(event)]
    }
}

fn progress(output: bool, tool: Option<ToolState>) -> Vec<Want> {
    vec![Want::Tell(SessionEvent::Progress { output, tool })]
}
