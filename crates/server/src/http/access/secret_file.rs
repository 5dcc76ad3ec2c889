//! Secrets that the facade makes at its first start: files of mode 0600 with 256 random bits.
//!
//! Owns how they are made (whole or not at all) and what makes one unusable. Blocking: callers are
//! off the async threads. Knows nothing of what a secret opens.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::TryRngCore as _;
use secrecy::{ExposeSecret as _, SecretString};

/// The shortest secret that is accepted, in bytes.
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// Why a secret can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file can not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{} can be read by others; run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// It is too short to be a secret.
    #[error(
        "{what} has fewer than {SECRET_BYTES_MIN} bytes; use at least {SECRET_BYTES_MIN} random ones"
    )]
    TooShort {
        /// The file or the environment variable.
        what: String,
    },
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    NoRandomness(String),
}

/// 256 random bits as URL-safe text.
pub(crate) fn fresh_secret() -> Result<SecretString, SecretError> {
    let mut bytes = [0_u8; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| SecretError::NoRandomness(error.to_string()))?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes)))
}

/// Reads the secret in `dir/name`, making it first if there is none.
pub(crate) fn read_or_make(dir: &Path, name: &str) -> Result<SecretString, SecretError> {
    let path = dir.join(name);
    match fs::symlink_metadata(&path) {
        Ok(_) => read(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(dir, &path)?;
            read(&path)
        }
        Err(source) => Err(SecretError::File {
            action: "look at",
            path,
            source,
        }),
    }
}

fn read(path: &Path) -> Result<SecretString, SecretError> {
    let failed = |action| {
        let path = path.to_owned();
        move |source| SecretError::File {
            action,
            path,
            source,
        }
    };
    let metadata = fs::metadata(path).map_err(failed("look at"))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(SecretError::Exposed {
            path: path.to_owned(),
        });
    }
    let text = fs::read_to_string(path).map_err(failed("read"))?;
    check_length(SecretString::from(text.trim()), &path.display().to_string())
}

/// Refuses a secret that is too short; `what` names it in the error.
pub(crate) fn check_length(secret: SecretString, what: &str) -> Result<SecretString, SecretError> {
    if secret.expose_secret().len() < SECRET_BYTES_MIN {
        return Err(SecretError::TooShort {
            what: what.to_owned(),
        });
    }
    Ok(secret)
}

/// Writes it beside its place and links it there: a crash leaves the whole file or none, and one
/// that appeared meanwhile is kept.
fn make(dir: &Path, path: &Path) -> Result<(), SecretError> {
    let secret = fresh_secret()?;
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SecretError::File {
            action,
            path,
            source,
        }
    };
    // What a crash left under this name is ours and useless.
    let _ = fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed("create", &temporary))?;
    let written = writeln!(file, "{}", secret.expose_secret()).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let _ = fs::remove_file(&temporary);
    placed.map_err(failed("write", path))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = read_or_make(dir.path(), "admin-token").unwrap();
        let again = read_or_make(dir.path(), "admin-token").unwrap();
        assert_eq!(first.expose_secret(), again.expose_secret());
        assert!(first.expose_secret().len() >= 43, "256 bits");
        let other = read_or_make(dir.path(), "viewer-token").unwrap();
        assert_ne!(first.expose_secret(), other.expose_secret());
        let mode = fs::metadata(dir.path().join("admin-token"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            2,
            "nothing else is left"
        );
    }

    #[test]
    fn a_secret_that_others_can_read_or_that_is_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwt-secret");
        fs::write(&path, "x".repeat(64)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            read_or_make(dir.path(), "jwt-secret"),
            Err(SecretError::Exposed { .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read_or_make(dir.path(), "jwt-secret").is_ok());
        fs::write(&path, "short").unwrap();
        let error = read_or_make(dir.path(), "jwt-secret").unwrap_err();
        assert!(matches!(error, SecretError::TooShort { .. }));
        assert!(!error.to_string().contains("short\n"));
    }
}
