//! What status, messages and open requests show of a turn, read anew after the stream has a gap
//! or said that the turn is over.
//!
//! It reads and sorts; what follows from it is `turn`'s.

use crate::client::Client;
use crate::event::Event;
use crate::http::ClientError;
use crate::turn::Turn;
use crate::wire::{Ask, Message, SessionStatus};
use std::collections::HashMap;
use std::path::Path;

/// A turn of more messages than this is judged by its last ones.
const MESSAGES_MAX: usize = 400;
/// Child sessions that are read, and their latest messages. Only their usage counts.
const CHILDREN_MAX: usize = 8;
const CHILD_MESSAGES_MAX: usize = 50;

/// What one look showed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Of the session and its child sessions, without the idle ones.
    pub(crate) statuses: HashMap<String, SessionStatus>,
    /// Those since the prompt.
    pub(crate) messages: Vec<Message>,
    /// Of child sessions.
    pub(crate) of_children: Vec<Message>,
    pub(crate) permissions: Vec<Ask>,
    pub(crate) questions: Vec<Ask>,
}

impl Seen {
    /// Status first: whoever is idle then has written all its messages. `before` are the newest
    /// messages before the prompt.
    pub(crate) async fn read(
        client: &Client,
        session: &str,
        dir: &Path,
        turn: &Turn,
        before: &[String],
    ) -> Result<Self, ClientError> {
        let mut statuses = client.status(dir).await?;
        statuses.retain(|id, _| turn.is_ours(id));
        let messages = client.messages(session, dir, MESSAGES_MAX).await?;
        let mut seen = Self {
            statuses,
            messages: since(before, messages),
            ..Self::default()
        };
        for child in turn.children_at_work().take(CHILDREN_MAX) {
            // One that was deleted must not hide the others.
            let messages = client.messages(child, dir, CHILD_MESSAGES_MAX).await;
            seen.of_children.extend(messages.unwrap_or_default());
        }
        if !seen.statuses.is_empty() {
            // Busy may mean that it waits for an answer, and the request was missed.
            seen.permissions = client.permissions(dir).await?;
            seen.questions = client.questions(dir).await?;
        }
        Ok(seen)
    }

    /// What the stream would have told. What waits for the network is in the status; kilo's own
    /// list of it also holds the waits that were aborted.
    pub(crate) fn events(&self, session: &str) -> Vec<Event> {
        let statuses = self.statuses.iter().map(|(id, status)| Event::Status {
            session: id.clone(),
            status: status.clone(),
        });
        let is_open = |ask: &&Ask| self.is_open(session, ask);
        let permissions = self.permissions.iter().filter(is_open).cloned();
        let questions = self.questions.iter().filter(is_open).cloned();
        statuses
            .chain(permissions.map(Event::PermissionAsked))
            .chain(questions.map(Event::QuestionAsked))
            .collect()
    }

    /// The lists keep what an abort left behind: requests of sessions that wait for nothing now,
    /// and of messages before the prompt.
    fn is_open(&self, session: &str, ask: &Ask) -> bool {
        let is_here = |id: &String| self.messages.iter().any(|message| message.info.id == *id);
        self.statuses.contains_key(&ask.session_id)
            && (ask.session_id != session || ask.message_id.as_ref().is_none_or(is_here))
    }
}

/// The messages after the last one that was there before the prompt. Kilo removes the message of
/// an aborted offline wait once it is prompted again, so one id is not enough to know the place.
fn since(before: &[String], mut messages: Vec<Message>) -> Vec<Message> {
    let at = messages
        .iter()
        .rposition(|message| before.contains(&message.info.id));
    match at {
        Some(at) => messages.split_off(at + 1),
        None => messages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: &[&str]) -> Vec<Message> {
        let message = |id: &&str| {
            let mut message = Message::default();
            (*id).clone_into(&mut message.info.id);
            message
        };
        ids.iter().map(message).collect()
    }

    fn ids(messages: &[Message]) -> Vec<&str> {
        let ids = messages.iter().map(|message| message.info.id.as_str());
        ids.collect()
    }

    #[test]
    fn a_turn_begins_after_the_last_message_that_was_there() {
        let before = ["1", "2", "3"].map(str::to_owned);
        assert_eq!(
            ids(&since(&before, of(&["1", "2", "3", "4", "5"]))),
            ["4", "5"]
        );
        assert_eq!(ids(&since(&[], of(&["1", "2"]))), ["1", "2"]);
        assert!(since(&before, of(&["2", "3"])).is_empty());
    }

    #[test]
    fn a_message_that_kilo_took_away_moves_no_beginning() {
        let before = ["1", "2", "3"].map(str::to_owned);
        assert_eq!(ids(&since(&before, of(&["1", "2", "4"]))), ["4"]);
    }
}
