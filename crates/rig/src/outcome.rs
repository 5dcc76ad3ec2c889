//! What a container reports of a dispatch: how it ended and what work it left.
//!
//! Owns the words of the reports. Knows no bead and takes no decision: `step::settle` judges.

use serde::{Deserialize, Serialize};

use crate::{Class, DispatchId, Refusal, Timestamp};

/// Tokens and cost as the gateway reported them. Sums never wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens read by the model.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// Cost in US dollars.
    pub cost_usd: f64,
    /// A part of it was not told by the gateway and is estimated from above.
    #[serde(skip_serializing_if = "is_false")]
    pub estimated: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Usage {
    /// Whether nothing was used; such a record stores none.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost_usd: self.cost_usd + other.cost_usd,
            estimated: self.estimated || other.estimated,
        }
    }

    /// Tokens read and written together.
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// What this sum has more than an earlier one of the same; a sum that shrank has nothing more.
    pub fn beyond(self, earlier: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_sub(earlier.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(earlier.output_tokens),
            cost_usd: (self.cost_usd - earlier.cost_usd).max(0.0),
            estimated: self.estimated && !earlier.estimated,
        }
    }

    /// The greater of both, field by field: sums of one dispatch only grow, and reports of them may
    /// come in any order.
    pub fn at_least(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.max(other.input_tokens),
            output_tokens: self.output_tokens.max(other.output_tokens),
            cost_usd: self.cost_usd.max(other.cost_usd),
            estimated: self.estimated || other.estimated,
        }
    }
}

/// The step of a start or a run in which something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Checks without a session: credentials, program, model, git.
    Preflight,
    /// Clone and worktree.
    Worktree,
    /// The server process.
    Server,
    /// The session in it.
    Session,
    /// The prompt, up to the first event.
    Prompt,
    /// The turn itself.
    Turn,
    /// Proving the session over and saving its work.
    End,
}

/// Why an attempt failed: the class decides what follows, the text is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The row of the class table.
    pub class: Class,
    /// Where it happened.
    pub stage: Stage,
    /// One clear sentence, without secrets.
    pub text: String,
    /// How long the gateway asked to wait, in milliseconds (429 with Retry-After).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<i64>,
    /// The program said that it is offline: opens the breaker at once.
    #[serde(default)]
    pub offline: bool,
}

impl Failure {
    /// A failure without further details.
    pub fn new(class: Class, stage: Stage, text: impl Into<String>) -> Self {
        Self {
            class,
            stage,
            text: text.into(),
            retry_after_ms: None,
            offline: false,
        }
    }
}

/// A failure as the bead keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// What failed.
    #[serde(flatten)]
    pub failure: Failure,
    /// When it was recorded.
    pub at: Timestamp,
}

/// What a dispatch left on the bead's branch, looked up in git and never taken from a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Work {
    /// Nothing beyond the branch's base.
    None,
    /// This dispatch made a commit.
    Commit {
        /// The branch's head.
        sha: String,
    },
    /// The tree was changed; it was saved as a commit.
    Saved {
        /// The commit that holds the saved tree.
        sha: String,
    },
    /// Only earlier dispatches of the bead worked.
    Earlier {
        /// The branch's head.
        sha: String,
    },
}

impl Work {
    /// The commit that holds the work, if there is any.
    pub fn sha(&self) -> Option<&str> {
        match self {
            Work::None => None,
            Work::Commit { sha } | Work::Saved { sha } | Work::Earlier { sha } => Some(sha),
        }
    }

    /// Whether this very dispatch worked.
    pub fn is_fresh(&self) -> bool {
        matches!(self, Work::Commit { .. } | Work::Saved { .. })
    }
}

/// How a dispatch ended, once its session is proven over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Outcome {
    /// The last turn completed and was judged useful.
    Completed {
        /// What it left.
        work: Work,
        /// The end of the model's last text.
        #[serde(default)]
        text: Option<String>,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
        /// What it left all the same.
        work: Work,
    },
    /// The container did not take it; it costs nothing.
    Refused {
        /// Why.
        refusal: Refusal,
        /// When to ask again, at the latest.
        until: Timestamp,
    },
    /// The container has never begun it and never will.
    NeverStarted,
}

/// What a container says of a turn that completed and stayed quiet, before it ends the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnReport {
    /// The turn's number in this dispatch, from 1; a repeated report gets the same verdict.
    pub turn_no: u32,
    /// What the dispatch has left so far.
    pub work: Work,
    /// Whether the model wrote any text or used any tool.
    pub output: bool,
}

/// The rig's answer to a [`TurnReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnVerdict {
    /// End the session and report its outcome.
    End,
    /// Prompt once more in the same session, with this text.
    Nudge(String),
}

/// What the agent itself said by `done`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneReport {
    /// The branch it names.
    pub branch: String,
    /// A pull request, if it made one.
    #[serde(default)]
    pub pr_url: Option<String>,
    /// Its summary.
    #[serde(default)]
    pub summary: Option<String>,
}

/// How a dispatch ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// How it ended.
    pub outcome: Outcome,
    /// The session, where one began.
    pub session: Option<String>,
    /// Whether the model has written anything.
    pub output: bool,
    /// Usage of the dispatch.
    pub usage: Usage,
    /// When it entered each phase of its life, for the attempt log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseAt>,
    /// The end of what it last wrote, cut to [`LAST_OUTPUT_MAX`] bytes, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_output: Option<String>,
}

/// More of a session's last words is not kept in the attempt log, in bytes.
pub const LAST_OUTPUT_MAX: usize = 2_000;

/// When a dispatch entered a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseAt {
    /// The phase.
    pub stage: Stage,
    /// By the container's clock.
    pub at: Timestamp,
}
