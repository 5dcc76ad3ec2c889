//! Single questions for a checkup, asked without a runtime: program, gateway, leftovers.
//!
//! Owns nothing and changes nothing; the answers are those that a dispatch would meet.

use std::path::{Path, PathBuf};

use rig::{CredentialSource, Failure};

use crate::{
    container::marker_of,
    preflight,
    vault::{Environment, Vault},
};

/// The version of kilo that this one was tested with.
pub const KILO_TESTED: kilo::Version = kilo::TESTED;

/// A usable kilo program.
#[derive(Clone, Debug)]
pub struct KiloFound {
    /// The executable.
    pub path: PathBuf,
    /// What it says of itself.
    pub version: kilo::Version,
    /// Set when it is newer than the tested one.
    pub warning: Option<String>,
}

/// Finds the program as a container would: a setting, our own install, `PATH`.
///
/// # Errors
/// One sentence that says what is wrong and what to do.
pub async fn kilo(setting: Option<&Path>, install: PathBuf) -> Result<KiloFound, String> {
    let search = kilo::Search {
        setting: setting.map(Path::to_owned),
        path_var: std::env::var_os("PATH"),
        own_install: Some(install),
    };
    let found = kilo::Program::find(&search).await;
    let found = found.map_err(|error| error.to_string())?;
    Ok(KiloFound {
        path: found.program.path,
        version: found.program.version,
        warning: found.warning,
    })
}

/// Asks the gateway for its models with the environment's credentials. It costs nothing.
///
/// # Errors
/// The failure that a preflight would report; its text holds no secret.
pub async fn gateway(environment: Environment) -> Result<(), Failure> {
    let vault = Vault::new(PathBuf::new(), "", environment);
    let resolved = vault.resolve(&CredentialSource::Environment).await?;
    preflight::ask_models(&resolved.credentials).await
}

/// Living processes that carry the marker of this data directory's instance.
pub async fn processes_of(instance: &str) -> Vec<u32> {
    let marker = marker_of(instance);
    let found = tokio::task::spawn_blocking(move || kilo::marked(&marker)).await;
    // Only a panic in the scan gets into the default.
    found
        .unwrap_or_default()
        .iter()
        .map(|process| process.pid)
        .collect()
}
