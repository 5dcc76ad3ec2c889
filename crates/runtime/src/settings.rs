//! What a host tells the runtime at its start.
//!
//! Owns defaults that work as they are. Reads no environment: the host passes what it wants seen.

use std::path::PathBuf;

use crate::vault::Environment;

/// Everything that a runtime is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept: state, secrets, clones, worktrees. One runtime at a time.
    pub data_dir: PathBuf,
    /// The `kilo` program; otherwise the data directory's own install, then `PATH`.
    pub kilo_program: Option<PathBuf>,
    /// Where our own install of kilo lies; otherwise below the data directory.
    pub kilo_install: Option<PathBuf>,
    /// The model of rigs that name none; otherwise the gateway's default.
    pub default_model: Option<String>,
    /// Credentials of rigs that have none of their own.
    pub environment: Environment,
    /// Threads that rigs are spread over.
    pub arbiters: usize,
}

impl Settings {
    /// The defaults for that data directory, without any credentials.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            kilo_program: None,
            kilo_install: None,
            default_model: None,
            environment: Environment::default(),
            arbiters: 2,
        }
    }

    /// The same with the credentials of this process's environment.
    pub fn with_process_environment(mut self) -> Self {
        self.environment = Environment::from_process();
        self
    }
}
