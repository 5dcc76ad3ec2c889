//! `wellhead backup` and `wellhead restore`: the state of a data directory into a file and back.
//!
//! Owns what they are told and what they say. The work is the runtime's.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use runtime::backup::{self, BackupError};
use serde_json::json;

use super::{
    exit::{Exit, failed},
    paths,
};

/// What `wellhead backup` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist
    pub file: PathBuf,
    /// The data directory to back up, which no server may use
    /// [default: wellhead in `$XDG_DATA_HOME`]
    #[arg(long, value_name = "DIR", env = "WELLHEAD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What `wellhead restore` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup
    pub file: PathBuf,
    /// The data directory to restore into: a new or empty one, or one whose store is gone
    /// [default: wellhead in `$XDG_DATA_HOME`]
    #[arg(long, value_name = "DIR", env = "WELLHEAD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Makes a backup.
pub(super) async fn save(args: BackupArgs) -> ExitCode {
    let (file, told) = (args.file, args.json);
    let work = move |dir: &Path| {
        let made = backup::save(dir, &file)?;
        let text = format!(
            "{} records of {} are in {}; stored tokens, repositories and worktrees are not\n",
            made.records,
            dir.display(),
            file.display()
        );
        let json = json!({ "data_dir": dir, "file": file, "records": made.records,
                           "created": made.created });
        Ok((text, json))
    };
    run(args.data_dir.as_deref(), told, work).await
}

/// Restores one.
pub(super) async fn restore(args: RestoreArgs) -> ExitCode {
    let (file, told) = (args.file, args.json);
    let work = move |dir: &Path| {
        let made = backup::restore(&file, dir)?;
        let text = format!(
            "{} records are restored into {}; store tokens of rigs again, then: wellhead up\n",
            made.records,
            dir.display()
        );
        let json = json!({ "data_dir": dir, "file": file, "records": made.records,
                           "created": made.created });
        Ok((text, json))
    };
    run(args.data_dir.as_deref(), told, work).await
}

type Told = (String, serde_json::Value);

async fn run(
    named: Option<&Path>,
    json: bool,
    work: impl FnOnce(&Path) -> Result<Told, BackupError> + Send + 'static,
) -> ExitCode {
    let dir = match paths::chosen(named) {
        Ok(dir) => dir,
        Err(why) => return failed(Exit::Usage, &why),
    };
    match tokio::task::spawn_blocking(move || work(&dir)).await {
        Ok(Ok((text, object))) => {
            let text = if json { format!("{object}\n") } else { text };
            // Without a stdout only the exit code is left to say it.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            Exit::Ok.into()
        }
        Ok(Err(error)) => failed(exit_of(&error), &error.to_string()),
        Err(error) => failed(Exit::Failure, &error.to_string()),
    }
}

fn exit_of(error: &BackupError) -> Exit {
    match error {
        BackupError::DataDir(error) => super::up::exit_of_dir(error),
        BackupError::NoStore { .. } => Exit::Usage,
        BackupError::Exists { .. } | BackupError::HasStore { .. } => Exit::RefusedByState,
        _ => Exit::Failure,
    }
}
