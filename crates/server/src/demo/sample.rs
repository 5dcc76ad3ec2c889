//! A small repository for agents to work on: a script, its test, a README, one commit on `main`.
//!
//! It looks at no configuration of the user's. What is done in it afterwards is not known here.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::fs;
use tokio::process::Command;

const FILES: [(&str, &str); 3] = [
    (
        "README.md",
        "# greet\n\nA tiny command that greets people.\n\n    sh src/greet.sh Ada\n\n\
         Tests: `sh tests/run.sh`.\n",
    ),
    (
        "src/greet.sh",
        "#!/bin/sh\n# Greets the person who is named by the first argument.\nset -eu\n\n\
         name=${1:-world}\nprintf 'Hello, %s!\\n' \"$name\"\n",
    ),
    (
        "tests/run.sh",
        "#!/bin/sh\n# Runs every check; the first one that fails ends it.\nset -eu\n\
         cd \"$(dirname \"$0\")/..\"\n\n\
         [ \"$(sh src/greet.sh)\" = 'Hello, world!' ]\n\
         [ \"$(sh src/greet.sh Ada)\" = 'Hello, Ada!' ]\necho 'all tests passed'\n",
    ),
];

const IDENTITY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "Wellhead Demo"),
    ("GIT_AUTHOR_EMAIL", "demo@wellhead.invalid"),
    ("GIT_COMMITTER_NAME", "Wellhead Demo"),
    ("GIT_COMMITTER_EMAIL", "demo@wellhead.invalid"),
];

const GIT_WITHIN: Duration = Duration::from_secs(30);

/// Why there is no sample repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The directory has something in it.
    #[error("{} is not empty; choose an empty or a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// There is no `git` on the path.
    #[error("git was not found; install git 2.28 or later")]
    GitMissing,
    /// git refused.
    #[error("git {command} failed: {said}")]
    Git {
        /// What it was asked for.
        command: &'static str,
        /// What it said.
        said: String,
    },
    /// A file operation failed.
    #[error("cannot write the sample repository in {}: {source}", path.display())]
    Io {
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes the sample repository in `dir`, which must be empty or not there yet, and returns its
/// absolute path.
pub async fn create_sample_repo(dir: impl AsRef<Path>) -> Result<PathBuf, SampleError> {
    let dir = empty(dir.as_ref()).await?;
    for (name, text) in FILES {
        let path = dir.join(name);
        let written = write(&path, text).await;
        written.map_err(|source| SampleError::Io { path, source })?;
    }
    git(
        &dir,
        "init",
        &["--quiet", "--initial-branch=main", "--template="],
    )
    .await?;
    git(&dir, "add", &["--all"]).await?;
    git(
        &dir,
        "commit",
        &["--quiet", "--no-verify", "--message=greet: say hello"],
    )
    .await?;
    Ok(dir)
}

async fn empty(dir: &Path) -> Result<PathBuf, SampleError> {
    let failed = |source| SampleError::Io {
        path: dir.to_owned(),
        source,
    };
    fs::create_dir_all(dir).await.map_err(failed)?;
    let mut entries = fs::read_dir(dir).await.map_err(failed)?;
    if entries.next_entry().await.map_err(failed)?.is_some() {
        return Err(SampleError::NotEmpty {
            path: dir.to_owned(),
        });
    }
    fs::canonicalize(dir).await.map_err(failed)
}

async fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).await?;
    }
    fs::write(path, text).await
}

async fn git(dir: &Path, command: &'static str, args: &[&str]) -> Result<(), SampleError> {
    let run = Command::new("git")
        .args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "commit.gpgSign=false",
            command,
        ])
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs(IDENTITY)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let failed = |said: String| SampleError::Git { command, said };
    let late = |_| failed(format!("no answer within {} s", GIT_WITHIN.as_secs()));
    match tokio::time::timeout(GIT_WITHIN, run).await.map_err(late)? {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SampleError::GitMissing),
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(dir: &Path, command: &str) -> String {
        let run = std::process::Command::new("sh")
            .args(["-c", command])
            .current_dir(dir)
            .output();
        let output = run.unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[tokio::test]
    async fn it_is_a_clean_repository_with_one_commit_and_passing_tests() {
        let dir = tempfile::tempdir().unwrap();
        let repo = create_sample_repo(dir.path().join("new/greet"))
            .await
            .unwrap();
        assert!(repo.is_absolute());
        assert_eq!(
            sh(&repo, "git log --format='%an %s' main"),
            "Wellhead Demo greet: say hello\n"
        );
        assert_eq!(sh(&repo, "git status --porcelain --branch"), "## main\n");
        assert_eq!(
            sh(&repo, "git ls-files"),
            "README.md\nsrc/greet.sh\ntests/run.sh\n"
        );
        assert_eq!(sh(&repo, "sh tests/run.sh"), "all tests passed\n");
    }

    #[tokio::test]
    async fn it_overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mine"), "").unwrap();
        let error = create_sample_repo(dir.path()).await.unwrap_err();
        assert!(matches!(error, SampleError::NotEmpty { .. }), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
