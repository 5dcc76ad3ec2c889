//! What answers a request: a behaviour and a conversation in, a reply as data out.
//!
//! Pure: it performs nothing and waits for nothing. `routes` plays what is planned here.

use std::time::Duration;

use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::request::ChatRequest;
use super::wire::{self, Envelope, Usage};
use super::work::Note;

/// An answer, before it is played.
#[derive(Debug)]
pub(super) enum Reply {
    /// 200 and a stream of server-sent events.
    Stream(Vec<Part>),
    /// An HTTP error with a JSON body.
    Error {
        status: u16,
        retry_after_s: Option<u32>,
        body: Value,
    },
    /// Not even a status line.
    Silence,
}

/// A step of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Bytes to send.
    Send(String),
    /// A while without any.
    Pause(Duration),
    /// The connection breaks here.
    Cut,
    /// Nothing more until the client leaves.
    Silence,
}

/// Long enough for what was sent before to leave the buffers, so that a cut comes after it.
const BEFORE_CUT: Duration = Duration::from_millis(100);
const SLOW_STEP: Duration = Duration::from_millis(200);
const SLOW_STEPS_PER_SECOND: u32 = 5;

const TEXT: &str = "This is a scripted answer. Nothing was changed.";
const TITLE: &str = "Scripted task";

/// The reply to a request for a session's title.
pub(super) fn title(request: &ChatRequest, envelope: &Envelope) -> Reply {
    say(request, envelope, TITLE)
}

/// Long enough to be interrupted, short enough to end if nobody does.
const RESUMED_SECONDS: u32 = 60;

/// The reply to a request that the script answers by `behaviour`.
pub(super) fn plan(behaviour: &Behaviour, request: &ChatRequest, envelope: &Envelope) -> Reply {
    match behaviour {
        Behaviour::Commit => commit(request, envelope),
        Behaviour::Write => {
            let command = Note::of(request).write_command();
            bash(request, envelope, &command, "write the note")
        }
        Behaviour::Text => say(request, envelope, TEXT),
        Behaviour::Empty => stream(&[envelope.finish("stop")], request, envelope, 0),
        Behaviour::Malformed => broken(envelope, Part::Send(wire::event("{not json at all"))),
        Behaviour::Cut => broken(envelope, Part::Cut),
        Behaviour::Hang => Reply::Silence,
        Behaviour::HangMid => broken(envelope, Part::Silence),
        Behaviour::Error {
            status,
            retry_after_s,
        } => failure(*status, *retry_after_s),
        Behaviour::Slow { seconds } => slow(request, envelope, *seconds),
        Behaviour::SleepTool { seconds } => {
            bash(request, envelope, &format!("sleep {seconds}"), "wait")
        }
        Behaviour::NudgedCommit => nudged_commit(request, envelope),
        Behaviour::ResumedCommit => resumed_commit(request, envelope),
        Behaviour::Question => question(request, envelope),
        Behaviour::LoopTool => loop_tool(request, envelope),
        Behaviour::HangOnce => hang_once(request, envelope),
    }
}

/// An HTTP error that is not scripted but true: a wrong token, an unreadable request.
pub(super) fn refuse(status: u16, message: &str) -> Reply {
    Reply::Error {
        status,
        retry_after_s: None,
        body: wire::error(status, message),
    }
}

fn failure(status: u16, retry_after_s: Option<u32>) -> Reply {
    let message = match status {
        400 => "Bad request",
        401 => "Invalid API key",
        402 => "Credits required: please top up",
        403 => "Forbidden model",
        429 => "Rate limit exceeded",
        500 => "Internal error",
        502 => "Provider returned error",
        _ => "Scripted error",
    };
    Reply::Error {
        status,
        retry_after_s,
        body: wire::error(status, message),
    }
}

fn commit(request: &ChatRequest, envelope: &Envelope) -> Reply {
    let command = Note::of(request).commit_command();
    bash(request, envelope, &command, "write the note and commit it")
}

fn nudged_commit(request: &ChatRequest, envelope: &Envelope) -> Reply {
    if request.user_texts().nth(1).is_some() {
        return commit(request, envelope);
    }
    say(
        request,
        envelope,
        "I have looked at it and would begin with a note.",
    )
}

fn resumed_commit(request: &ChatRequest, envelope: &Envelope) -> Reply {
    if request.user_texts().nth(1).is_some() {
        return commit(request, envelope);
    }
    slow(request, envelope, RESUMED_SECONDS)
}

/// Word by word the same call, whatever has come back from the last one.
fn loop_tool(request: &ChatRequest, envelope: &Envelope) -> Reply {
    let arguments = json!({"command": "git status", "description": "look again"});
    let call_id = format!("call_{}", envelope.id);
    let chunks = [
        envelope.tool_call(&call_id, "bash", &arguments),
        envelope.finish("tool_calls"),
    ];
    stream(&chunks, request, envelope, arguments.to_string().len())
}

fn hang_once(request: &ChatRequest, envelope: &Envelope) -> Reply {
    if request.user_texts().nth(1).is_some() {
        return commit(request, envelope);
    }
    Reply::Silence
}

fn question(request: &ChatRequest, envelope: &Envelope) -> Reply {
    let option = |label: &str| json!({"label": label, "description": label.to_lowercase()});
    let arguments = json!({"questions": [{
        "question": "Which colour?",
        "header": "Colour",
        "options": [option("Red"), option("Blue")],
    }]});
    call(request, envelope, "question", &arguments)
}

fn bash(request: &ChatRequest, envelope: &Envelope, command: &str, description: &str) -> Reply {
    let arguments = json!({"command": command, "description": description, "timeout": 600_000});
    call(request, envelope, "bash", &arguments)
}

/// A tool call at first, a final text once its result has come back. A tool that is not offered is
/// not called: the program would take the call for an error of the model.
fn call(request: &ChatRequest, envelope: &Envelope, tool: &str, arguments: &Value) -> Reply {
    if request.tool_has_answered() {
        return say(request, envelope, "Done, as the script says.");
    }
    if !request.offers(tool) {
        return say(
            request,
            envelope,
            &format!("The tool {tool} is not offered to me."),
        );
    }
    let call_id = format!("call_{}", envelope.id);
    let chunks = [
        envelope.tool_call(&call_id, tool, arguments),
        envelope.finish("tool_calls"),
    ];
    stream(&chunks, request, envelope, arguments.to_string().len())
}

/// The text in two chunks, since a reader has to put them together.
fn say(request: &ChatRequest, envelope: &Envelope, text: &str) -> Reply {
    let (head, tail) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let mut chunks = vec![envelope.text(head)];
    if !tail.is_empty() {
        chunks.push(envelope.text(tail));
    }
    chunks.push(envelope.finish("stop"));
    stream(&chunks, request, envelope, text.len())
}

fn slow(request: &ChatRequest, envelope: &Envelope, seconds: u32) -> Reply {
    let words = seconds.saturating_mul(SLOW_STEPS_PER_SECOND).max(1);
    let mut parts = Vec::new();
    let mut chars = 0;
    for word in 1..=words {
        let text = format!("word {word} ");
        chars += text.len();
        parts.push(send(&envelope.text(&text)));
        parts.push(Part::Pause(SLOW_STEP));
    }
    let mut end = ending(&[envelope.finish("stop")], request, envelope, chars);
    parts.append(&mut end);
    Reply::Stream(parts)
}

fn broken(envelope: &Envelope, rest: Part) -> Reply {
    let begin = send(&envelope.text("Part of an answer"));
    Reply::Stream(vec![begin, Part::Pause(BEFORE_CUT), rest])
}

fn stream(
    chunks: &[Value],
    request: &ChatRequest,
    envelope: &Envelope,
    completion_chars: usize,
) -> Reply {
    Reply::Stream(ending(chunks, request, envelope, completion_chars))
}

/// The chunks, what they cost, and the mark that ends a stream.
fn ending(
    chunks: &[Value],
    request: &ChatRequest,
    envelope: &Envelope,
    completion_chars: usize,
) -> Vec<Part> {
    let usage = envelope.usage(Usage::of(request.chars(), completion_chars));
    let mut parts: Vec<Part> = chunks.iter().chain([&usage]).map(send).collect();
    parts.push(Part::Send(wire::event("[DONE]")));
    parts
}

fn send(chunk: &Value) -> Part {
    Part::Send(wire::event(&chunk.to_string()))
}
