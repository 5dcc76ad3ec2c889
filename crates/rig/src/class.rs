//! The class table: why an attempt ended, who pays for it, and what comes next.
//!
//! Owns the table of the rules (`docs/architecture.md`). Knows no bead and no breaker state; both
//! ask this table.

use serde::{Deserialize, Serialize};

/// Why an attempt ended without completing its bead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The gateway refused the credentials, or there are none.
    Credentials,
    /// The account behind the credentials cannot pay.
    Billing,
    /// The gateway does not know the model.
    ModelNotFound,
    /// The `kilo` program is missing or of an unsupported version.
    KiloMissing,
    /// The repository cannot be reached, or has no such branch, or no commit.
    Git,
    /// The gateway is down, offline or answers 5xx.
    Gateway,
    /// The gateway asks for patience (429).
    RateLimited,
    /// The process died under the session that was alone on it.
    Crash,
    /// The session did not start in time.
    StartTimeout,
    /// The session ended with an error that no other row names.
    AgentFailed,
    /// The session ended without any output.
    EndedEmpty,
    /// No progress for too long, or over the total limit.
    Stalled,
    /// A question or permission was not answered in time.
    Unanswered,
    /// The session was lost through no fault of its own.
    Lost,
    /// The session was ended by us: drain, rotation of credentials.
    Interrupted,
    /// A budget ended it.
    BudgetStop,
}

/// How a failure of a class acts on the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// It says nothing about the scope.
    Never,
    /// The breaker opens at the first one.
    AtOnce,
    /// It counts towards the breaker's threshold.
    Counted,
    /// It pauses the scope for the time that the gateway asked for.
    Pause,
}

impl Class {
    /// Every class, in the table's order.
    pub const ALL: [Class; 16] = [
        Class::Credentials,
        Class::Billing,
        Class::ModelNotFound,
        Class::KiloMissing,
        Class::Git,
        Class::Gateway,
        Class::RateLimited,
        Class::Crash,
        Class::StartTimeout,
        Class::AgentFailed,
        Class::EndedEmpty,
        Class::Stalled,
        Class::Unanswered,
        Class::Lost,
        Class::Interrupted,
        Class::BudgetStop,
    ];

    /// Whether it is charged to the bead's `failures`. What is not the work's fault is not.
    pub fn is_charged(self) -> bool {
        match self {
            Class::Crash
            | Class::StartTimeout
            | Class::AgentFailed
            | Class::EndedEmpty
            | Class::Stalled
            | Class::Unanswered => true,
            Class::Credentials
            | Class::Billing
            | Class::ModelNotFound
            | Class::KiloMissing
            | Class::Git
            | Class::Gateway
            | Class::RateLimited
            | Class::Lost
            | Class::Interrupted
            | Class::BudgetStop => false,
        }
    }

    /// How it acts on the breaker of its scope.
    pub fn trip(self) -> Trip {
        match self {
            Class::Credentials
            | Class::Billing
            | Class::ModelNotFound
            | Class::KiloMissing
            | Class::Git => Trip::AtOnce,
            Class::Gateway | Class::Crash | Class::StartTimeout => Trip::Counted,
            Class::RateLimited => Trip::Pause,
            Class::AgentFailed
            | Class::EndedEmpty
            | Class::Stalled
            | Class::Unanswered
            | Class::Lost
            | Class::Interrupted
            | Class::BudgetStop => Trip::Never,
        }
    }

    /// Whether the session it ended should be continued rather than begun afresh.
    pub fn continues_session(self) -> bool {
        matches!(self, Class::Lost | Class::Interrupted | Class::BudgetStop)
    }

    /// The stable word for the API, the log and the escalation's cause.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Credentials => "credentials",
            Class::Billing => "billing",
            Class::ModelNotFound => "model_not_found",
            Class::KiloMissing => "kilo_missing",
            Class::Git => "git",
            Class::Gateway => "gateway",
            Class::RateLimited => "rate_limited",
            Class::Crash => "crash",
            Class::StartTimeout => "start_timeout",
            Class::AgentFailed => "agent_failed",
            Class::EndedEmpty => "ended_empty",
            Class::Stalled => "stalled",
            Class::Unanswered => "unanswered",
            Class::Lost => "lost",
            Class::Interrupted => "interrupted",
            Class::BudgetStop => "budget_stop",
        }
    }

    /// What a person is told to do about it.
    pub fn fix(self) -> &'static str {
        match self {
            Class::Credentials => {
                "set kilocode_token on the rig, or KILO_API_URL and KILOCODE_TOKEN in the \
                 environment of wellhead, and start it again"
            }
            Class::Billing => "add credit to the account behind the token, then reset the breaker",
            Class::ModelNotFound => "set the rig's model to one that the gateway offers",
            Class::KiloMissing => "install the program: npm install -g @kilocode/cli@7.7.7",
            Class::Git => "correct the rig's git URL and default branch, or give it a first commit",
            Class::Gateway => "check that KILO_API_URL can be reached; work goes on by itself",
            Class::RateLimited => "nothing: the gateway's own pause is kept",
            Class::Crash | Class::StartTimeout => {
                "look at the last output of kilo in the failure, and at memory and disk"
            }
            Class::AgentFailed | Class::EndedEmpty | Class::Stalled | Class::Unanswered => {
                "read the attempt's text, change the bead or the model, then retry it"
            }
            Class::Lost | Class::Interrupted => "nothing: the session is continued",
            Class::BudgetStop => "raise the budget, or wait for the next UTC day",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
