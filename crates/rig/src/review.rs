//! The review queue: branches that wait for somebody to look at them.
//!
//! Owns the entry's shape. It is the one record of a review: a bead in review holds nothing but its
//! entry's id. Knows no rule of movement: those are in `step/review`.

use serde::{Deserialize, Serialize};

use crate::{AgentId, BeadId, ReviewId, Timestamp};

/// The most reviews of a rig that may be open before no agent may submit another.
pub const REVIEWS_OPEN_MAX: usize = 1_000;

/// Where a review stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewStatus {
    /// Nobody has looked at it.
    Pending,
    /// Somebody is at it.
    Running,
    /// Its branch is merged.
    Merged,
    /// It was not merged and will not be.
    Failed,
}

impl ReviewStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Merged => "merged",
            Self::Failed => "failed",
        }
    }
}

/// How a review ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewVerdict {
    /// The branch was merged.
    Merged,
    /// The branch can not be merged; a person is needed.
    Conflict,
}

impl ReviewVerdict {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Conflict => "conflict",
        }
    }
}

/// One entry of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewEntry {
    /// Its id; ids are ordered by time.
    pub id: ReviewId,
    /// Who submitted it; none when a person did.
    pub agent: Option<AgentId>,
    /// The bead that the branch belongs to.
    pub bead: BeadId,
    /// The branch under review.
    pub branch: String,
    /// A pull request, if there is one.
    pub pr_url: Option<String>,
    /// The agent's summary.
    pub summary: Option<String>,
    /// Where it stands.
    pub status: ReviewStatus,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it came to its end.
    pub processed_at: Option<Timestamp>,
    /// What was said at its end.
    pub message: Option<String>,
    /// The commit that it was merged as.
    pub commit: Option<String>,
}

impl ReviewEntry {
    /// Whether it still waits for its end.
    pub fn is_open(&self) -> bool {
        matches!(self.status, ReviewStatus::Pending | ReviewStatus::Running)
    }
}
