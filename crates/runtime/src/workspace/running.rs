//! A git process from its start to its end, with everything that it started.
//!
//! Owns that none outlives its caller and that none fills the memory. It must not know what is run.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

/// More output than this is dropped; no call needs more.
const OUT_BYTES_MAX: usize = 4 << 20;
/// The end of what git complains about is kept.
const ERR_BYTES_MAX: usize = 16 << 10;
/// A helper that git left behind (an ssh master, a credential cache) may hold its pipes open.
const PIPES_GRACE: Duration = Duration::from_secs(1);
/// Time for git to remove its lock files.
const END_GRACE: Duration = Duration::from_secs(2);
const END_POLL: Duration = Duration::from_millis(20);

/// A git that runs, with everything it started: one process group. Whoever drops it ends it.
pub(super) struct Running {
    child: Option<Child>,
    group: Option<Pid>,
}

impl Running {
    pub(super) fn spawn(command: std::process::Command) -> io::Result<Self> {
        let child = Command::from(command).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            group: id.and_then(Pid::from_raw),
            child: Some(child),
        })
    }

    /// Until it has ended by itself: its status, and what it wrote to stdout and stderr.
    pub(super) async fn finish(&mut self) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let Some(child) = &mut self.child else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let done = finish(child).await?;
        // Waited for: its id may be another's from now on.
        (self.group, self.child) = (None, None);
        Ok(done)
    }

    /// TERM first: git takes its lock files with it then.
    pub(super) async fn end(&mut self) {
        let (Some(mut child), Some(group)) = (self.child.take(), self.group.take()) else {
            return;
        };
        let _ = kill_process_group(group, Signal::TERM);
        let _ = tokio::time::timeout(END_GRACE, wait_unreaped(group)).await;
        // Until it is waited for, the id is its own, and so is the group's.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        let mut rest = Self {
            child: self.child.take(),
            group: self.group.take(),
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { rest.end().await });
        } else if let Some(group) = rest.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
            rest.child = None;
        }
    }
}

/// Until the leader has ended, without collecting it.
async fn wait_unreaped(leader: Pid) {
    let stat = format!("/proc/{}/stat", leader.as_raw_nonzero());
    while tokio::fs::read_to_string(&stat)
        .await
        .is_ok_and(|stat| !stat.contains(") Z "))
    {
        tokio::time::sleep(END_POLL).await;
    }
}

async fn finish(child: &mut Child) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = {
        let reading = async { tokio::join!(head(stdout, &mut out), tail(stderr, &mut err)) };
        tokio::pin!(reading);
        tokio::select! {
            _ = &mut reading => child.wait().await?,
            status = child.wait() => {
                let _ = tokio::time::timeout(PIPES_GRACE, &mut reading).await;
                status?
            }
        }
    };
    Ok((status, out, err))
}

/// Keeps the beginning and reads on, so that the writer never waits.
async fn head(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let room = OUT_BYTES_MAX.saturating_sub(into.len());
        into.extend(chunk.iter().take(count.min(room)));
    }
}

/// Keeps the end: git's reason comes last.
async fn tail(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; 4 << 10];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        into.extend(chunk.iter().take(count));
        let over = into.len().saturating_sub(ERR_BYTES_MAX);
        into.drain(..over);
    }
}
