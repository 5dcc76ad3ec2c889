//! The long-lived credentials: admin token, viewer token, and the secret that signs agents' tokens.
//!
//! Owns their comparison, which takes the same time whatever is wrong. Keeps hashes of the bearer
//! tokens, never the tokens.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::{
    caller::Caller,
    jwt::Signer,
    secret_file::{SecretError, check_length, read_or_make},
};

const ADMIN_FILE: &str = "admin-token";
const VIEWER_FILE: &str = "viewer-token";
const JWT_FILE: &str = "jwt-secret";

/// A SHA-256, compared in constant time.
#[derive(Clone, Copy)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    pub(crate) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    pub(crate) fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// Everything that a bearer credential is compared with.
pub(crate) struct Keys {
    admin: Hash,
    viewer: Hash,
    signer: Signer,
}

impl Keys {
    /// Reads the files of a data directory, making what is missing. Blocking.
    pub(crate) fn open(dir: &Path, jwt_secret: Option<SecretString>) -> Result<Self, SecretError> {
        let admin = read_or_make(dir, ADMIN_FILE)?;
        let viewer = read_or_make(dir, VIEWER_FILE)?;
        let secret = match jwt_secret {
            Some(given) => check_length(given, "the given JWT secret")?,
            None => read_or_make(dir, JWT_FILE)?,
        };
        Ok(Self {
            admin: Hash::of(admin.expose_secret()),
            viewer: Hash::of(viewer.expose_secret()),
            signer: Signer::new(&secret),
        })
    }

    /// Who holds this bearer credential; `now_s` is unix seconds.
    pub(crate) fn caller_of(&self, token: &str, now_s: i64) -> Option<Caller> {
        let hash = Hash::of(token);
        // Both are compared whatever the first one says.
        let (admin, viewer) = (self.admin.ct_eq(&hash), self.viewer.ct_eq(&hash));
        if bool::from(admin) {
            return Some(Caller::Admin { in_browser: false });
        }
        if bool::from(viewer) {
            return Some(Caller::Viewer);
        }
        self.signer
            .verify(token, now_s)
            .map(|claims| Caller::Agent(Box::new(claims)))
    }
}

/// Where the admin token of a data directory lies.
pub(crate) fn admin_token_file(dir: &Path) -> PathBuf {
    dir.join(ADMIN_FILE)
}

/// Where the viewer token of a data directory lies.
pub(crate) fn viewer_token_file(dir: &Path) -> PathBuf {
    dir.join(VIEWER_FILE)
}
