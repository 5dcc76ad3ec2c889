//! What a session tells its user.
//!
//! Types only; `turn` decides when which of them is told.

use crate::child::ExitInfo;
use crate::judge::{Judgement, TurnReason};
use crate::tools::Fingerprint;

/// What a session tells its user.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// The prompt was accepted and its turn runs.
    TurnOpened,
    /// Something moved.
    Progress {
        /// Whether it was the model's own output, and not kilo's housekeeping.
        output: bool,
        /// The tool it was about.
        tool: Option<ToolState>,
    },
    /// Kilo asks the gateway again later.
    Retrying {
        /// Counted from 1.
        attempt: u64,
        /// The gateway's words, redacted and cut.
        message: String,
        /// Epoch milliseconds of the next attempt.
        next_at_ms: u64,
        /// HTTP status, where the words name one.
        status: Option<u16>,
    },
    /// Waits for the gateway, for ever, until answered by `reply_network` or `reject_network`.
    Offline {
        /// To answer it.
        request_id: String,
        /// Why.
        message: String,
    },
    /// Waits, for ever, until the permission is answered.
    PermissionAsked {
        /// To answer it.
        id: String,
        /// What is asked.
        text: String,
    },
    /// Waits, for ever, until the question is answered or rejected.
    QuestionAsked {
        /// To answer it.
        id: String,
        /// What is asked.
        text: String,
    },
    /// What was used since this handle was made, all turns and child sessions together.
    Usage(Usage),
    /// The turn is over.
    TurnEnd(TurnEnd),
    /// The server's process is gone.
    ServerGone(ExitInfo),
}

/// A tool call's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolState {
    /// Name of the tool.
    pub name: String,
    /// The model's id of this call.
    pub call_id: String,
    /// Where it stands.
    pub state: ToolStatus,
    /// Name and input, once the input is complete: the same for calls that are the same.
    pub input: Option<Fingerprint>,
}

/// Where a tool call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolStatus {
    /// The model is still writing its input.
    Pending,
    /// It runs, or waits for a permission.
    Running,
    /// Done.
    Completed,
    /// Failed.
    Error,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Prompt tokens, the cached ones included.
    pub input: u64,
    /// Answer and thinking tokens.
    pub output: u64,
    /// US dollars.
    pub cost: f64,
    /// Finished steps of the model that have output and for which no token at all was reported,
    /// as from a gateway that sends no usage, or for an answer that was cut. They are missing in
    /// the sums above.
    pub unreported_steps: u64,
}

/// How a turn ended and what it was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEnd {
    /// How it was closed.
    pub reason: TurnReason,
    /// What it was worth.
    pub judgement: Judgement,
    /// The last assistant text, cut.
    pub text: Option<String>,
    /// As in [`SessionEvent::Usage`]: since this handle was made.
    pub usage: Usage,
    /// Whether the model produced anything.
    pub model_output: bool,
}
