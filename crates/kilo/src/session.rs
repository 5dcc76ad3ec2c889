//! One session: prompts, what happens in them, and its proven end.
//!
//! `turn` decides, this file reads and waits. After any gap in the stream it reads status and
//! messages, so that no end is missed. It must not know why somebody prompts.

use crate::child::Exit;
use crate::client::{Client, ModelRef, PermissionReply, PromptRequest};
use crate::ending::{self, Swept};
use crate::env::TOOLS_OFF;
use crate::event::Event;
use crate::feed::{EventFeed, Subscription};
use crate::http::ClientError;
use crate::judge::TurnReason;
use crate::redact::Redactor;
use crate::seen::Seen;
use crate::session_event::{SessionEvent, TurnEnd};
use crate::turn::{Look, Turn, Verdict, Want};
use crate::wire::Message;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// After a hint that the turn is over without its close.
const RESYNC_AFTER: Duration = Duration::from_secs(1);
/// Between two looks at a session that is to be proven idle.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// An aborted session is idle within half a second.
const IDLE_DEADLINE: Duration = Duration::from_secs(10);
/// Any of the newest messages tells whether there was a prompt, and where the next one begins.
const HISTORY_LOOK: usize = 5;
/// Reads that may fail in a row before a turn is ended without its messages.
const READS_MAX: u32 = 5;

/// What may vary from prompt to prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptOptions {
    /// Who answers.
    pub model: ModelRef,
    /// Added to the system prompt.
    pub system: Option<String>,
    /// Tools that are not offered, besides [`TOOLS_OFF`].
    pub tools_off: Vec<String>,
    /// Kilo's agent; its default without.
    pub agent: Option<String>,
}

impl PromptOptions {
    /// Only the model.
    pub fn new(model: ModelRef) -> Self {
        Self {
            model,
            system: None,
            tools_off: Vec::new(),
            agent: None,
        }
    }
}

/// Why a prompt was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The turn before has not ended yet; kilo would queue this one out of our sight.
    #[error("a turn is still open in this session; wait for its end or abort it")]
    TurnOpen,
    /// The call failed. After a timeout the prompt may have been accepted.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// How a session's end was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnded {
    /// Absent from the status, or its server is gone; its processes were ended.
    Proven(Swept),
    /// Still in the status after the deadline: its server must be ended.
    StillBusy(Swept),
}

/// What a session needs of its server.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) exit: Exit,
    pub(crate) redactor: Redactor,
    pub(crate) marker: Vec<(String, String)>,
    pub(crate) server_pid: u32,
}

/// A session of a running server. Dropping it stops nothing: call [`Session::end`].
#[derive(Debug)]
pub struct Session {
    id: String,
    dir: PathBuf,
    parts: Parts,
    events: Subscription,
    turn: Turn,
    /// The newest messages before the prompt; those after them are the turn's.
    before: Vec<String>,
    ready: VecDeque<SessionEvent>,
    /// Kept here, not on the stack: `next` may be cancelled at any time.
    todo: Option<Look>,
    /// What to read again, and when.
    due: Option<(Instant, Look)>,
    reads_failed: u32,
}

impl Session {
    pub(crate) fn new(id: String, dir: PathBuf, parts: Parts, events: Subscription) -> Self {
        let turn = Turn::new(
            id.clone(),
            dir.to_string_lossy().into_owned(),
            parts.redactor.clone(),
        );
        Self {
            id,
            dir,
            parts,
            events,
            turn,
            before: Vec::new(),
            ready: VecDeque::new(),
            todo: None,
            due: None,
            reads_failed: 0,
        }
    }

    /// Kilo's id of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it works.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sends a prompt. Success only means that it was handed over: wait for
    /// [`SessionEvent::TurnOpened`] with a deadline of your own.
    pub async fn prompt(&mut self, text: &str, options: &PromptOptions) -> Result<(), PromptError> {
        if !self.turn.is_idle() {
            return Err(PromptError::TurnOpen);
        }
        let (client, dir) = (&self.parts.client, self.dir.as_path());
        let last = client.messages(&self.id, dir, HISTORY_LOOK).await?;
        self.before = last.into_iter().map(|message| message.info.id).collect();
        let mut tools_off: Vec<&str> = TOOLS_OFF.to_vec();
        tools_off.extend(options.tools_off.iter().map(String::as_str));
        let request = PromptRequest {
            text,
            model: options.model.clone(),
            system: options.system.as_deref(),
            tools_off,
            agent: options.agent.as_deref(),
        };
        self.todo = None;
        self.due = None;
        self.turn.prompted();
        let sent = self
            .parts
            .client
            .prompt(&self.id, &self.dir, &request)
            .await;
        sent.map_err(|error| {
            if error.kind != crate::http::ClientErrorKind::Timeout {
                self.turn.withdrawn();
            }
            error.into()
        })
    }

    /// What happens next. Cancel-safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> SessionEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Some(todo) = self.todo {
                self.settle(todo).await;
                continue;
            }
            let due = self.due;
            tokio::select! {
                // Events first: what the server said before it went away still counts.
                biased;
                event = self.events.next() => match event {
                    Some(event) => self.take(&event),
                    None => return SessionEvent::ServerGone(self.parts.exit.wait().await),
                },
                info = self.parts.exit.wait() => return SessionEvent::ServerGone(info),
                todo = until(due) => {
                    self.due = None;
                    self.todo = Some(todo);
                }
            }
        }
    }

    /// Whether the session holds a prompt, so that the model knows its task. One that was opened
    /// and cut before its first prompt exists and knows nothing.
    pub async fn has_history(&self) -> Result<bool, ClientError> {
        let messages = self
            .parts
            .client
            .messages(&self.id, &self.dir, HISTORY_LOOK)
            .await?;
        // The head of a message is stored before its parts.
        Ok(messages.iter().any(|message| !message.parts.is_empty()))
    }

    /// Whether a prompt was sent whose [`SessionEvent::TurnEnd`] was not told yet. Until then
    /// there can be no other.
    pub fn is_turn_open(&self) -> bool {
        !self.turn.is_idle()
    }

    /// Stops the turn; its end is still told by [`Session::next`], also when the prompt had not
    /// opened it yet. After that end the session can be prompted again.
    ///
    /// Not for a directory's very first turn before its first message: what kilo 7.7.7 loads just
    /// then stays stopped, and each later turn in that directory is interrupted as it opens.
    pub async fn abort(&mut self) -> Result<(), ClientError> {
        self.parts.client.abort(&self.id, &self.dir).await?;
        self.turn.aborted();
        if self.is_turn_open() {
            self.soon(Look::Resync);
        }
        Ok(())
    }

    /// Answers [`SessionEvent::PermissionAsked`].
    pub async fn reply_permission(
        &self,
        id: &str,
        reply: PermissionReply,
    ) -> Result<(), ClientError> {
        self.parts
            .client
            .reply_permission(id, &self.dir, reply)
            .await
    }

    /// Answers [`SessionEvent::QuestionAsked`]: nobody will.
    pub async fn reject_question(&self, id: &str) -> Result<(), ClientError> {
        self.parts.client.reject_question(id, &self.dir).await
    }

    /// Answers [`SessionEvent::Offline`]: ask the gateway again, now.
    pub async fn retry_network(&self, request_id: &str) -> Result<(), ClientError> {
        self.parts.client.reply_network(request_id, &self.dir).await
    }

    /// Answers [`SessionEvent::Offline`]: fail.
    pub async fn reject_network(&self, request_id: &str) -> Result<(), ClientError> {
        self.parts
            .client
            .reject_network(request_id, &self.dir)
            .await
    }

    /// Stops the session, proves it idle, and ends our processes that work in its directory.
    pub async fn end(&mut self, grace: Duration) -> SessionEnded {
        let idle = self.prove_idle().await;
        let gone = self.parts.exit.now().is_some();
        let server = (!gone).then_some(self.parts.server_pid);
        let swept = ending::end_descendants_in(server, &self.parts.marker, &self.dir, grace).await;
        if idle || gone {
            SessionEnded::Proven(swept)
        } else {
            SessionEnded::StillBusy(swept)
        }
    }

    async fn prove_idle(&mut self) -> bool {
        let mut exit = self.parts.exit.clone();
        tokio::select! {
            _ = exit.wait() => true,
            idle = tokio::time::timeout(IDLE_DEADLINE, self.abort_until_idle()) => idle.is_ok(),
        }
    }

    async fn abort_until_idle(&self) {
        let client = &self.parts.client;
        loop {
            // Again each time: a prompt that was on its way may have started since.
            let aborted = client.abort(&self.id, &self.dir).await;
            let status = client.status(&self.dir).await;
            if aborted.is_ok() && status.is_ok_and(|busy| !busy.contains_key(&self.id)) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn take(&mut self, event: &Event) {
        let wants = self.turn.on_event(event);
        self.want(wants);
    }

    fn want(&mut self, wants: Vec<Want>) {
        for want in wants {
            match want {
                Want::Tell(event) => self.ready.push_back(event),
                Want::Close(reason) => self.todo = Some(Look::Close(reason)),
                Want::Resync => self.todo = self.todo.or(Some(Look::Resync)),
                Want::ResyncSoon => self.soon(Look::Resync),
            }
        }
    }

    /// A close that waits for its second look is not forgotten over a mere hint.
    fn soon(&mut self, todo: Look) {
        let soon = Instant::now() + RESYNC_AFTER;
        self.due = Some(match self.due {
            None => (soon, todo),
            Some((at, known)) if todo == Look::Resync => (at.min(soon), known),
            Some((at, _)) => (at.min(soon), todo),
        });
    }

    async fn settle(&mut self, todo: Look) {
        let (client, before) = (&self.parts.client, &self.before);
        let seen = Seen::read(client, &self.id, &self.dir, &self.turn, before).await;
        self.todo = None;
        match seen {
            Ok(seen) => {
                self.reads_failed = 0;
                self.weigh(todo, &seen);
            }
            Err(error) => self.unread(todo, &error),
        }
    }

    fn weigh(&mut self, todo: Look, seen: &Seen) {
        let wants = self.turn.catch_up(seen);
        self.want(wants);
        let status = seen.statuses.get(&self.id);
        match self.turn.weigh(status, &seen.messages, todo) {
            Verdict::Runs => {}
            Verdict::Odd(look) => self.soon(look),
            // From now, or it would not be a later look.
            Verdict::Unclear(look) => self.due = Some((Instant::now() + RESYNC_AFTER, look)),
            Verdict::Over(reason) => self.finish(reason, &seen.messages),
        }
    }

    /// The server could not be asked. When it is gone, that is told; else it is asked again.
    fn unread(&mut self, todo: Look, error: &ClientError) {
        tracing::debug!(%error, "turn could not be read");
        self.reads_failed += 1;
        let gone = self.parts.exit.now().is_some();
        match todo {
            // These need no messages.
            Look::Close(reason) | Look::CloseAgain(reason)
                if gone && reason != TurnReason::Completed =>
            {
                self.finish(reason, &[]);
            }
            _ if gone => {}
            _ if self.reads_failed >= READS_MAX => self.finish(TurnReason::Unfinished, &[]),
            todo => self.soon(todo),
        }
    }

    fn finish(&mut self, reason: TurnReason, messages: &[Message]) {
        let end: TurnEnd = self.turn.finish(reason, messages);
        self.due = None;
        self.reads_failed = 0;
        self.ready.push_back(SessionEvent::TurnEnd(end));
    }
}

async fn until(due: Option<(Instant, Look)>) -> Look {
    match due {
        Some((at, todo)) => {
            sleep_until(at).await;
            todo
        }
        None => std::future::pending().await,
    }
}
