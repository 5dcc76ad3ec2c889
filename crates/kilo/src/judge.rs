//! Says what a finished turn was worth, from its close reason, its errors and its messages.
//!
//! Pure. `session.idle` and an exit code are no evidence and do not occur here; neither does git,
//! which only the caller can look at.

use crate::error::{ErrorKind, SessionError, classify, is_abort};
use crate::redact;
use crate::usage::is_output;
use crate::wire::{Message, Part};

/// Longest text of an answer in characters.
pub(crate) const ANSWER_CHARS_MAX: usize = 16_000;

/// How a turn was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TurnReason {
    /// By itself. Not yet a success.
    Completed,
    /// By an error.
    Error,
    /// By an abort or the server's own end.
    Interrupted,
    /// Never: the session is idle, its last message incomplete. A crash.
    Unfinished,
}

/// What the turn was worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The model answered and stopped by itself. Whether that is work, the tree must tell.
    Answered {
        /// Whether there is a text.
        has_text: bool,
        /// Tools that ran to their end, patches included.
        tools_completed: usize,
        /// The last assistant text, cut.
        text: Option<String>,
    },
    /// It completed, and nothing came out.
    Empty,
    /// It failed.
    Failed(SessionError),
    /// It was stopped.
    Interrupted,
    /// It ended before the model was done.
    Unfinished {
        /// Why we say so.
        why: String,
    },
}

/// Judges a turn. `errors_in_turn` are those of the event stream, without echoes of an abort;
/// `messages_of_turn` are all messages since the prompt.
pub fn judge(
    reason: TurnReason,
    errors_in_turn: &[SessionError],
    messages_of_turn: &[Message],
) -> Judgement {
    let failed = || Judgement::Failed(worst(errors_in_turn, messages_of_turn));
    let last = assistants(messages_of_turn).last();
    let has_error = !errors_in_turn.is_empty() || own_error(last).is_some();
    match reason {
        TurnReason::Interrupted => Judgement::Interrupted,
        TurnReason::Error => failed(),
        TurnReason::Completed | TurnReason::Unfinished if has_error => failed(),
        TurnReason::Unfinished => Judgement::Unfinished {
            why: "the turn stopped without an end; the server crashed or lost it".into(),
        },
        TurnReason::Completed => match last {
            None => Judgement::Empty,
            Some(last) => completed(last, messages_of_turn),
        },
    }
}

/// A turn that kilo calls completed, without any error.
fn completed(last: &Message, messages: &[Message]) -> Judgement {
    if last.info.time.completed.is_none() {
        return Judgement::Unfinished {
            why: "the last message has no end".into(),
        };
    }
    match last.info.finish.as_deref() {
        Some("stop") => {}
        Some("tool-calls") => {
            let why = "it stopped after a tool call; a question or permission was rejected";
            return Judgement::Unfinished { why: why.into() };
        }
        other => {
            let why = format!(
                "the model stopped with {:?}",
                redact::cut(other.unwrap_or("nothing"), 40)
            );
            return Judgement::Unfinished { why };
        }
    }
    let text = last_text(messages);
    let tools_completed = tools_completed(messages);
    if text.is_none() && tools_completed == 0 || is_told_empty(messages) {
        return Judgement::Empty;
    }
    Judgement::Answered {
        has_text: text.is_some(),
        tools_completed,
        text,
    }
}

/// Usage was told, and none of it is the model's own: what text there is, is kilo's. A gateway that
/// tells no usage at all says nothing by that.
fn is_told_empty(messages: &[Message]) -> bool {
    let told = |read: fn(&Message) -> f64| assistants(messages).map(read).sum::<f64>() > 0.0;
    let is_told = told(|message| {
        let tokens = &message.info.tokens;
        tokens.input + tokens.cache.read + tokens.cache.write
    });
    let is_written = told(|message| message.info.tokens.output + message.info.tokens.reasoning);
    is_told && !is_written
}

/// The last text the model wrote in these messages, cut.
pub(crate) fn last_text(messages: &[Message]) -> Option<String> {
    let parts = assistants(messages).flat_map(|message| &message.parts);
    let last = parts
        .filter(|part| part.kind == "text" && is_output(part))
        .last()?;
    Some(redact::cut(last.text.trim(), ANSWER_CHARS_MAX))
}

/// Whether the model produced anything in these messages, finished or not.
pub(crate) fn has_output(messages: &[Message]) -> bool {
    let mut parts = assistants(messages).flat_map(|message| &message.parts);
    parts.any(is_output)
}

/// The end that messages alone show, for a turn whose close was missed.
pub(crate) fn reason_of(messages: &[Message]) -> TurnReason {
    match assistants(messages).last() {
        Some(last) => match &last.info.error {
            Some(error) if is_abort(error) => TurnReason::Interrupted,
            Some(_) => TurnReason::Error,
            None if last.info.time.completed.is_some() => TurnReason::Completed,
            None => TurnReason::Unfinished,
        },
        None => TurnReason::Unfinished,
    }
}

/// How a turn ended whose close was told. A late double of the close of an aborted turn, read as
/// that of the next one, must not speak against what the messages show beyond doubt.
pub(crate) fn reason_of_closed(close: TurnReason, messages: &[Message]) -> TurnReason {
    let last = assistants(messages).last();
    let has_stopped = last.is_some_and(|last| last.info.finish.as_deref() == Some("stop"));
    match (close, reason_of(messages)) {
        (TurnReason::Interrupted, TurnReason::Error) => TurnReason::Error,
        (TurnReason::Interrupted, TurnReason::Completed) if has_stopped => TurnReason::Completed,
        (TurnReason::Completed, TurnReason::Interrupted) => TurnReason::Interrupted,
        (close, _) => close,
    }
}

pub(crate) fn assistants(messages: &[Message]) -> impl Iterator<Item = &Message> {
    messages
        .iter()
        .filter(|message| message.info.role == "assistant")
}

fn tools_completed(messages: &[Message]) -> usize {
    let parts = assistants(messages).flat_map(|message| &message.parts);
    let done = |part: &&Part| match part.kind.as_str() {
        "tool" => part
            .state
            .as_ref()
            .is_some_and(|state| state.status == "completed"),
        "patch" => true,
        _ => false,
    };
    parts.filter(done).count()
}

fn own_error(last: Option<&Message>) -> Option<SessionError> {
    let error = last?.info.error.as_ref().filter(|error| !is_abort(error))?;
    Some(classify(error))
}

/// The error that says most: one of a known kind, else the first. A second one is often only a
/// stack trace of the first.
fn worst(errors: &[SessionError], messages: &[Message]) -> SessionError {
    let own = own_error(assistants(messages).last());
    let all: Vec<&SessionError> = errors.iter().chain(&own).collect();
    let known = all.iter().find(|error| error.kind != ErrorKind::Other);
    let best = known.or_else(|| all.first());
    best.map_or_else(
        || SessionError::other("the turn failed without a reason"),
        |error| (**error).clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use TurnReason::{Completed, Error, Interrupted, Unfinished};
    use serde_json::{Value, json};

    fn shown(finish: &Value, error: &Value) -> Vec<Message> {
        let info = json!({"role": "assistant", "finish": finish, "time": {"completed": 1},
            "error": error});
        vec![serde_json::from_value(json!({ "info": info })).unwrap()]
    }

    #[test]
    fn a_close_yields_to_what_the_messages_show_beyond_doubt() {
        let none = Value::Null;
        let stopped = shown(&json!("stop"), &none);
        let in_tools = shown(&json!("tool-calls"), &none);
        let cut = shown(&none, &none);
        let failed = shown(&none, &json!({"name": "APIError"}));
        let aborted = shown(&none, &json!({"name": "MessageAbortedError"}));
        for (close, messages, reason) in [
            (Completed, &stopped, Completed),
            (Completed, &in_tools, Completed),
            (Completed, &aborted, Interrupted),
            (Completed, &failed, Completed),
            (Interrupted, &stopped, Completed),
            (Interrupted, &in_tools, Interrupted),
            (Interrupted, &cut, Interrupted),
            (Interrupted, &aborted, Interrupted),
            (Interrupted, &failed, Error),
            (Interrupted, &Vec::new(), Interrupted),
            (Error, &stopped, Error),
            (Error, &aborted, Error),
            (Unfinished, &stopped, Unfinished),
        ] {
            let found = reason_of_closed(close, messages);
            assert_eq!(found, reason, "{close:?} {messages:?}");
        }
    }
}
