//! The ways in which the scripted gateway can answer, and their names.
//!
//! Names are what a model id (`scripted/<name>`) or a directive (`[[script: <name>]]`) says. This
//! file knows neither HTTP nor the chat format.

use std::fmt;
use std::str::FromStr;

/// How one chat request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// Writes a file and commits it with git by the `bash` tool, then a short final text.
    Commit,
    /// Writes a file by the `bash` tool and leaves it uncommitted, then a short final text.
    Write,
    /// A text and nothing else.
    Text,
    /// Ends at once without a word.
    Empty,
    /// A stream with a chunk that is not JSON.
    Malformed,
    /// A stream that is cut in its middle.
    Cut,
    /// No byte until the client leaves.
    Hang,
    /// The beginning of a text, then nothing until the client leaves.
    HangMid,
    /// An HTTP error.
    Error {
        /// The HTTP status.
        status: u16,
        /// The `Retry-After` header, if any.
        retry_after_s: Option<u32>,
    },
    /// A text in chunks 200 ms apart.
    Slow {
        /// For how long.
        seconds: u32,
    },
    /// A `bash` tool call that sleeps.
    SleepTool {
        /// For how long.
        seconds: u32,
    },
    /// A text at first; commits once a further user message has arrived.
    NudgedCommit,
    /// Writes slowly at first, for a minute; commits once a further user message has arrived, as
    /// when a session is continued.
    ResumedCommit,
    /// Asks the user by the `question` tool.
    Question,
    /// The same `bash` tool call again and again.
    LoopTool,
    /// No byte at first; commits once a further user message has arrived.
    HangOnce,
}

/// One hour: no script needs more, and a stream stays of bounded size.
const SECONDS_MAX: u32 = 3_600;
const SLOW_SECONDS: u32 = 5;
const SLEEP_SECONDS: u32 = 300;

impl Behaviour {
    /// Every name, as it is listed among the models.
    pub const NAMES: [&'static str; 23] = [
        "commit",
        "write",
        "text",
        "empty",
        "malformed",
        "cut",
        "hang",
        "hang-mid",
        "e400",
        "e401",
        "e402",
        "e403",
        "e429",
        "e429ra",
        "e500",
        "e502",
        "slow",
        "sleep-tool",
        "nudged-commit",
        "resumed-commit",
        "question",
        "loop-tool",
        "hang-once",
    ];

    /// The name without its parameter, for counting. An HTTP error that has no name is `error`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Write => "write",
            Self::Text => "text",
            Self::Empty => "empty",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::Hang => "hang",
            Self::HangMid => "hang-mid",
            Self::Error {
                status,
                retry_after_s,
            } => error_name(*status, retry_after_s.is_some()),
            Self::Slow { .. } => "slow",
            Self::SleepTool { .. } => "sleep-tool",
            Self::NudgedCommit => "nudged-commit",
            Self::ResumedCommit => "resumed-commit",
            Self::Question => "question",
            Self::LoopTool => "loop-tool",
            Self::HangOnce => "hang-once",
        }
    }

    fn error(status: u16) -> Self {
        Self::Error {
            status,
            retry_after_s: None,
        }
    }
}

fn error_name(status: u16, retry_after: bool) -> &'static str {
    match (status, retry_after) {
        (400, false) => "e400",
        (401, false) => "e401",
        (402, false) => "e402",
        (403, false) => "e403",
        (429, false) => "e429",
        (429, true) => "e429ra",
        (500, false) => "e500",
        (502, false) => "e502",
        _ => "error",
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow { seconds } | Self::SleepTool { seconds } => {
                write!(f, "{} {seconds}", self.name())
            }
            _ => f.write_str(self.name()),
        }
    }
}

/// A name that is no behaviour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no scripted behaviour is called {name:?}; use one of {}", Behaviour::NAMES.join(", "))]
pub struct UnknownBehaviour {
    /// The name as it was given, shortened.
    pub name: String,
}

impl FromStr for Behaviour {
    type Err = UnknownBehaviour;

    /// Reads `name` or, for `slow` and `sleep-tool`, `name seconds`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownBehaviour {
            name: text.chars().take(80).collect(),
        };
        let mut words = text.split_whitespace();
        let name = words.next().ok_or_else(unknown)?;
        let seconds = match words.next() {
            None => None,
            Some(word) => Some(word.parse::<u32>().map_err(|_| unknown())?.min(SECONDS_MAX)),
        };
        if words.next().is_some() {
            return Err(unknown());
        }
        match (name, seconds) {
            ("slow", seconds) => Ok(Self::Slow {
                seconds: seconds.unwrap_or(SLOW_SECONDS),
            }),
            ("sleep-tool", seconds) => Ok(Self::SleepTool {
                seconds: seconds.unwrap_or(SLEEP_SECONDS),
            }),
            (_, Some(_)) => Err(unknown()),
            (name, None) => plain(name).ok_or_else(unknown),
        }
    }
}

fn plain(name: &str) -> Option<Behaviour> {
    Some(match name {
        "commit" => Behaviour::Commit,
        "write" => Behaviour::Write,
        "text" => Behaviour::Text,
        "empty" => Behaviour::Empty,
        "malformed" => Behaviour::Malformed,
        "cut" => Behaviour::Cut,
        "hang" => Behaviour::Hang,
        "hang-mid" => Behaviour::HangMid,
        "e400" => Behaviour::error(400),
        "e401" => Behaviour::error(401),
        "e402" => Behaviour::error(402),
        "e403" => Behaviour::error(403),
        "e429" => Behaviour::error(429),
        "e429ra" => Behaviour::Error {
            status: 429,
            retry_after_s: Some(1),
        },
        "e500" => Behaviour::error(500),
        "e502" => Behaviour::error(502),
        "nudged-commit" => Behaviour::NudgedCommit,
        "resumed-commit" => Behaviour::ResumedCommit,
        "question" => Behaviour::Question,
        "loop-tool" => Behaviour::LoopTool,
        "hang-once" => Behaviour::HangOnce,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_reads_back_as_itself() {
        for name in Behaviour::NAMES {
            assert_eq!(name.parse::<Behaviour>().unwrap().name(), name);
        }
    }

    #[test]
    fn seconds_belong_to_the_behaviours_that_take_time() {
        assert_eq!("slow 30".parse(), Ok(Behaviour::Slow { seconds: 30 }));
        assert_eq!(
            "sleep-tool 7".parse(),
            Ok(Behaviour::SleepTool { seconds: 7 })
        );
        assert_eq!(
            "slow 999999".parse(),
            Ok(Behaviour::Slow {
                seconds: SECONDS_MAX
            })
        );
        assert!("commit 3".parse::<Behaviour>().is_err());
        assert!("slow soon".parse::<Behaviour>().is_err());
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "comit".parse::<Behaviour>().unwrap_err().to_string();
        assert!(
            error.contains("\"comit\"") && error.contains("nudged-commit"),
            "{error}"
        );
    }
}
