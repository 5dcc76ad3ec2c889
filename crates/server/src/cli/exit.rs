//! Exit codes, and how a command says why it failed.

use std::{io::Write as _, process::ExitCode};

/// For the help of every command.
pub(super) const HELP: &str = "Exit codes: 0 ok, 1 failure, 2 usage, 3 not reachable, \
                               4 refused by state, 5 timed out, 130 interrupted twice";

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Ok,
    /// Something failed.
    Failure,
    /// The arguments are wrong.
    Usage,
    /// The server could not be reached.
    NotReachable,
    /// The state does not allow it.
    RefusedByState,
    /// It took too long.
    TimedOut,
    /// A second signal cut the orderly end.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::NotReachable => 3,
            Exit::RefusedByState => 4,
            Exit::TimedOut => 5,
            Exit::Interrupted => 130,
        })
    }
}

/// Says why on stderr, whatever the log's filter is.
pub(super) fn failed(exit: Exit, why: &str) -> ExitCode {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "wellhead: {why}");
    exit.into()
}
