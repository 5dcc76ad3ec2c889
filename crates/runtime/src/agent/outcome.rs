//! From what kilo reports to the rows of the class table.
//!
//! Owns this mapping and nothing else; pure.

use kilo::{ErrorKind, ExitInfo, SessionError, StartError, StartErrorKind};
use rig::{Class, Failure, Stage, Usage};

/// The failure that an error of a turn is.
pub(super) fn of_error(error: &SessionError) -> Failure {
    let class = match error.kind {
        ErrorKind::Credentials => Class::Credentials,
        ErrorKind::Billing => Class::Billing,
        ErrorKind::ModelNotFound => Class::ModelNotFound,
        ErrorKind::RateLimited => Class::RateLimited,
        ErrorKind::GatewayDown => Class::Gateway,
        // Malformed and cut streams, 400, and whatever else has no row of its own.
        ErrorKind::Other => Class::AgentFailed,
    };
    let retry_after_ms = error.retry_after_ms.and_then(|ms| i64::try_from(ms).ok());
    Failure {
        retry_after_ms,
        ..Failure::new(class, Stage::Turn, error.text.clone())
    }
}

/// The failure that a start of a server is.
pub(super) fn of_start(error: &StartError) -> Failure {
    let class = match &error.kind {
        StartErrorKind::Timeout => Class::StartTimeout,
        StartErrorKind::Spawn | StartErrorKind::UnsupportedVersion => Class::KiloMissing,
        StartErrorKind::Exited(_)
        | StartErrorKind::PrivateDir
        | StartErrorKind::ConfigRejected
        | StartErrorKind::Http => Class::Crash,
    };
    Failure::new(class, Stage::Server, error.to_string())
}

/// The failure that the death of the server under a session is.
pub(super) fn of_exit(exit: &ExitInfo, was_alone: bool) -> Failure {
    let (class, whose) = if was_alone {
        (Class::Crash, "kilo ended under this session")
    } else {
        (Class::Lost, "kilo ended under several sessions")
    };
    Failure::new(class, Stage::Turn, format!("{whose}: {}", words(exit)))
}

fn words(exit: &ExitInfo) -> String {
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("killed by signal {signal}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "it is gone".to_owned(),
    };
    match exit.stderr_tail.last() {
        Some(line) => format!("{how}; its last line: {line}"),
        None => how,
    }
}

/// Usage in the core's words.
pub(super) fn usage(usage: kilo::Usage) -> Usage {
    Usage {
        input_tokens: usage.input,
        output_tokens: usage.output,
        cost_usd: usage.cost,
    }
}
