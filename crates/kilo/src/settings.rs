//! What one server is started with, and the places below its private directory.
//!
//! Plain data; it starts nothing and reads no environment.

use crate::credentials::Credentials;
use crate::program::Program;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything [`crate::Server::start`] needs. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The program to run, as [`Program::find`] gave it.
    pub program: Program,
    /// Home, XDG directories and temporary files of this server; made with mode 0700. Its sessions
    /// live here: the same directory continues them after a restart.
    pub private_dir: PathBuf,
    /// The gateway and its token.
    pub credentials: Credentials,
    /// Default model, by the gateway's own id (without the leading provider).
    pub model: String,
    /// Model for titles and the like, by the gateway's own id.
    pub small_model: Option<String>,
    /// Environment variables by which this server and all its descendants are recognised. Several
    /// servers may share them: each gets one more of its own, and its end is its own alone.
    pub marker: Vec<(String, String)>,
    /// Name and mail address for commits of the agents.
    pub git_identity: (String, String),
    /// From the spawn to the first event of the stream.
    pub start_deadline: Duration,
    /// Merged over the configuration that is handed to kilo; `Null` for none.
    pub extra_config: serde_json::Value,
}

impl ServerSettings {
    pub(crate) fn places(&self) -> Places<'_> {
        Places {
            root: &self.private_dir,
        }
    }
}

/// The directories of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    root: &'a Path,
}

impl Places<'_> {
    /// Where the server itself stands. Not its home: kilo complains when it is started there.
    pub(crate) fn stand(self) -> PathBuf {
        self.root.join("stand")
    }

    /// Each variable that names a directory, with that directory.
    pub(crate) fn by_variable(self) -> [(&'static str, PathBuf); 6] {
        [
            ("HOME", self.root.join("home")),
            ("XDG_DATA_HOME", self.root.join("data")),
            ("XDG_CONFIG_HOME", self.root.join("config")),
            ("XDG_CACHE_HOME", self.root.join("cache")),
            ("XDG_STATE_HOME", self.root.join("state")),
            ("TMPDIR", self.root.join("tmp")),
        ]
    }

    /// Kilo's stored credentials, which would outrank the ones it is given.
    pub(crate) fn auth_file(self) -> PathBuf {
        self.root.join("data/kilo/auth.json")
    }
}
