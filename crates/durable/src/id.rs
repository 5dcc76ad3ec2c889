//! Names of objects.
//!
//! An id is the key of everything an object owns, so it is checked once, here. It knows no
//! meaning in the name.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Leaves more than 100 bytes for the keys inside the object: see `keys::NAME_BYTES_MAX`.
const BYTES_MAX: usize = 255;

/// The name of one object inside its namespace; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(Arc<str>);

impl ObjectId {
    /// The id of that name: the same name is always the same object.
    ///
    /// # Errors
    /// `BadId` if the name is empty, longer than 255 bytes, or contains NUL (the separator of
    /// stored keys).
    pub fn from_name(name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.len() > BYTES_MAX || name.contains('\0') {
            return Err(Error::BadId {
                text: name.chars().take(64).collect(),
            });
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectId {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        Self::from_name(&name)
    }
}

impl TryFrom<&str> for ObjectId {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self, Error> {
        Self::from_name(name)
    }
}

impl std::str::FromStr for ObjectId {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::from_name(name)
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.as_str().to_owned()
    }
}

impl AsRef<str> for ObjectId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({:?})", self.as_str())
    }
}
