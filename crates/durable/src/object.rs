//! What a durable object is to this crate: the traits that a program implements.
//!
//! An object is synchronous. It gets a message and a turn, changes itself, and writes into the
//! turn what has to be stored or sent; the host stores it, and only then lets anything out.

use std::fmt::{self, Debug};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::BoxFuture;
use crate::{DeadLetter, Error, ObjectId, Records, Turn};

/// A request to an object.
pub trait Message: Send + 'static {
    /// What the caller gets, after everything the turn wrote is on disk.
    type Reply: Send + 'static;
}

/// A kind of durable object. The instance is loaded on a thread that may block and then stays on
/// one other thread: it has to be `Send`, and need not be `Sync`.
pub trait Object: Sized + Send + 'static {
    /// The name of this kind in the store: 1 to 24 bytes without NUL, never to be changed.
    const NAMESPACE: &'static str;
    /// What the host program gives to every instance.
    type Env: Clone + Send + Sync + 'static;
    /// What a turn sends through the outbox.
    type Effect: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;

    /// Reads the state from the object's own records; an object without records is a new one.
    /// It may block: other objects are served meanwhile. A panic, or a load that takes longer
    /// than `Settings::load_timeout_ms`, is an error for the callers that wait for it.
    ///
    /// # Errors
    /// Whatever `records` gave. Callers get it; the next message tries again.
    fn load(id: &ObjectId, records: &Records<'_>, env: &Self::Env) -> Result<Self, Error>;

    /// The alarm that a turn has set came due. It fires at least once and never early.
    ///
    /// # Errors
    /// `AlarmFailed` discards the turn and repeats the alarm later: after 2 s, doubling, with
    /// jitter; after six failures every 1,024 s.
    fn alarm(&mut self, turn: &mut Turn<'_, Self::Effect>, alarm: Alarm)
    -> Result<(), AlarmFailed>;

    /// The time has jumped: the wall clock was set, or the machine slept. Told once, before any
    /// alarm or message that comes after it; an object that sleeps is told when it wakes. A
    /// restart of the host is no jump. Alarms need nothing from here: they are on time anyway.
    fn clock_jumped(&mut self, turn: &mut Turn<'_, Self::Effect>, jump: ClockJump) {
        let _ = (turn, jump);
    }

    /// An effect was refused for good `Settings::poison_tries_max` times: it will not be sent
    /// again by itself. What the object writes or sends here is one change with the move of the
    /// effect to its dead letters, so it is told once of each move. A panic, or a value that
    /// cannot be stored, discards what it wrote here; the effect is moved all the same.
    fn dead_letter(&mut self, turn: &mut Turn<'_, Self::Effect>, letter: DeadLetter<Self::Effect>) {
        let _ = (turn, letter);
    }
}

/// How an object answers one kind of message.
pub trait Handle<M: Message>: Object {
    /// One step: no I/O, no waiting. A panic discards the turn.
    fn handle(&mut self, turn: &mut Turn<'_, Self::Effect>, message: M) -> M::Reply;
}

/// How the time has jumped since the object was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockJump {
    /// How long nothing ran: the machine slept, or the program was stopped. `Turn::now` has gone
    /// on meanwhile.
    pub gap_ms: i64,
    /// How far the wall clock was turned, forward or back. `Turn::now` has not followed.
    pub wall_ms: i64,
}

/// The alarm that is firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// What the object had asked for, in unix milliseconds.
    pub scheduled_at: i64,
    /// How many runs of this alarm have failed before; survives restarts.
    pub retry: u32,
}

/// Why an alarm handler did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct AlarmFailed {
    reason: String,
}

impl AlarmFailed {
    /// With the reason, for the log.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// One effect on its way out, with what its receiver needs to recognise a repetition:
/// `(namespace, from, seq)` is unique for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<E> {
    /// The sender's namespace.
    pub namespace: String,
    /// The sender.
    pub from: ObjectId,
    /// Counts the sender's effects from 1.
    pub seq: u64,
    /// The message itself.
    pub effect: E,
}

/// Carries effects to their receivers. A panic, of the call or of its future, counts as
/// `NotDelivered::poison`; a delivery that takes longer than `Settings::deliver_timeout_ms` as
/// `NotDelivered::new`.
///
/// First attempts of one object's effects are begun in order of `seq`; several may be under way
/// at once, and repetitions come in any order. Futures run on the host's threads: no blocking.
pub trait Deliver<E>: Send + Sync + 'static {
    /// `Ok` means that the receiver has accepted it durably: it is then never sent again.
    fn deliver(&self, envelope: Envelope<E>) -> BoxFuture<'static, Result<(), NotDelivered>>;
}

/// The effect was not accepted; it will be sent again, after 2 s doubling to 5 min.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("not delivered: {reason}")]
pub struct NotDelivered {
    reason: String,
    poison: bool,
}

impl NotDelivered {
    /// It may go better later: the receiver has too much to do, is starting, or cannot store
    /// anything now. Repeated without limit, and counted by nobody. The reason is for the log.
    pub fn new(reason: impl Into<String>) -> Self {
        let (reason, poison) = (reason.into(), false);
        Self { reason, poison }
    }

    /// It will never go better: the receiver has refused it for good, or broke over it. After
    /// `Settings::poison_tries_max` of these, over restarts, it becomes a dead letter.
    pub fn poison(reason: impl Into<String>) -> Self {
        let (reason, poison) = (reason.into(), true);
        Self { reason, poison }
    }

    /// Whether it was refused for good.
    pub fn is_poison(&self) -> bool {
        self.poison
    }

    /// What went wrong.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl Debug for NotDelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.poison { "poison: " } else { "" };
        write!(f, "NotDelivered({kind}{:?})", self.reason)
    }
}

/// For objects that send nothing: use `()` as the effect and this as its carrier.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEffects;

impl<E: Send + 'static> Deliver<E> for NoEffects {
    fn deliver(&self, _: Envelope<E>) -> BoxFuture<'static, Result<(), NotDelivered>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
