//! The frames of kilo's event stream as typed events.
//!
//! Pure: one frame's text in, at most one event out. Frames that say nothing new (`sync` doubles,
//! heartbeats, plugin news) give none.

use crate::judge::TurnReason;
use crate::wire::{Ask, MessageInfo, Part, SessionInfo, SessionStatus, text};
use serde::Deserialize;
use serde_json::Value;

/// What a server's stream tells, or our own connection to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The stream is connected (again): status and messages must be read anew.
    Reconnected,
    /// The reader was too slow and lost events: likewise.
    Gap,
    /// A session was made; it has a parent if a tool made it.
    SessionCreated(SessionInfo),
    /// A session was deleted.
    SessionDeleted {
        /// Which.
        session: String,
    },
    /// A turn starts.
    TurnOpened {
        /// In which session.
        session: String,
    },
    /// A turn is over.
    TurnClosed {
        /// In which session.
        session: String,
        /// How.
        reason: TurnReason,
    },
    /// Busy, retrying, offline or idle.
    Status {
        /// Of which session.
        session: String,
        /// The status.
        status: SessionStatus,
    },
    /// An error, as kilo reports it.
    Error {
        /// In which session.
        session: String,
        /// `{name, data}`.
        error: Value,
    },
    /// A message's head changed.
    Message(MessageInfo),
    /// A part changed.
    Part {
        /// In which session.
        session: String,
        /// The part.
        part: Part,
    },
    /// The model wrote something.
    Delta {
        /// In which session.
        session: String,
        /// In which message, where that is told.
        message: String,
    },
    /// Waits for a permission.
    PermissionAsked(Ask),
    /// Waits for an answer.
    QuestionAsked(Ask),
    /// Waits for the network, for ever.
    NetworkAsked(Ask),
    /// A request of one of these three kinds was answered.
    Answered {
        /// In which session.
        session: String,
        /// Which request.
        request: String,
    },
    /// A directory's sessions were stopped.
    Disposed {
        /// Which directory.
        directory: String,
    },
}

/// One frame: the event's own id, to tell doubles, and the event.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// `evt_…`, where there is one.
    pub id: Option<String>,
    /// What it says, if that is anything to us.
    pub event: Option<Event>,
}

#[derive(Deserialize)]
struct Wrapped {
    payload: Value,
}

/// Reads one frame of `/event` or `/global/event`; `None` when it is no JSON object.
pub fn parse_frame(data: &str) -> Option<Frame> {
    let value = match serde_json::from_str::<Wrapped>(data) {
        Ok(wrapped) => wrapped.payload,
        Err(_) => serde_json::from_str::<Value>(data).ok()?,
    };
    value.is_object().then(|| Frame {
        id: value.get("id").and_then(Value::as_str).map(str::to_owned),
        event: event(&value),
    })
}

fn event(value: &Value) -> Option<Event> {
    let kind = value.get("type")?.as_str()?;
    let properties = value.get("properties")?;
    let session = || Some(text(properties, "sessionID")).filter(|session| !session.is_empty());
    Some(match kind {
        "session.created" => Event::SessionCreated(field(properties, "info")?),
        "session.deleted" => Event::SessionDeleted {
            session: deleted(properties)?,
        },
        "session.turn.open" => Event::TurnOpened {
            session: session()?,
        },
        "session.turn.close" => Event::TurnClosed {
            session: session()?,
            reason: reason(&text(properties, "reason")),
        },
        "session.status" => Event::Status {
            session: session()?,
            status: SessionStatus::parse(properties.get("status")?),
        },
        "session.idle" => Event::Status {
            session: session()?,
            status: SessionStatus::Idle,
        },
        "session.error" => Event::Error {
            session: session()?,
            error: properties.get("error")?.clone(),
        },
        "message.updated" => Event::Message(field(properties, "info")?),
        "message.part.updated" => part(properties, session)?,
        "message.part.delta" => Event::Delta {
            session: session()?,
            message: text(properties, "messageID"),
        },
        "permission.asked" => Event::PermissionAsked(Ask::parse(properties)?),
        "question.asked" => Event::QuestionAsked(Ask::parse(properties)?),
        "session.network.asked" => Event::NetworkAsked(Ask::parse(properties)?),
        "permission.replied"
        | "question.replied"
        | "question.rejected"
        | "session.network.replied"
        | "session.network.rejected" => Event::Answered {
            session: session()?,
            request: text(properties, "requestID"),
        },
        "server.instance.disposed" => Event::Disposed {
            directory: text(properties, "directory"),
        },
        _ => return None,
    })
}

fn part(properties: &Value, session: impl Fn() -> Option<String>) -> Option<Event> {
    let raw = properties.get("part")?;
    let session = session()
        .or_else(|| Some(text(raw, "sessionID")))
        .filter(|id| !id.is_empty())?;
    let mut part: Part = field(properties, "part")?;
    // Each update repeats the whole text; the queue only needs to know that there is one.
    part.text = crate::redact::cut(&part.text, 8);
    Some(Event::Part { session, part })
}

fn deleted(properties: &Value) -> Option<String> {
    let direct = text(properties, "sessionID");
    let id = if direct.is_empty() {
        text(properties.get("info")?, "id")
    } else {
        direct
    };
    (!id.is_empty()).then_some(id)
}

fn reason(text: &str) -> TurnReason {
    match text {
        "completed" => TurnReason::Completed,
        "interrupted" => TurnReason::Interrupted,
        // One we do not know is no success.
        _ => TurnReason::Error,
    }
}

fn field<T: serde::de::DeserializeOwned>(properties: &Value, name: &str) -> Option<T> {
    let value = properties.get(name)?;
    T::deserialize(value).ok()
}
