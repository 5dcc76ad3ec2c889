//! Identities: rigs, towns, beads, agents, dispatches.
//!
//! Owns their form and the one place where it is validated. Knows nothing of what they identify.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a string is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} must be 1 to 128 characters of A-Z a-z 0-9 . _ - and begin with a letter or a digit"
)]
pub struct IdError {
    /// Which id was meant, for the sentence.
    pub what: &'static str,
}

fn is_valid(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    first
        && text.len() <= 128
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl Serialize for $name {
            // `into = "String"` would copy it first.
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// Validates `text`; the form is `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
            ///
            /// # Errors
            /// [`IdError`] names the rule that the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if is_valid(&text) { Ok(Self(text)) } else { Err(IdError { what: $what }) }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A rig: one git project under management.
    RigId, "a rig id"
);
id!(
    /// A town: rigs that share a container and its limits.
    TownId, "a town id"
);
id!(
    /// A bead: one piece of work.
    BeadId, "a bead id"
);
id!(
    /// An agent of a rig.
    AgentId, "an agent id"
);
id!(
    /// A mail.
    MailId, "a mail id"
);
id!(
    /// An entry of a rig's review queue.
    ReviewId, "a review id"
);
id!(
    /// One life of a container; a new one for each start of the process.
    Incarnation, "an incarnation"
);

impl BeadId {
    /// The id made from a step's nonce (UUID v7): ordered by time, within a millisecond by
    /// `count`, unique by 62 random bits.
    pub(crate) fn generate(now: crate::Timestamp, count: u64, nonce: u128) -> Self {
        Self(generated(now, count, nonce))
    }
}

macro_rules! generates {
    ($($name:ident),*) => {$(
        impl $name {
            /// See [`BeadId::generate`].
            pub(crate) fn generate(now: crate::Timestamp, count: u64, nonce: u128) -> Self {
                Self(generated(now, count, nonce))
            }
        }
    )*};
}

generates!(AgentId, MailId, ReviewId);

fn generated(now: crate::Timestamp, count: u64, nonce: u128) -> String {
    // The first twelve random bits of a v7 id may be a counter (RFC 9562, 6.2, method 1).
    let [.., count_high, count_low] = count.to_be_bytes();
    let mut random = [0_u8; 10];
    random.copy_from_slice(&nonce.to_be_bytes()[6..]);
    random[0] = count_high & 0x0F;
    random[1] = count_low;
    let millis = u64::try_from(now.0).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random)
        .into_uuid()
        .to_string()
}

/// One dispatch of one bead. `no` only grows and is never reused, so the pair fences every report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DispatchId {
    /// The bead that was dispatched.
    pub bead: BeadId,
    /// Its how-many-eth dispatch, from 1.
    pub no: u64,
}

impl fmt::Display for DispatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.bead, self.no)
    }
}

impl std::str::FromStr for DispatchId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = IdError {
            what: "a dispatch id (bead.number)",
        };
        let (bead, no) = text.rsplit_once('.').ok_or_else(|| wrong.clone())?;
        Ok(Self {
            bead: BeadId::new(bead)?,
            no: no.parse().map_err(|_| wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_checked_at_the_boundary() {
        for good in ["a", "rig-abc", "0.x_y-z", &"a".repeat(128)] {
            assert!(RigId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".a",
            "-a",
            "a/b",
            "../x",
            "a b",
            "é",
            "a\0",
            "%2e",
            &"a".repeat(129),
        ] {
            assert!(RigId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn generated_ids_are_ordered_by_time_and_differ_by_nonce() {
        let now = crate::Timestamp(1_000);
        let first = BeadId::generate(now, 1, 7);
        assert!(
            first < BeadId::generate(now, 2, 3),
            "one millisecond, in order of creation"
        );
        assert!(first < BeadId::generate(crate::Timestamp(2_000), 0, 7));
        assert_ne!(first, BeadId::generate(now, 1, 8));
    }

    #[test]
    fn a_dispatch_id_reads_back() {
        let id = DispatchId {
            bead: BeadId::new("b.1").unwrap(),
            no: 4,
        };
        assert_eq!(id.to_string().parse::<DispatchId>().unwrap(), id);
        assert!("nope".parse::<DispatchId>().is_err());
    }
}
