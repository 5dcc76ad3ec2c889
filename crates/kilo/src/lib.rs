//! One `kilo serve` child and the sessions in it.
//!
//! Finds the program, starts a server, talks to it over HTTP, reads its event stream, judges what
//! a turn was worth, and ends the process with everything it started. It must not know rigs,
//! beads, dispatches or git: it reports what kilo did, and others decide what that means.
//!
//! ```text
//! Program ─► Server ──► Session ──► SessionEvent … TurnEnd(Judgement)
//!              │ child (one process, ended and proven gone)
//!              │ client (HTTP, one deadline per call)
//!              └ feed (one stream, many readers)
//! ```

mod child;
mod client;
mod credentials;
mod ending;
mod env;
mod error;
mod event;
mod feed;
mod http;
mod judge;
mod output;
mod process;
mod program;
mod redact;
mod repeats;
#[cfg(test)]
mod replay;
mod seen;
mod server;
mod session;
mod session_event;
mod settings;
mod spawner;
mod start;
mod tools;
mod turn;
mod usage;
mod version;
mod wire;

pub use child::{Ended, Exit, ExitInfo};
pub use client::{Client, ModelRef, PermissionReply, PromptRequest};
pub use credentials::{Credentials, CredentialsError};
pub use ending::{Swept, end_descendants_in, end_marked, end_recorded};
pub use env::{EnvValue, TOOLS_OFF, child_env};
pub use error::{ErrorKind, SessionError, classify};
pub use event::{Event, Frame, parse_frame};
pub use feed::{EventFeed, FeedTimes, Subscription};
pub use http::{ClientError, ClientErrorKind};
pub use judge::{Judgement, TurnReason, judge};
pub use process::{Identity, boot_id, identify, is_alive, marked};
pub use program::{Found, Program, ProgramError, Search};
pub use redact::Redactor;
pub use repeats::Repeats;
pub use server::{ModelError, Server};
pub use session::{PromptError, PromptOptions, Session, SessionEnded};
pub use session_event::{SessionEvent, ToolState, ToolStatus, TurnEnd, Usage};
pub use settings::ServerSettings;
pub use start::{Phase, StartError, StartErrorKind};
pub use tools::Fingerprint;
pub use version::{Support, TESTED, Version};
pub use wire::{
    Ask, CacheTokens, ConfigWarning, Health, Message, MessageInfo, MessageTime, Part, Provider,
    Providers, SessionInfo, SessionStatus, Tokens, ToolPart,
};
