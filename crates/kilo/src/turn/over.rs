//! Whether a turn is over, by what was read of it: its status and its messages.
//!
//! Pure. The stream's own words are `turn`'s; here they are confirmed or made up for.

use super::{Phase, Turn, Want, progress};
use crate::error::SessionError;
use crate::judge::{self, Judgement, TurnReason};
use crate::seen::Seen;
use crate::session_event::TurnEnd;
use crate::wire::{Message, SessionStatus};

/// What status and messages say about a turn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It goes on.
    Runs,
    /// It is over.
    Over(TurnReason),
    /// It looks over, but a moment later may show more.
    Unclear,
}

impl Turn {
    /// Judges by what was read: the session's status and the messages since the prompt. `closed`
    /// is what the stream said, if it closed a turn.
    pub(crate) fn weigh(
        &mut self,
        status: Option<&SessionStatus>,
        messages: &[Message],
        closed: Option<TurnReason>,
    ) -> Verdict {
        if status.is_some_and(|status| *status != SessionStatus::Idle) {
            self.unclear_looks = 0;
            return Verdict::Runs;
        }
        let is_blank = judge::assistants(messages).next().is_none() && self.errors.is_empty();
        if closed.is_none() && is_blank && self.phase == Phase::Prompted && !self.was_aborted {
            // The prompt may still be on its way in; how long to wait is the caller's choice.
            return Verdict::Unclear;
        }
        let is_second = self.unclear_looks > 0;
        self.unclear_looks = self.unclear_looks.saturating_add(1);
        match closed {
            // A turn that was stopped at once, or a late double of the close of the turn before
            // and a turn that only begins.
            Some(_) if is_blank && !is_second => Verdict::Unclear,
            Some(close) => Verdict::Over(judge::reason_of_closed(close, messages)),
            None => self.weigh_unclosed(messages, is_second),
        }
    }

    fn weigh_unclosed(&self, messages: &[Message], is_second: bool) -> Verdict {
        match judge::reason_of(messages) {
            // An error is reported a moment before it is written into the message.
            TurnReason::Unfinished if !is_second => Verdict::Unclear,
            TurnReason::Unfinished if !self.errors.is_empty() => Verdict::Over(TurnReason::Error),
            TurnReason::Unfinished if self.was_aborted => Verdict::Over(TurnReason::Interrupted),
            // So looks a message that was stopped in an offline wait.
            TurnReason::Completed if self.was_aborted => {
                Verdict::Over(judge::reason_of_closed(TurnReason::Interrupted, messages))
            }
            reason => Verdict::Over(reason),
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
