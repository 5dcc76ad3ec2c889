//! What the gateway was asked: the last requests, counters, and an optional file of both.
//!
//! Bounded on every side. It never sees a token: only whether there was a right one.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::error::Error;

const REQUESTS_KEPT_MAX: usize = 10_000;
const LINES_WAITING_MAX: usize = 1_024;
/// Ids and names are short; whoever sends more is cut, so that the log stays of bounded size.
const FIELD_CHARS_MAX: usize = 200;

/// One chat request as it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RequestLog {
    /// When it came, in milliseconds since 1970.
    pub at_ms: i64,
    /// `x-kilocode-taskid`: the session id.
    pub task_id: String,
    /// `x-kilocode-mode`.
    pub mode: String,
    /// The model id.
    pub model: String,
    /// The behaviour's name; `title` for a title, `refused` for a request that no script saw.
    pub behaviour: &'static str,
    /// Whether it carried the right token.
    pub authorized: bool,
}

impl RequestLog {
    pub(super) fn new(task_id: &str, mode: &str, model: &str, behaviour: &'static str) -> Self {
        let short = |text: &str| text.chars().take(FIELD_CHARS_MAX).collect();
        Self {
            at_ms: jiff::Timestamp::now().as_millisecond(),
            task_id: short(task_id),
            mode: short(mode),
            model: short(model),
            behaviour,
            authorized: true,
        }
    }
}

/// Totals since the start. They go on where the list of requests forgets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Chat requests, whatever the answer.
    pub requests: u64,
    /// Chat requests without the right token.
    pub unauthorized: u64,
    /// Requests for the list of models.
    pub models: u64,
    /// Answers that have not ended: neither sent whole nor left by the client.
    pub in_flight: u64,
    /// Chat requests by behaviour name.
    pub by_behaviour: BTreeMap<&'static str, u64>,
    /// Lines that the log file has not got, for being slower than the requests or out of order.
    pub lines_lost: u64,
}

/// The one place where requests are counted.
#[derive(Debug)]
pub(super) struct Ledger {
    recent: Mutex<VecDeque<RequestLog>>,
    counters: watch::Sender<Counters>,
    lines: Mutex<Option<mpsc::Sender<String>>>,
}

impl Ledger {
    /// A ledger and, where there is a file, the task that writes it.
    pub(super) async fn open(file: Option<&Path>) -> Result<(Self, Option<JoinHandle<()>>), Error> {
        let (lines, writer) = match file {
            None => (None, None),
            Some(path) => {
                let opened = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .await;
                let file = opened.map_err(|source| Error::LogFile {
                    path: path.to_owned(),
                    source,
                })?;
                let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
                (
                    Some(sender),
                    Some(tokio::spawn(write_lines(file, receiver))),
                )
            }
        };
        let counters = watch::Sender::new(Counters::default());
        let ledger = Self {
            recent: Mutex::default(),
            counters,
            lines: Mutex::new(lines),
        };
        Ok((ledger, writer))
    }

    pub(super) fn record(&self, request: RequestLog) {
        let line = serde_json::to_string(&request).ok();
        let lost = line.is_some_and(|line| !self.offer(line));
        let (behaviour, authorized) = (request.behaviour, request.authorized);
        self.keep(request);
        self.counters.send_modify(|counters| {
            counters.requests += 1;
            counters.unauthorized += u64::from(!authorized);
            counters.lines_lost += u64::from(lost);
            *counters.by_behaviour.entry(behaviour).or_default() += 1;
        });
    }

    fn keep(&self, request: RequestLog) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= REQUESTS_KEPT_MAX {
            recent.pop_front();
        }
        recent.push_back(request);
    }

    /// False when the line is lost. An answer never waits for the file.
    fn offer(&self, mut line: String) -> bool {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        line.push('\n');
        lines
            .as_ref()
            .is_none_or(|lines| lines.try_send(line).is_ok())
    }

    /// Lets the writer end once it has written what waits.
    pub(super) fn close(&self) {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    pub(super) fn count_models(&self) {
        self.counters.send_modify(|counters| counters.models += 1);
    }

    pub(super) fn begin_answer(&self) {
        self.counters
            .send_modify(|counters| counters.in_flight += 1);
    }

    pub(super) fn end_answer(&self) {
        self.counters.send_modify(|counters| {
            counters.in_flight = counters.in_flight.saturating_sub(1);
        });
    }

    pub(super) fn recent(&self) -> Vec<RequestLog> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Counters> {
        self.counters.subscribe()
    }
}

/// Ends when the sender is gone. A full disk loses lines, never answers.
async fn write_lines(mut file: File, mut lines: mpsc::Receiver<String>) {
    while let Some(line) = lines.recv().await {
        let written = match file.write_all(line.as_bytes()).await {
            Ok(()) => file.flush().await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "the request log of the gateway cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_list_forgets_the_oldest_and_the_counters_do_not() {
        let (ledger, _) = Ledger::open(None).await.unwrap();
        for task in 0..=REQUESTS_KEPT_MAX {
            ledger.record(RequestLog::new(&task.to_string(), "code", "m", "text"));
        }
        let recent = ledger.recent();
        assert_eq!(recent.len(), REQUESTS_KEPT_MAX);
        assert_eq!(
            recent.first().map(|request| request.task_id.as_str()),
            Some("1")
        );
        assert_eq!(ledger.watch().borrow().requests, 10_001);
    }

    #[tokio::test]
    async fn long_fields_are_cut() {
        let request = RequestLog::new(&"x".repeat(5_000), "code", "m", "text");
        assert_eq!(request.task_id.len(), FIELD_CHARS_MAX);
    }
}
