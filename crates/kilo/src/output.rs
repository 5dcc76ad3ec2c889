//! Drains a child's output for as long as it lives, with bounded memory.
//!
//! Keeps the last lines for failure texts and hands whole lines to one reader. It must not know
//! what the lines mean.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// A line is cut here; the rest of it is read and forgotten.
pub(crate) const LINE_BYTES_MAX: usize = 4096;
/// Enough for a stack trace's head and the message.
pub(crate) const LINES_KEPT: usize = 20;
const CHUNK_BYTES: usize = 16 * 1024;

/// The last lines of one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Tail {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Cuts a stream of bytes into bounded lines.
#[derive(Debug, Default)]
struct Lines {
    open: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (head, rest) = bytes.split_at(end);
            self.append(head);
            line(self.take());
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.append(bytes);
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.open.len());
        self.open
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn take(&mut self) -> String {
        let bytes = std::mem::take(&mut self.open);
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

/// Reads to the end. The tail is complete when this returns; `wanted` looks at each whole line and
/// its first answer is published.
pub(crate) async fn drain<T: Clone>(
    mut stream: impl AsyncRead + Unpin,
    tail: Tail,
    wanted: impl Fn(&str) -> Option<T>,
    found: watch::Sender<Option<T>>,
) {
    let mut lines = Lines::default();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        lines.feed(chunk.get(..read).unwrap_or_default(), |line| {
            if found.borrow().is_none()
                && let Some(value) = wanted(&line)
            {
                found.send_replace(Some(value));
            }
            tail.push(line);
        });
    }
    if !lines.open.is_empty() {
        tail.push(lines.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drained(bytes: &[u8]) -> (Vec<String>, Option<String>) {
        let tail = Tail::default();
        let (found, seen) = watch::channel(None);
        let wanted = |line: &str| line.strip_prefix("port ").map(str::to_owned);
        drain(bytes, tail.clone(), wanted, found).await;
        let seen = seen.borrow().clone();
        (tail.lines(), seen)
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let text = (0..100)
            .map(|n| format!("line {n}"))
            .collect::<Vec<_>>()
            .join("\n");
        let (lines, _) = drained(text.as_bytes()).await;
        assert_eq!(lines.len(), LINES_KEPT);
        assert_eq!(lines.last().unwrap(), "line 99");
    }

    #[tokio::test]
    async fn a_flood_without_newline_is_one_short_line() {
        let (lines, _) = drained(&vec![b'x'; 8 << 20]).await;
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), LINE_BYTES_MAX);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_do_no_harm() {
        let (lines, found) = drained(b"\xff\xfe bad\nport 7\nport 8\n").await;
        assert!(lines[0].contains("bad"), "{lines:?}");
        assert_eq!(found.as_deref(), Some("7"));
    }
}
