//! Owns one running server process from its fork to the proof that nothing of it is left.
//!
//! One task holds the child, waits for it, and ends it with all its descendants: on request, when
//! the handle is dropped, or when the runtime goes away. It must not know HTTP.

use crate::ending::{self, Swept};
use crate::output::{Tail, drain};
use crate::process::{self, Identity};
use crate::redact::Redactor;
use crate::spawner::{self, Recipe};
use rustix::process::Signal;
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Grace for a server whose handle was dropped; it needs about one second.
pub(crate) const DROP_GRACE: Duration = Duration::from_secs(3);
/// A grandchild may hold the pipe open for ever; the exit is reported anyway.
const TAIL_WAIT: Duration = Duration::from_millis(250);
/// After the server itself is gone, its tools get this long between TERM and KILL.
const TOOL_GRACE: Duration = Duration::from_millis(500);
const REQUESTS_MAX: usize = 4;

/// How a server's process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitInfo {
    /// Exit code; 0 says nothing about the work.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Its last lines on stderr, redacted.
    pub stderr_tail: Vec<String>,
}

/// The proof of an end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// How the server's own process ended.
    pub exit: ExitInfo,
    /// Whether it had to be killed.
    pub forced: bool,
    /// Descendants that had to be ended after it.
    pub descendants: usize,
    /// Descendants that are still there; empty is the proof.
    pub survivors: Vec<u32>,
}

/// Waits for a server's exit. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Exit {
    info: watch::Receiver<Option<ExitInfo>>,
}

impl Exit {
    /// Resolves when the process is gone; at once if it already is.
    pub async fn wait(&mut self) -> ExitInfo {
        match self.info.wait_for(Option::is_some).await {
            Ok(info) => info.clone().unwrap_or_default(),
            // The owner went away with its runtime, and took the process along.
            Err(_) => ExitInfo::default(),
        }
    }

    /// The exit, if it has happened.
    pub fn now(&self) -> Option<ExitInfo> {
        self.info.borrow().clone()
    }
}

/// A child and its owner task. Dropping it ends the process in the background.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) identity: Identity,
    pub(crate) stderr: Tail,
    requests: mpsc::Sender<EndRequest>,
    exit: Exit,
    port: watch::Receiver<Option<u16>>,
}

#[derive(Debug)]
struct EndRequest {
    grace: Duration,
    reply: oneshot::Sender<Ended>,
}

impl Supervised {
    pub(crate) async fn spawn(
        recipe: Recipe,
        marker: Vec<(String, String)>,
        redactor: Redactor,
    ) -> io::Result<Self> {
        let mut child = spawner::spawn(recipe).await?;
        let pid = child
            .id()
            .ok_or_else(|| io::Error::other("the process ended at once"))?;
        // It is not waited for yet, so its number is still its own.
        let identity = process::identify(pid).unwrap_or(Identity { pid, start_time: 0 });
        let (stdout, stderr) = (Tail::default(), Tail::default());
        let (found_port, port) = watch::channel(None);
        let mut drains = Vec::new();
        if let Some(stream) = child.stdout.take() {
            drains.push(tokio::spawn(drain(stream, stdout, parse_ready, found_port)));
        }
        if let Some(stream) = child.stderr.take() {
            let nothing = watch::channel(None::<()>).0;
            drains.push(tokio::spawn(drain(
                stream,
                stderr.clone(),
                |_| None,
                nothing,
            )));
        }
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (report, info) = watch::channel(None);
        let family = Family {
            leader: pid,
            marker,
            armed: true,
        };
        let owner = Owner {
            family,
            child,
            drains,
            stderr: stderr.clone(),
            redactor,
            report,
        };
        tokio::spawn(owner.run(inbox));
        Ok(Self {
            identity,
            stderr,
            requests,
            exit: Exit { info },
            port,
        })
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit.clone()
    }

    /// The port that the child announced; `None` when its output ended without.
    pub(crate) async fn port(&self) -> Option<u16> {
        let mut port = self.port.clone();
        let found = port.wait_for(Option::is_some).await.ok()?;
        *found
    }

    pub(crate) async fn end(&self, grace: Duration) -> Ended {
        let (reply, answer) = oneshot::channel();
        // Both fail only when the owner went away with its runtime, which killed everything.
        drop(self.requests.send(EndRequest { grace, reply }).await);
        answer.await.unwrap_or_default()
    }
}

/// Reads `kilo server listening on http://127.0.0.1:PORT`.
fn parse_ready(line: &str) -> Option<u16> {
    let address = line.strip_prefix("kilo server listening on http://")?;
    let (_, port) = address.split_once(':')?;
    let digits = port
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(port.len());
    port.get(..digits)?.parse().ok().filter(|port| *port != 0)
}

/// What is killed, without waiting, when the owner is dropped before it has ended everything.
#[derive(Debug)]
struct Family {
    leader: u32,
    marker: Vec<(String, String)>,
    armed: bool,
}

impl Family {
    fn find(&self) -> impl Future<Output = Vec<Identity>> + Send + use<> {
        let (leader, marker) = (self.leader, self.marker.clone());
        ending::blocking(move || ending::family(leader, &marker))
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if self.armed {
            let family = ending::family(self.leader, &self.marker);
            process::signal_group(self.leader, Signal::KILL);
            for process in family {
                process::signal(process, Signal::KILL);
            }
        }
    }
}

struct Owner {
    /// First, so that the descendants are found before the child's own handle kills it.
    family: Family,
    child: Child,
    drains: Vec<JoinHandle<()>>,
    stderr: Tail,
    redactor: Redactor,
    report: watch::Sender<Option<ExitInfo>>,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<EndRequest>) {
        let first = tokio::select! {
            status = self.child.wait() => Err(status),
            request = inbox.recv() => Ok(request),
        };
        let mut ended = match first {
            Err(status) => self.after_exit(status, Vec::new()).await,
            Ok(request) => {
                let grace = request.as_ref().map_or(DROP_GRACE, |request| request.grace);
                let ended = self.end(grace).await;
                reply(request, &ended);
                ended
            }
        };
        self.family.armed = false;
        while let Some(request) = inbox.recv().await {
            // Something may have been forked in between; the answer must be true now.
            let swept = self.sweep(Vec::new()).await;
            ended.descendants += swept.ended;
            ended.survivors = swept.survivors;
            reply(Some(request), &ended);
        }
    }

    async fn end(&mut self, grace: Duration) -> Ended {
        let leader = self.family.leader;
        let mut family = self.family.find().await;
        process::signal_group(leader, Signal::TERM);
        let (status, forced) =
            if let Ok(status) = tokio::time::timeout(grace, self.child.wait()).await {
                (status, false)
            } else {
                // Once it is killed, nothing leads from it to its tools any more.
                family.extend(self.family.find().await);
                process::signal_group(leader, Signal::KILL);
                (self.child.wait().await, true)
            };
        let mut ended = self.after_exit(status, family).await;
        ended.forced = forced;
        ended
    }

    /// Reports the exit at once, then ends what is left of the family.
    async fn after_exit(&mut self, status: io::Result<ExitStatus>, family: Vec<Identity>) -> Ended {
        for drain in &mut self.drains {
            drop(tokio::time::timeout(TAIL_WAIT, drain).await);
        }
        let exit = ExitInfo {
            code: status.as_ref().ok().and_then(ExitStatus::code),
            signal: status.as_ref().ok().and_then(ExitStatusExt::signal),
            stderr_tail: self
                .stderr
                .lines()
                .iter()
                .map(|line| self.redactor.clean(line))
                .collect(),
        };
        self.report.send_replace(Some(exit.clone()));
        let swept = self.sweep(family).await;
        Ended {
            exit,
            forced: false,
            descendants: swept.ended,
            survivors: swept.survivors,
        }
    }

    async fn sweep(&self, known: Vec<Identity>) -> Swept {
        let marker = self.family.marker.clone();
        let find = move || {
            let mut left = process::marked(&marker);
            left.extend(known.iter().filter(|process| process::is_alive(**process)));
            left
        };
        ending::sweep(find, TOOL_GRACE).await
    }
}

fn reply(request: Option<EndRequest>, ended: &Ended) {
    if let Some(request) = request {
        // Whoever asked may have stopped waiting; the end happened all the same.
        drop(request.reply.send(ended.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_ready_line_alone() {
        assert_eq!(
            parse_ready("kilo server listening on http://127.0.0.1:4096"),
            Some(4096)
        );
        assert_eq!(
            parse_ready("kilo server listening on http://127.0.0.1:41999 x"),
            Some(41999)
        );
        for line in [
            "",
            "listening on http://127.0.0.1:1",
            "kilo server listening on http://127.0.0.1:0",
            "kilo server listening on http://127.0.0.1:99999",
            "kilo server listening on http://x",
        ] {
            assert_eq!(parse_ready(line), None, "{line}");
        }
    }
}
