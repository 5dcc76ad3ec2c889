//! What several rigs share and a failure may speak against: credential, gateway, model, container.
//!
//! Owns the words and which class speaks against which scope. Knows no breaker: a rig's own one is
//! in its record, those of the shared scopes are the town's (`town`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Class, Limit, Who};

/// Something that dispatches of several rigs depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Scope {
    /// One credential.
    Credential {
        /// Its id, which is no secret; a new value has a new id.
        id: String,
    },
    /// One gateway.
    Gateway {
        /// Its origin.
        origin: String,
    },
    /// One model of one gateway.
    Model {
        /// The gateway's origin.
        origin: String,
        /// The model's id.
        model: String,
    },
    /// The container itself: the program that it runs.
    Container,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Credential { id } => write!(f, "credential {id}"),
            Scope::Gateway { origin } => write!(f, "gateway {origin}"),
            Scope::Model { origin, model } => write!(f, "model {model} at {origin}"),
            Scope::Container => f.write_str("container"),
        }
    }
}

/// How far a failure of a class speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No further than the dispatch itself.
    Nobody,
    /// Against the rig: its repository, or whatever kills its sessions.
    Rig,
    /// Against the credential.
    Credential,
    /// Against the gateway.
    Gateway,
    /// Against the model at its gateway.
    Model,
    /// Against the container.
    Container,
}

impl Class {
    /// Which breaker a failure of this class is fed to.
    pub fn reach(self) -> Reach {
        match self {
            Class::Credentials | Class::Billing | Class::RateLimited => Reach::Credential,
            Class::ModelNotFound => Reach::Model,
            Class::KiloMissing => Reach::Container,
            Class::Gateway => Reach::Gateway,
            Class::Git | Class::Crash | Class::StartTimeout => Reach::Rig,
            Class::AgentFailed
            | Class::EndedEmpty
            | Class::Stalled
            | Class::Unanswered
            | Class::Lost
            | Class::Interrupted
            | Class::BudgetStop => Reach::Nobody,
        }
    }
}

/// The shared scopes of one dispatch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scopes {
    /// The credential's id; where none is set, a word that says so.
    pub credential: String,
    /// The gateway's origin.
    pub gateway: String,
    /// The model, where one is named; else the gateway's own default.
    pub model: Option<String>,
}

impl Scopes {
    /// Every one of them.
    pub fn all(&self) -> [Scope; 4] {
        let origin = || self.gateway.clone();
        let model = self.model.clone().unwrap_or_else(|| "default".to_owned());
        [
            Scope::Credential {
                id: self.credential.clone(),
            },
            Scope::Gateway { origin: origin() },
            Scope::Model {
                origin: origin(),
                model,
            },
            Scope::Container,
        ]
    }

    /// The one that a failure of that class speaks against, if it is a shared one.
    pub fn against(&self, class: Class) -> Option<Scope> {
        let [credential, gateway, model, container] = self.all();
        match class.reach() {
            Reach::Credential => Some(credential),
            Reach::Gateway => Some(gateway),
            Reach::Model => Some(model),
            Reach::Container => Some(container),
            Reach::Rig | Reach::Nobody => None,
        }
    }
}

/// Why a town does not let a dispatch pass. It costs the bead nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Refusal {
    /// The breaker of a scope is open.
    Breaker {
        /// Which scope.
        scope: Scope,
        /// What opened it.
        class: Class,
        /// The same, for people.
        text: String,
    },
    /// The breaker of a scope is half open, and another dispatch is its probe.
    Probing {
        /// Which scope.
        scope: Scope,
        /// What had opened it.
        class: Class,
    },
    /// Every slot is taken.
    Full {
        /// How many there are.
        slots: u32,
    },
    /// The town's budget of the day is used up.
    Budget {
        /// The limit that was reached.
        limit: Limit,
    },
    /// The town is paused or stopped.
    Paused {
        /// By whom.
        by: Who,
    },
}

impl Refusal {
    /// The class of the failure behind it, where there is one.
    pub fn class(&self) -> Option<Class> {
        match self {
            Refusal::Breaker { class, .. } | Refusal::Probing { class, .. } => Some(*class),
            Refusal::Full { .. } | Refusal::Budget { .. } | Refusal::Paused { .. } => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Breaker { scope, class, text } => {
                write!(f, "{class}: {text} (the breaker of {scope} is open)")
            }
            Refusal::Probing { scope, class } => write!(
                f,
                "{class}: the breaker of {scope} is half open, and another dispatch is its probe"
            ),
            Refusal::Full { slots } => write!(f, "all {slots} slots of the town are taken"),
            Refusal::Budget { limit } => {
                write!(f, "the town's budget of the day is used up ({limit})")
            }
            Refusal::Paused { by } => write!(f, "the town is paused by {by}"),
        }
    }
}
