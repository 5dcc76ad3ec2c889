//! The one place where refusals and failures of the runtime become status codes.
//!
//! Owns the table. Texts of the store may name files and keys: they go to the log, never out. The
//! one exception is a full disk: whoever is to free space has to know where.

use actix_web::http::StatusCode;
use rig::Refused;
use runtime::StoreError;

use super::failure::{Failure, Issue};

/// How soon a client may ask again when a queue is full.
const OVERLOADED_RETRY_S: u64 = 1;
/// How soon a client may ask again when too many keys are remembered.
const KEYS_RETRY_S: u64 = 60;
/// How soon a client may ask again when the store has a problem.
const STORE_RETRY_S: u64 = 5;

impl From<runtime::Error> for Failure {
    fn from(error: runtime::Error) -> Self {
        match error {
            runtime::Error::Refused(refused) => refused.into(),
            runtime::Error::Store(error) => of_store(&error),
            runtime::Error::NotFound(sentence) => Self::not_found(sentence),
            runtime::Error::Conflict(sentence) => Self::conflict("conflict", sentence),
            runtime::Error::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "key_reused",
                error.to_string(),
            ),
            runtime::Error::KeysFull { .. } => {
                Self::unavailable("too_many_keys", error.to_string(), KEYS_RETRY_S)
            }
            runtime::Error::Invalid { field, reason } => {
                Self::body(vec![Issue::new(field, reason)])
            }
            runtime::Error::Io(error) => {
                tracing::error!(%error, "a file could not be read or written");
                if is_full(&error) {
                    full()
                } else {
                    Self::internal()
                }
            }
            other => {
                tracing::error!(error = %other, "a failure of the runtime without a row here");
                Self::internal()
            }
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let sentence = refused.to_string();
        match refused {
            Refused::NoBead(_) | Refused::NoAgent(_) | Refused::NoReview(_) | Refused::Deleted => {
                Self::not_found(sentence)
            }
            Refused::Stale(_) => Self::conflict("stale_dispatch", sentence),
            Refused::DispatchRequired(_) => Self::conflict("dispatch_required", sentence),
            Refused::Conflict(_) => Self::conflict("conflict", sentence),
            Refused::IdentityTaken(_) => Self::conflict("identity_taken", sentence),
        }
    }
}

fn of_store(error: &StoreError) -> Failure {
    use StoreError as Error;
    match error {
        Error::Overloaded => {
            Failure::unavailable("overloaded", error.to_string(), OVERLOADED_RETRY_S)
        }
        Error::Stopped => {
            let sentence = "the server is stopping; nothing was done if there was no answer";
            Failure::unavailable("draining", sentence, STORE_RETRY_S)
        }
        Error::OutcomeUnknown => {
            Failure::unavailable("outcome_unknown", error.to_string(), STORE_RETRY_S)
        }
        Error::Quarantined { object, .. } => {
            tracing::error!(object, %error, "a request met a quarantined object");
            let sentence = "this rig failed too often in a row and is tried again later";
            Failure::unavailable("quarantined", sentence, STORE_RETRY_S)
        }
        Error::Encode { .. } => {
            tracing::warn!(%error, "a value was refused by the store");
            let sentence = "the request is too large or too deep to be stored; send less";
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", sentence)
        }
        Error::BadId { .. } => Failure::not_found("Not found"),
        Error::Full { path, free } => {
            let sentence = format!(
                "the disk that holds {} is full ({free} bytes are free): nothing was stored; free \
                 space there, then ask again; no restart is needed",
                path.display()
            );
            Failure::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", sentence)
        }
        _ if error.is_full() => {
            tracing::error!(%error, "a request met a full disk");
            full()
        }
        other => {
            tracing::error!(error = %other, "the store failed");
            Failure::internal()
        }
    }
}

fn is_full(reason: &str) -> bool {
    reason.contains("No space left") || reason.contains("os error 28")
}

fn full() -> Failure {
    let sentence = "the disk is full: nothing was stored; free space, then ask again";
    Failure::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", sentence)
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use rig::BeadId;

    use super::*;

    fn status_of(error: runtime::Error) -> (u16, &'static str) {
        let failure = Failure::from(error);
        (failure.status_code().as_u16(), failure.code())
    }

    #[test]
    fn each_refusal_has_its_status_and_code() {
        let bead = BeadId::new("b").unwrap();
        let dispatch = "b.1".parse::<rig::DispatchId>().unwrap();
        let agent = rig::AgentId::new("a").unwrap();
        for (refused, expected) in [
            (Refused::NoBead(bead), (404, "not_found")),
            (Refused::NoAgent(agent.clone()), (404, "not_found")),
            (Refused::Deleted, (404, "not_found")),
            (Refused::Stale(dispatch), (409, "stale_dispatch")),
            (Refused::DispatchRequired(agent), (409, "dispatch_required")),
            (Refused::Conflict("x".into()), (409, "conflict")),
            (Refused::IdentityTaken("x".into()), (409, "identity_taken")),
        ] {
            assert_eq!(status_of(refused.into()), expected);
        }
    }

    #[test]
    fn a_failing_store_says_whether_to_come_back_and_leaks_nothing() {
        use StoreError as Error;
        assert_eq!(status_of(Error::Overloaded.into()), (503, "overloaded"));
        assert_eq!(status_of(Error::Stopped.into()), (503, "draining"));
        assert_eq!(
            status_of(Error::OutcomeUnknown.into()),
            (503, "outcome_unknown")
        );
        let reason = "No space left on device".to_owned();
        assert_eq!(
            status_of(
                Error::Storage {
                    action: "write",
                    reason
                }
                .into()
            ),
            (507, "disk_full")
        );
        let (path, free) = ("/data".into(), 0);
        assert_eq!(
            status_of(Error::Full { path, free }.into()),
            (507, "disk_full")
        );
        let secret = Error::Corrupt {
            object: "rig/x".into(),
            key: "/home/me/secret".into(),
            reason: "y".into(),
        };
        let failure = Failure::from(runtime::Error::from(secret));
        assert_eq!(failure.status_code().as_u16(), 500);
        assert!(!failure.to_string().contains("secret"));
    }
}
