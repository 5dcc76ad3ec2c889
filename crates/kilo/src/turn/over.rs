//! Whether a turn is over, by what was read of it: its status and its messages.
//!
//! Pure. The stream's own words are `turn`'s; here they are confirmed or made up for.

use super::{Phase, Turn, Want, progress};
use crate::error::SessionError;
use crate::judge::{self, Judgement, TurnReason};
use crate::seen::Seen;
use crate::session_event::TurnEnd;
use crate::wire::{Message, SessionStatus};

/// Why status and messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The stream closed the turn.
    Close(TurnReason),
    /// Likewise, but the session was still busy at the first look.
    CloseAgain(TurnReason),
    /// Something may have been missed.
    Resync,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The turn goes on.
    Runs,
    /// It goes on, and that is odd enough for another look soon.
    Odd(Look),
    /// It looks over, but a while after this look there may be more.
    Unclear(Look),
    /// It is over.
    Over(TurnReason),
}

impl Turn {
    /// Judges by what was read: the session's status and the messages since the prompt.
    pub(crate) fn weigh(
        &mut self,
        status: Option<&SessionStatus>,
        messages: &[Message],
        look: Look,
    ) -> Verdict {
        if status.is_some_and(|status| *status != SessionStatus::Idle) {
            self.unclear_looks = 0;
            return match look {
                // Told a moment too early, or a late double of an earlier close.
                Look::Close(reason) => Verdict::Odd(Look::CloseAgain(reason)),
                Look::CloseAgain(_) | Look::Resync => Verdict::Runs,
            };
        }
        let is_blank = judge::assistants(messages).next().is_none() && self.errors.is_empty();
        let is_hint = look == Look::Resync;
        if is_hint && is_blank && self.phase == Phase::Prompted && !self.was_aborted {
            // The prompt may still be on its way in; how long to wait is the caller's choice.
            return Verdict::Unclear(look);
        }
        let is_second = self.unclear_looks > 0;
        self.unclear_looks = self.unclear_looks.saturating_add(1);
        let over = match look {
            // A turn that was stopped at once, or a late double of the close of the turn before
            // and a turn that only begins.
            Look::Close(_) | Look::CloseAgain(_) if is_blank && !is_second => None,
            Look::Close(close) | Look::CloseAgain(close) => {
                Some(judge::reason_of_closed(close, messages))
            }
            Look::Resync => self.reason_unclosed(messages, is_second),
        };
        over.map_or(Verdict::Unclear(look), Verdict::Over)
    }

    fn reason_unclosed(&self, messages: &[Message], is_second: bool) -> Option<TurnReason> {
        match judge::reason_of(messages) {
            // An error is reported a moment before it is written into the message.
            TurnReason::Unfinished if !is_second => None,
            TurnReason::Unfinished if !self.errors.is_empty() => Some(TurnReason::Error),
            TurnReason::Unfinished if self.was_aborted => Some(TurnReason::Interrupted),
            // So looks a message that was stopped in an offline wait.
            TurnReason::Completed if self.was_aborted => {
                Some(judge::reason_of_closed(TurnReason::Interrupted, messages))
            }
            reason => Some(reason),
        }
    }

    /// Takes over what events would have told: open turn, usage, output, open requests.
    pub(crate) fn catch_up(&mut self, seen: &Seen) -> Vec<Want> {
        let mut wants = self.absorb(&seen.messages);
        let mut changed = false;
        for message in judge::assistants(&seen.of_children) {
            self.note_child(&message.info);
            changed |= self.meter.message(message);
        }
        if changed {
            wants.extend(self.tell_usage());
        }
        for event in seen.events(&self.session) {
            wants.extend(self.on_event(&event));
        }
        wants
    }

    /// Takes over what the messages since the prompt show.
    pub(crate) fn absorb(&mut self, messages: &[Message]) -> Vec<Want> {
        let mut wants = Vec::new();
        if self.phase == Phase::Prompted && judge::assistants(messages).next().is_some() {
            // What came before is this turn's own: its open was missed, not only late.
            let errors = std::mem::take(&mut self.errors);
            wants.extend(self.on_open());
            self.errors = errors;
        }
        let mut changed = false;
        for message in judge::assistants(messages) {
            changed |= self.meter.message(message);
        }
        if changed {
            wants.extend(self.tell_usage());
        }
        if judge::has_output(messages) && !self.model_output {
            self.model_output = true;
            wants.extend(progress(true, None));
        }
        wants
    }

    /// Ends the turn.
    pub(crate) fn finish(&mut self, reason: TurnReason, messages: &[Message]) -> TurnEnd {
        self.phase = Phase::Idle;
        if self.errors.is_empty() && reason == TurnReason::Error {
            self.errors = std::mem::take(&mut self.early_errors);
        }
        let judgement = match judge::judge(reason, &self.errors, messages) {
            Judgement::Failed(error) => Judgement::Failed(SessionError {
                // An error of the message itself has not passed the redactor yet.
                text: self.redactor.clean(&error.text),
                ..error
            }),
            other => other,
        };
        TurnEnd {
            reason,
            judgement,
            text: judge::last_text(messages),
            usage: self.meter.usage(),
            model_output: self.model_output || judge::has_output(messages),
        }
    }
}
