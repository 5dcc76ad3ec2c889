//! The event stream of one server: connect, read, reconnect, and hand out to many readers.
//!
//! Kilo's stream cannot be resumed, so each (re)connect is an event of its own and readers read
//! status and messages anew. It must not know what events mean.

use crate::child::Exit;
use crate::client::Client;
use crate::event::{Event, parse_frame};
use futures_util::StreamExt;
use reqwest_eventsource::{Event as SseEvent, EventSource, retry};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// A reader that is this far behind has lost events and is told so.
const QUEUE_EVENTS_MAX: usize = 1024;
/// Enough to recognise a frame that is sent twice in a row or a little later.
const IDS_KEPT: usize = 256;

/// Something that yields events until there will be no more.
pub trait EventFeed: Send {
    /// The next event; `None` when the server is gone.
    fn next(&mut self) -> impl Future<Output = Option<Arc<Event>>> + Send;
}

/// Deadlines of a stream.
#[derive(Debug, Clone, Copy)]
pub struct FeedTimes {
    /// Without any frame for so long the connection is dead; kilo's heartbeat comes every 10 s.
    pub idle: Duration,
    /// From the request to the answer's head.
    pub connect: Duration,
    /// Wait before the first reconnect; doubles.
    pub backoff_min: Duration,
    /// Longest wait between reconnects.
    pub backoff_max: Duration,
}

impl Default for FeedTimes {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(35),
            connect: Duration::from_secs(10),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// The stream over HTTP. Reconnects for ever; whoever holds it decides when to stop.
pub(crate) struct SseFeed {
    client: Client,
    times: FeedTimes,
    source: Option<EventSource>,
    /// Since when the present connection has been answered.
    open_since: Option<Instant>,
    wait: Duration,
    seen: VecDeque<String>,
}

impl SseFeed {
    pub(crate) fn new(client: Client, times: FeedTimes) -> Self {
        let wait = Duration::ZERO;
        Self {
            client,
            times,
            source: None,
            open_since: None,
            wait,
            seen: VecDeque::new(),
        }
    }

    async fn connect(&mut self) {
        tokio::time::sleep(self.wait).await;
        let longer = (self.wait * 2).clamp(self.times.backoff_min, self.times.backoff_max);
        self.wait = longer;
        // Fails only for a request whose body cannot be sent twice; this one has none.
        self.source = EventSource::new(self.client.events()).ok();
        if let Some(source) = &mut self.source {
            // Its own retry never counts and knows no idle time; ours does.
            source.set_retry_policy(Box::new(retry::Never));
        }
    }

    fn disconnect(&mut self, why: &str) {
        tracing::debug!(why, "event stream lost");
        // Only a stream that has lasted starts anew: one that opens and breaks at once must not be
        // asked again without a pause.
        let lasted = self
            .open_since
            .take()
            .is_some_and(|since| since.elapsed() >= self.times.backoff_max);
        if lasted {
            self.wait = self.times.backoff_min;
        }
        if let Some(mut source) = self.source.take() {
            source.close();
        }
    }

    fn read(&mut self, data: &str) -> Option<Event> {
        let frame = parse_frame(data)?;
        if let Some(id) = frame.id.filter(|_| frame.event.is_some()) {
            if self.seen.contains(&id) {
                return None;
            }
            if self.seen.len() == IDS_KEPT {
                self.seen.pop_front();
            }
            self.seen.push_back(id);
        }
        frame.event
    }
}

impl EventFeed for SseFeed {
    async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            let limit = if self.open_since.is_some() {
                self.times.idle
            } else {
                self.times.connect
            };
            let Some(source) = &mut self.source else {
                self.connect().await;
                continue;
            };
            match timeout(limit, source.next()).await {
                Ok(Some(Ok(SseEvent::Open))) => {
                    self.open_since = Some(Instant::now());
                    return Some(Arc::new(Event::Reconnected));
                }
                Ok(Some(Ok(SseEvent::Message(message)))) => {
                    if let Some(event) = self.read(&message.data) {
                        return Some(Arc::new(event));
                    }
                }
                // The text could hold an answer's head, which is of no use and maybe secret.
                Ok(Some(Err(_))) => self.disconnect("error"),
                Ok(None) => self.disconnect("end"),
                Err(_) => self.disconnect("silence"),
            }
        }
    }
}

/// One server's stream for any number of readers.
#[derive(Debug)]
pub(crate) struct Hub {
    events: broadcast::Sender<Arc<Event>>,
    pump: AbortHandle,
}

impl Hub {
    /// Starts to read; stops when the server is gone or the hub is dropped. The subscription sees
    /// everything from the first connect on.
    pub(crate) fn start(feed: impl EventFeed + 'static, exit: Exit) -> (Self, Subscription) {
        let (events, first) = broadcast::channel(QUEUE_EVENTS_MAX);
        let pump = tokio::spawn(pump(feed, exit, events.clone())).abort_handle();
        (Self { events, pump }, Subscription { events: first })
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription {
            events: self.events.subscribe(),
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

async fn pump(mut feed: impl EventFeed, mut exit: Exit, events: broadcast::Sender<Arc<Event>>) {
    loop {
        let event = tokio::select! {
            biased;
            event = feed.next() => event,
            _ = exit.wait() => None,
        };
        let Some(event) = event else { return };
        // Nobody listens at the moment; later readers start with a fresh read anyway.
        drop(events.send(event));
    }
}

/// One reader of a server's stream.
#[derive(Debug)]
pub struct Subscription {
    events: broadcast::Receiver<Arc<Event>>,
}

impl EventFeed for Subscription {
    async fn next(&mut self) -> Option<Arc<Event>> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Arc::new(Event::Gap)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
