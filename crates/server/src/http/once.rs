//! `Idempotency-Key`: one request, carried out once, however often it is sent.
//!
//! Owns the key's form, its scope (the caller), the digest of a request, and which keys are in
//! flight right now. What was answered before is remembered by the object that was changed.

use std::{
    collections::HashSet,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use rig::{Input, Reply, Rig, Timestamp};
use runtime::{Json, Once, RigStub};
use sha2::{Digest as _, Sha256};

use super::{
    access::Caller,
    failure::{Failure, Issue},
    view::{BeadView, Frame},
};

/// The longest key, in characters.
const KEY_MAX: usize = 255;
/// The header's name.
pub(crate) const HEADER: &str = "idempotency-key";

/// The keys whose requests are being carried out. There are never more than connections.
#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashSet<String>>>);

/// A request with a key, in flight until it is dropped.
pub(crate) struct Ticket {
    once: Once,
    flights: Flights,
}

impl Ticket {
    /// What the objects remember.
    pub(crate) fn once(&self) -> Once {
        self.once.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.once.key);
    }
}

impl Flights {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for this request; 409 while the same key of the same caller is in flight.
    pub(crate) fn begin(&self, once: Once) -> Result<Ticket, Failure> {
        if !self.lock().insert(once.key.clone()) {
            let sentence = "a request with this Idempotency-Key is being carried out; wait for it";
            return Err(Failure::conflict("in_flight", sentence));
        }
        let flights = self.clone();
        Ok(Ticket { once, flights })
    }
}

/// The key that a request's headers carry.
pub(crate) fn key_of(headers: &actix_web::http::header::HeaderMap) -> Option<Result<String, ()>> {
    let mut values = headers.get_all(HEADER);
    let first = values.next()?;
    let is_good = |key: &str| (1..=KEY_MAX).contains(&key.len());
    let visible = |key: &str| key.bytes().all(|byte| byte.is_ascii_graphic());
    let text = first
        .to_str()
        .ok()
        .filter(|key| is_good(key) && visible(key));
    Some(match (text, values.next()) {
        (Some(key), None) => Ok(key.to_owned()),
        _ => Err(()),
    })
}

/// 400 for a key of another form.
pub(crate) fn bad_key() -> Failure {
    let rule = format!("must be one header of 1 to {KEY_MAX} visible ASCII characters");
    Failure::query(
        "Invalid Idempotency-Key",
        vec![Issue::new("Idempotency-Key", rule)],
    )
}

/// Caller and key, and the whole request, as digests.
pub(crate) fn once_of(caller: &Caller, key: &str, request: [&[u8]; 3]) -> Once {
    let scope = match caller {
        Caller::Agent(claims) => format!("agent {} {}", claims.rig_id, claims.agent_id),
        Caller::Nobody | Caller::Viewer | Caller::Admin { .. } => "admin".to_owned(),
    };
    Once {
        key: digest(&[scope.as_bytes(), key.as_bytes()]),
        digest: digest(&request),
    }
}

/// Each part with its length, so that no two lists of parts read alike.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        // Writing to a String never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Tells a rig something and shows the answer as of that very step; with a ticket, once.
pub(crate) async fn tell(
    rig: &RigStub,
    ticket: Option<&Ticket>,
    input: Input,
    show: impl FnOnce(&Rig, &Reply, Timestamp) -> Json + Send + 'static,
) -> Result<Json, Failure> {
    let once = ticket.map(Ticket::once);
    let answer = rig.tell_once(input, once, show).await?;
    if answer.is_null() {
        tracing::error!("a rig gave another kind of answer than was asked for");
        return Err(Failure::internal());
    }
    Ok(answer)
}

/// Shows an answer that is a bead.
pub(crate) fn bead(rig: &Rig, reply: &Reply, now: Timestamp) -> Json {
    match reply {
        Reply::Bead(bead) => Json::of(&BeadView::of(bead, Frame::of(rig, now))),
        _ => Json::null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(key: &str, body: &[u8]) -> Once {
        let admin = Caller::Admin { in_browser: false };
        once_of(&admin, key, [b"POST", b"/x", body])
    }

    #[test]
    fn a_key_is_in_flight_until_its_ticket_is_dropped() {
        let flights = Flights::default();
        let first = flights.begin(once("k", b"1")).ok().unwrap();
        assert!(flights.begin(once("k", b"2")).is_err());
        let other = flights.begin(once("l", b"1"));
        assert!(other.is_ok());
        drop(first);
        assert!(flights.begin(once("k", b"1")).is_ok());
    }

    #[test]
    fn the_digest_stands_for_the_whole_request() {
        let admin = Caller::Admin { in_browser: false };
        let base = once("k", b"body");
        assert_eq!(base, once("k", b"body"));
        let others = [
            once_of(&admin, "k", [b"PUT", b"/x", b"body"]),
            once_of(&admin, "k", [b"POST", b"/xb", b"ody"]),
            once("k", b"bodY"),
        ];
        for other in others {
            assert_eq!(other.key, base.key);
            assert_ne!(other.digest, base.digest);
        }
        assert_ne!(once("K", b"body").key, base.key);
    }
}
