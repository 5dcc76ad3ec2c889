//! The one thread that forks every child of this crate.
//!
//! The parent-death signal belongs to the *thread* that forked: a child forked on a pool thread
//! dies when that thread ends. So one thread, as long-lived as the process, does it for all. It
//! must not know what it starts.

use crate::env::EnvValue;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Starts are seconds of work for the child; a longer queue would only hide an overload.
const QUEUE_MAX: usize = 32;

static JOBS: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);

/// What to start.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub(crate) env: BTreeMap<OsString, EnvValue>,
    pub(crate) dir: PathBuf,
}

struct Job {
    recipe: Recipe,
    /// The runtime that will wait for the child.
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Forks in the spawner's thread. The child leads its own process group, gets SIGTERM when this
/// process dies, reads nothing, and is killed when its handle is dropped.
pub(crate) async fn spawn(recipe: Recipe) -> io::Result<Child> {
    let (reply, answer) = oneshot::channel();
    let job = Job {
        recipe,
        runtime: Handle::current(),
        reply,
    };
    let gone = || io::Error::other("the spawner thread is gone");
    jobs()?.send(job).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

fn jobs() -> io::Result<mpsc::Sender<Job>> {
    let mut jobs = JOBS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(jobs) = jobs.as_ref().filter(|jobs| !jobs.is_closed()) {
        return Ok(jobs.clone());
    }
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    std::thread::Builder::new()
        .name("kilo-spawner".into())
        .spawn(move || serve(receiver))?;
    *jobs = Some(sender.clone());
    Ok(sender)
}

fn serve(mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job {
        recipe,
        runtime,
        reply,
    }) = jobs.blocking_recv()
    {
        // The thread must outlive whatever a half shut down runtime does in there.
        let child = std::panic::catch_unwind(AssertUnwindSafe(|| fork(&recipe, &runtime)));
        let child =
            child.unwrap_or_else(|_| Err(io::Error::other("the runtime refused the child")));
        // Nobody waits any more: the child is dropped, and with that killed.
        drop(reply.send(child));
    }
}

fn fork(recipe: &Recipe, runtime: &Handle) -> io::Result<Child> {
    let _in_runtime = runtime.enter();
    let mut command = Command::new(&recipe.program);
    command
        .args(&recipe.args)
        .env_clear()
        .envs(
            recipe
                .env
                .iter()
                .map(|(name, value)| (name, value.expose())),
        )
        .current_dir(&recipe.dir)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    die_with_parent(&mut command);
    command.spawn()
}

#[expect(
    unsafe_code,
    reason = "the parent-death signal can only be set between fork and exec"
)]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let hook = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // The parent may have died before the signal was set; then nobody would send it.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(3))
        }
    };
    // SAFETY: the hook makes two system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(hook);
    }
}
