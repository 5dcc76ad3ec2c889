//! One run of the `git` program: its arguments, its environment, its deadline, its words.
//!
//! Owns what every call has in common: nothing of a repository runs by itself, nothing prompts,
//! nothing outlives its deadline or its caller. It must not know what the calls are for.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use super::running::Running;

/// For calls that touch this machine only.
pub(super) const LOCAL: Duration = Duration::from_mins(2);
/// For `ls-remote`.
pub(super) const REMOTE: Duration = Duration::from_secs(30);
/// For clone and fetch of large repositories.
pub(super) const TRANSFER: Duration = Duration::from_mins(10);

const TEXT_CHARS_MAX: usize = 300;

/// Settings that outrank every configuration file: nothing of the repository runs, nothing tidies
/// up behind our back.
const SETTINGS: [&str; 7] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "protocol.ext.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "advice.detachedHead=false",
];

/// What must not leak in: another repository's whereabouts, and secrets that git has no use for.
const REMOVED: [&str; 14] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG_PARAMETERS",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "GIT_CURL_VERBOSE",
    "KILOCODE_TOKEN",
    "KILO_API_KEY",
];

/// Where a call runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'a> {
    /// In no repository.
    Nowhere,
    /// In a bare repository.
    Bare(&'a Path),
    /// In a worktree; git never looks above it, so a broken one can not become its parent's.
    Worktree(&'a Path),
}

/// One call, before it runs.
#[derive(Debug)]
pub(super) struct Git<'a> {
    at: At<'a>,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    deadline: Duration,
}

/// What a call printed.
#[derive(Debug)]
pub(super) struct Output {
    text: String,
}

/// Why a call failed. Texts are redacted and at most 300 characters long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GitError {
    #[error("the git program was not found; install git and put it on the PATH")]
    NotInstalled,
    #[error("git could not be run: {0}")]
    NotRun(String),
    #[error("git {command} took longer than {limit_s} s and was ended")]
    Deadline { command: String, limit_s: u64 },
    #[error("git {command}: {text}")]
    Failed {
        command: String,
        code: Option<i32>,
        text: String,
    },
}

impl GitError {
    /// Whether git answered "no" rather than failed: exit code 1 of its questions.
    pub(super) fn is_no(&self) -> bool {
        matches!(self, Self::Failed { code: Some(1), .. })
    }
}

impl Output {
    /// The text without the line's end.
    pub(super) fn line(&self) -> String {
        self.text.trim_end_matches(['\n', '\r']).to_owned()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl<'a> Git<'a> {
    /// A call with these arguments; the first one is git's own command.
    pub(super) fn new<S: AsRef<OsStr>>(at: At<'a>, args: impl IntoIterator<Item = S>) -> Self {
        let args = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        Self {
            at,
            args,
            env: Vec::new(),
            deadline: LOCAL,
        }
    }

    pub(super) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Runs it and returns what it printed. Dropped before it is over, it is ended.
    pub(super) async fn run(self) -> Result<Output, GitError> {
        let (name, limit) = (self.name(), self.deadline);
        let mut running = self.spawn()?;
        let Ok(finished) = tokio::time::timeout(limit, running.finish()).await else {
            running.end().await;
            return Err(GitError::Deadline {
                command: name,
                limit_s: limit.as_secs(),
            });
        };
        let (status, out, err) = finished.map_err(|error| GitError::NotRun(error.to_string()))?;
        if status.success() {
            let text = String::from_utf8_lossy(&out).into_owned();
            return Ok(Output { text });
        }
        let text = complaint(&String::from_utf8_lossy(&err), status);
        Err(GitError::Failed {
            command: name,
            code: status.code(),
            text,
        })
    }

    /// Runs a question: `None` where git's answer is "no".
    pub(super) async fn ask(self) -> Result<Option<String>, GitError> {
        match self.run().await {
            Ok(output) => Ok(Some(output.line())),
            Err(error) if error.is_no() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn spawn(&self) -> Result<Running, GitError> {
        let command = command(self, &|name| std::env::var_os(name).is_some());
        Running::spawn(command).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound if !self.dir_is_missing() => GitError::NotInstalled,
            _ => GitError::NotRun(error.to_string()),
        })
    }

    fn name(&self) -> String {
        self.args
            .first()
            .map(|arg| arg.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    fn dir_is_missing(&self) -> bool {
        matches!(self.at, At::Worktree(dir) if !dir.is_dir())
    }
}

/// The command of a call: pure but for `is_set`, which tells what the process's environment holds.
fn command(call: &Git<'_>, is_set: &dyn Fn(&str) -> bool) -> std::process::Command {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("git");
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    match call.at {
        At::Nowhere => command.current_dir("/"),
        At::Bare(dir) => command.arg("--git-dir").arg(dir).current_dir("/"),
        At::Worktree(dir) => command
            .current_dir(dir)
            .env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap_or(dir)),
    };
    for name in REMOVED {
        command.env_remove(name);
    }
    command
        .args(&call.args)
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0");
    // Without this, questions about the state take locks that an agent's own git then meets.
    command.env("GIT_OPTIONAL_LOCKS", "0");
    if !is_set("GIT_ASKPASS") {
        command.env("GIT_ASKPASS", "");
    }
    command.envs(call.env.iter().map(|(name, value)| (name, value)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

/// What ssh must not do: ask. A person's own ssh command, from the environment or from git's
/// configuration, stays in force.
pub(super) async fn quiet_ssh(at: At<'_>) -> Option<(&'static str, OsString)> {
    if ["GIT_SSH_COMMAND", "GIT_SSH"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
    {
        return None;
    }
    let own = Git::new(at, ["config", "--get", "core.sshCommand"])
        .ask()
        .await;
    let is_own = matches!(own, Ok(Some(_)));
    (!is_own).then(|| ("GIT_SSH_COMMAND", OsString::from("ssh -oBatchMode=yes")))
}

/// The line of git's complaint that tells the reason, without passwords, cut.
fn complaint(stderr: &str, status: ExitStatus) -> String {
    let noise = |line: &&str| {
        !line.is_empty()
            && !line.starts_with("hint:")
            && !line.starts_with("Please make sure you have the correct access rights")
            && *line != "and the repository exists."
    };
    let lines: Vec<&str> = stderr
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(noise)
        .collect();
    let is_reason = |line: &&str| line.starts_with("fatal: ") || line.starts_with("error: ");
    let at = lines
        .iter()
        .rposition(is_reason)
        .or(lines.len().checked_sub(1));
    let Some(reason) = at.and_then(|at| lines.get(at)) else {
        return format!("it ended with {status} and said nothing");
    };
    // This line only says that ssh failed; ssh's own words stand before it.
    let before = at.and_then(|at| lines.get(at.checked_sub(1)?));
    let text = match before {
        Some(before) if reason.ends_with("Could not read from remote repository.") => {
            format!("{before}; {reason}")
        }
        _ => (*reason).to_owned(),
    };
    kilo::Redactor::default().clean_cut(&text, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::process::ExitStatusExt, time::Instant};

    fn args_of(command: &std::process::Command) -> Vec<String> {
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect()
    }

    /// What the command sets a variable to; "(removed)" where it takes it away.
    fn env_of(command: &std::process::Command, name: &str) -> Option<String> {
        let (_, value) = command.get_envs().find(|(key, _)| *key == name)?;
        let value = value.map(|value| value.to_string_lossy().into_owned());
        Some(value.unwrap_or_else(|| "(removed)".into()))
    }

    #[test]
    fn a_command_runs_nothing_of_the_repository_and_never_asks() {
        let call = Git::new(At::Worktree(Path::new("/w/a")), ["status"]);
        let built = command(&call, &|_| false);
        let args = args_of(&built);
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "gc.auto=0",
        ] {
            assert!(
                args.iter().any(|arg| arg == setting),
                "{setting} in {args:?}"
            );
        }
        assert_eq!(env_of(&built, "GIT_TERMINAL_PROMPT"), Some("0".into()));
        assert_eq!(env_of(&built, "GIT_ASKPASS"), Some(String::new()));
        assert_eq!(env_of(&built, "GIT_CEILING_DIRECTORIES"), Some("/w".into()));
        for removed in [
            "GIT_DIR",
            "GIT_INDEX_FILE",
            "KILOCODE_TOKEN",
            "KILO_API_KEY",
        ] {
            assert_eq!(
                env_of(&built, removed).as_deref(),
                Some("(removed)"),
                "{removed}"
            );
        }
        assert_eq!(
            env_of(
                &command(&call, &|name| name == "GIT_ASKPASS"),
                "GIT_ASKPASS"
            ),
            None
        );
    }

    #[test]
    fn a_complaint_is_one_line_without_passwords() {
        let failed = ExitStatus::from_raw(128 << 8);
        let text = "Cloning\nfatal: unable to access 'https://u:pw@h/p': no\nhint: look\n\n";
        let clean = complaint(text, failed);
        assert!(
            clean.contains("unable to access") && !clean.contains("pw"),
            "{clean}"
        );
        let ssh = "git@h: Permission denied (publickey).\nfatal: Could not read from remote \
                   repository.\n\nPlease make sure you have the correct access rights\nand the \
                   repository exists.\n";
        assert!(complaint(ssh, failed).starts_with("git@h: Permission denied"));
        assert!(complaint(&"x".repeat(900), failed).chars().count() <= TEXT_CHARS_MAX + 1);
        assert!(complaint("", failed).contains("said nothing"));
    }

    /// Waits for a file that a script writes.
    async fn read_when_written(file: &Path) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.ends_with('\n') {
                return text.trim().to_owned();
            }
            assert!(
                Instant::now() < deadline,
                "{} was not written",
                file.display()
            );
            tokio::task::yield_now().await;
        }
    }

    /// A zombie that init has not collected yet is over, too.
    async fn assert_over(pid: &str) {
        let (file, deadline) = (
            format!("/proc/{pid}/stat"),
            Instant::now() + Duration::from_secs(30),
        );
        while std::fs::read_to_string(&file).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "{pid} lives");
            tokio::task::yield_now().await;
        }
    }

    /// A git that never ends: its script notes its pid, and what ended it.
    fn hanging(dir: &Path) -> Git<'static> {
        let dir = dir.display();
        let script = format!(
            "trap 'echo term > {dir}/end; exit' TERM; echo $$ > {dir}/pid; sleep 600 & wait"
        );
        Git::new(
            At::Nowhere,
            [
                "-c".to_owned(),
                format!("alias.hang=!{script}"),
                "hang".to_owned(),
            ],
        )
    }

    #[tokio::test]
    async fn a_call_past_its_deadline_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let error = hanging(dir.path())
            .deadline(Duration::from_secs(2))
            .run()
            .await
            .unwrap_err();
        assert!(matches!(error, GitError::Deadline { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_mins(1));
        assert_over(&read_when_written(&dir.path().join("pid")).await).await;
        assert_eq!(
            read_when_written(&dir.path().join("end")).await,
            "term",
            "asked to end first"
        );
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let call = tokio::spawn(hanging(dir.path()).run());
        let pid = read_when_written(&dir.path().join("pid")).await;
        call.abort();
        assert_over(&pid).await;
    }
}
