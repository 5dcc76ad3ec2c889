//! Credentials at rest: what the environment gave, and what was stored for single rigs.
//!
//! Owns the files below `secrets/` and the ids by which everyone else speaks of credentials. A
//! token leaves it only inside of [`kilo::Credentials`]. It must not know who uses which.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use kilo::{Credentials, CredentialsError};
use rig::{Class, CredentialSource, Failure, Stage};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

/// The gateway where nobody names another.
pub(crate) const DEFAULT_GATEWAY: &str = "https://api.kilo.ai";

/// What the environment of the process says about the gateway. `Debug` shows no token.
#[derive(Clone, Default)]
pub struct Environment {
    /// `KILO_API_URL`.
    pub gateway_url: Option<String>,
    /// `KILOCODE_TOKEN`, else `KILO_API_KEY`.
    pub token: Option<SecretString>,
    /// `KILO_ORG_ID`.
    pub organization: Option<String>,
}

/// Stored credentials and those of the environment.
#[derive(Debug)]
pub(crate) struct Vault {
    dir: PathBuf,
    instance: String,
    environment: Environment,
}

/// Credentials and the id by which breakers, servers and logs know them.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// No secret; another value has another id.
    pub(crate) id: String,
    /// The values.
    pub(crate) credentials: Credentials,
}

/// Why credentials could not be kept. No text holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The gateway's URL is none.
    #[error("the gateway URL can not be read ({reason}); set one such as {DEFAULT_GATEWAY}")]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// They are not fit for use.
    #[error(transparent)]
    Unfit(#[from] CredentialsError),
    /// The disk said no.
    #[error("credentials could not be stored: {0}; check the data directory's disk and owner")]
    Io(#[from] io::Error),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    gateway_url: Option<String>,
    token: String,
}

impl Environment {
    /// Reads the process's environment. Empty variables count as unset.
    pub fn from_process() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            gateway_url: read("KILO_API_URL"),
            token: read("KILOCODE_TOKEN")
                .or_else(|| read("KILO_API_KEY"))
                .map(SecretString::from),
            organization: read("KILO_ORG_ID"),
        }
    }

    fn url(&self) -> &str {
        self.gateway_url.as_deref().unwrap_or(DEFAULT_GATEWAY)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a password as long as nobody has checked it.
        let url = self
            .gateway_url
            .as_deref()
            .map(|url| kilo::Redactor::default().clean(url));
        f.debug_struct("Environment")
            .field("gateway_url", &url)
            .field("token", &self.token.as_ref().map(|_| "[redacted]"))
            .field("organization", &self.organization)
            .finish()
    }
}

impl Vault {
    /// Credentials below `dir`, which is made when the first are stored. `instance` is the data
    /// directory's id.
    pub(crate) fn new(dir: PathBuf, instance: &str, environment: Environment) -> Self {
        Self {
            dir,
            instance: instance.to_owned(),
            environment,
        }
    }

    /// Keeps a token and returns its id. Without a gateway of its own it is used at the
    /// environment's, or at the default one.
    pub(crate) async fn store(
        &self,
        gateway_url: Option<String>,
        token: SecretString,
    ) -> Result<String, Error> {
        let url = gateway_url
            .as_deref()
            .unwrap_or_else(|| self.environment.url());
        Credentials::new(parse(url)?, Some(token.clone()), None)?;
        let id = Uuid::new_v4();
        let stored = Stored {
            format: 1,
            gateway_url,
            token: token.expose_secret().to_owned(),
        };
        let text = serde_json::to_string(&stored).map_err(io::Error::from);
        drop(SecretString::from(stored.token));
        let (dir, text) = (self.dir.clone(), SecretString::from(text?));
        blocking(move || write(&dir, id, text.expose_secret().as_bytes())).await?;
        Ok(id.to_string())
    }

    /// The credentials that a rig is set to use.
    ///
    /// # Errors
    /// A failure of class credentials whose text says what to set.
    pub(crate) async fn resolve(&self, source: &CredentialSource) -> Result<Resolved, Failure> {
        match source {
            CredentialSource::None => Err(missing("this rig is set to use no credentials")),
            CredentialSource::Environment => self.of_environment(),
            CredentialSource::Stored { id } => self.of_file(id).await,
        }
    }

    /// The id of the environment's credentials, if it holds a token.
    pub(crate) fn environment_id(&self) -> Option<String> {
        let token = self.environment.token.as_ref()?;
        let mut hash = Sha256::new();
        for part in [
            self.instance.as_str(),
            self.environment.url(),
            token.expose_secret(),
        ] {
            // With lengths: no two triples run into the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hex = hash
            .finalize()
            .iter()
            .take(8)
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        Some(format!("env-{hex}"))
    }

    /// Forgets stored credentials; those that are not there are forgotten already.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), Error> {
        let Some(path) = self.file(id) else {
            return Ok(());
        };
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn of_environment(&self) -> Result<Resolved, Failure> {
        let Some(id) = self.environment_id() else {
            return Err(missing("the environment holds no token"));
        };
        let Environment {
            token,
            organization,
            ..
        } = &self.environment;
        let credentials = parse(self.environment.url())
            .and_then(|url| Ok(Credentials::new(url, token.clone(), organization.clone())?));
        let credentials = credentials.map_err(|error| missing(&error.to_string()))?;
        Ok(Resolved { id, credentials })
    }

    async fn of_file(&self, id: &str) -> Result<Resolved, Failure> {
        let gone = || missing("the stored credentials of this rig are not there any more");
        let path = self.file(id).ok_or_else(gone)?;
        let text = match tokio::fs::read_to_string(&path).await {
            Ok(text) => SecretString::from(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            Err(error) => {
                return Err(missing(&format!(
                    "stored credentials can not be read: {error}"
                )));
            }
        };
        // The parser's own words might quote the token.
        let stored: Stored = serde_json::from_str(text.expose_secret())
            .map_err(|_| missing("the stored credentials of this rig are damaged"))?;
        let token = SecretString::from(stored.token);
        let url = stored
            .gateway_url
            .as_deref()
            .unwrap_or_else(|| self.environment.url());
        let credentials = parse(url).and_then(|url| Ok(Credentials::new(url, Some(token), None)?));
        let credentials = credentials.map_err(|error| missing(&error.to_string()))?;
        Ok(Resolved {
            id: id.to_owned(),
            credentials,
        })
    }

    /// Only ids that we made name files.
    fn file(&self, id: &str) -> Option<PathBuf> {
        Uuid::parse_str(id)
            .ok()
            .map(|id| self.dir.join(format!("{id}.json")))
    }
}

fn parse(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|error| Error::Url {
        reason: error.to_string(),
    })
}

fn missing(what: &str) -> Failure {
    let text = format!("{what}; {}", Class::Credentials.fix());
    Failure::new(Class::Credentials, Stage::Preflight, text)
}

/// Whole or not at all, readable by nobody else.
fn write(dir: &Path, id: Uuid, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    let staged = dir.join(format!(".{id}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&staged, dir.join(format!("{id}.json")))?;
    File::open(dir)?.sync_all()
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const CANARY: &str = "canary-4711";

    fn environment(token: Option<&str>) -> Environment {
        let token = token.map(SecretString::from);
        Environment {
            gateway_url: None,
            token,
            organization: Some("org".into()),
        }
    }

    fn vault(token: Option<&str>) -> (tempfile::TempDir, Vault) {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path().join("secrets"), "instance", environment(token));
        (dir, vault)
    }

    #[tokio::test]
    async fn the_environment_needs_a_token_and_nothing_else() {
        let (_dir, vault) = vault(Some(CANARY));
        let found = vault.resolve(&CredentialSource::Environment).await.unwrap();
        assert_eq!(
            found.credentials.gateway_url().as_str(),
            "https://api.kilo.ai/"
        );
        assert_eq!(found.credentials.organization(), Some("org"));
        assert_eq!(Some(found.id), vault.environment_id());
    }

    #[tokio::test]
    async fn what_is_missing_names_the_fix() {
        let (_dir, vault) = vault(None);
        let unknown = CredentialSource::Stored {
            id: Uuid::new_v4().to_string(),
        };
        let outside = CredentialSource::Stored {
            id: "../../etc/passwd".into(),
        };
        for source in [
            CredentialSource::Environment,
            CredentialSource::None,
            unknown,
            outside,
        ] {
            let failure = vault.resolve(&source).await.unwrap_err();
            assert_eq!(
                (failure.class, failure.stage),
                (Class::Credentials, Stage::Preflight)
            );
            assert!(failure.text.contains("KILOCODE_TOKEN"), "{}", failure.text);
        }
        assert_eq!(vault.environment_id(), None);
    }

    #[tokio::test]
    async fn stored_credentials_are_private_and_come_back() {
        let (_dir, vault) = vault(None);
        let url = Some("http://127.0.0.1:9".to_owned());
        let id = vault.store(url, CANARY.into()).await.unwrap();
        let file = vault.file(&id).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            vault.dir.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(
            std::fs::read_dir(&vault.dir).unwrap().count(),
            1,
            "nothing staged is left"
        );
        let source = CredentialSource::Stored { id: id.clone() };
        let found = vault.resolve(&source).await.unwrap();
        assert_eq!(
            found.credentials.gateway_url().as_str(),
            "http://127.0.0.1:9/"
        );
        assert_eq!(found.credentials.token().unwrap().expose_secret(), CANARY);
        assert_ne!(
            vault.store(None, CANARY.into()).await.unwrap(),
            id,
            "a new value, a new id"
        );
        vault.remove(&id).await.unwrap();
        vault.remove(&id).await.unwrap();
        assert!(vault.resolve(&source).await.is_err());
    }

    #[tokio::test]
    async fn unfit_credentials_are_not_stored() {
        let (_dir, vault) = vault(None);
        for (url, token) in [
            (Some("http://example.com"), "tok"),
            (Some("no url"), "tok"),
            (None, ""),
            (None, "http://evil:1:x"),
        ] {
            assert!(
                vault
                    .store(url.map(str::to_owned), token.into())
                    .await
                    .is_err()
            );
        }
        assert!(!vault.dir.exists());
    }

    #[tokio::test]
    async fn no_text_shows_a_token() {
        let (_dir, vault) = vault(Some(CANARY));
        let id = vault.store(None, CANARY.into()).await.unwrap();
        let source = CredentialSource::Stored { id: id.clone() };
        let found = vault.resolve(&source).await.unwrap();
        let file = vault.file(&id).unwrap();
        std::fs::write(&file, format!(r#"{{"format":1,"token":["{CANARY}"]}}"#)).unwrap();
        let failure = vault.resolve(&source).await.unwrap_err();
        let unfit = vault
            .store(Some(format!("ftp://{CANARY}@x")), CANARY.into())
            .await;
        for shown in [
            format!("{vault:?}"),
            format!("{found:?}"),
            format!("{failure:?}"),
            format!("{:?} {}", unfit, unfit.as_ref().unwrap_err()),
        ] {
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn an_id_changes_with_each_part_and_tells_nothing() {
        let id = |instance: &str, url: Option<&str>, token: &str| {
            let mut environment = environment(Some(token));
            environment.gateway_url = url.map(str::to_owned);
            Vault::new(PathBuf::new(), instance, environment)
                .environment_id()
                .unwrap()
        };
        let first = id("i", None, "tok");
        assert_eq!(first.len(), "env-".len() + 16);
        assert_eq!(first, id("i", Some(DEFAULT_GATEWAY), "tok"));
        for other in [
            id("j", None, "tok"),
            id("i", Some("http://[::1]"), "tok"),
            id("i", None, "t"),
        ] {
            assert_ne!(first, other);
        }
    }
}
