//! One request on its way: the message, or what is wanted of a dead letter, and the way back to
//! its caller.
//!
//! The message's type ends here, so that actors handle all kinds of messages of an object alike.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use crate::{Error, Handle, Message, Object, Turn};

/// Answers the caller once: with the reply that is held back, or with the error.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What an object's actor is asked for from outside.
pub(super) enum Asked<O: Object> {
    Message(Box<dyn Call<O>>),
    /// Boxed, because actors have to be movable and an effect need not be.
    Letter(Box<Mend<O::Effect>>),
}

impl<O: Object> Asked<O> {
    /// Answers without a step.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Message(call) => call.refuse(error),
            Self::Letter(mend) => drop(mend.reply.send(Err(error))),
        }
    }
}

/// Ends a dead letter. Answers whether there was one.
pub(super) struct Mend<E> {
    pub(super) seq: u64,
    /// What goes back to the outbox; none if the letter is dropped.
    pub(super) again: Option<E>,
    pub(super) reply: oneshot::Sender<Result<bool, Error>>,
}

/// A message without its type.
pub(super) trait Call<O: Object>: Send {
    /// Hands the message to the object; a panic is caught.
    fn run(self: Box<Self>, object: &mut O, turn: &mut Turn<'_, O::Effect>) -> Stepped;
    /// Answers without a step.
    fn refuse(self: Box<Self>, error: Error);
}

/// What a step left: the held answer, and the panic's text if there was one.
pub(super) struct Stepped {
    pub(super) answer: Answer,
    pub(super) panic: Option<String>,
}

/// A message with its type.
pub(super) struct Request<M: Message> {
    pub(super) message: M,
    pub(super) reply: oneshot::Sender<Result<M::Reply, Error>>,
}

impl<O: Handle<M>, M: Message> Call<O> for Request<M> {
    fn run(self: Box<Self>, object: &mut O, turn: &mut Turn<'_, O::Effect>) -> Stepped {
        let Self { message, reply } = *self;
        // A caller that has gone away is no failure of the object, hence the dropped results.
        match caught(|| object.handle(turn, message)) {
            Ok(value) => Stepped {
                answer: Box::new(move |result| drop(reply.send(result.map(|()| value)))),
                panic: None,
            },
            Err(text) => Stepped {
                answer: Box::new(move |result| {
                    drop(reply.send(Err(result.err().unwrap_or(Error::OutcomeUnknown))));
                }),
                panic: Some(text),
            },
        }
    }

    fn refuse(self: Box<Self>, error: Error) {
        drop(self.reply.send(Err(error)));
    }
}

/// Runs the application's code. What it leaves after a panic is thrown away by the caller.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| panic_text(&*payload))
}

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no text").chars().take(500).collect()
}

/// A place among a bounded number; given back on drop.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// `Overloaded` if `max` places are taken.
    pub(super) fn take(count: &Arc<AtomicUsize>, max: usize) -> Result<Self, Error> {
        // The guard comes first: it also gives back what was counted in vain.
        let permit = Self(Arc::clone(count));
        if count.fetch_add(1, Ordering::AcqRel) < max {
            Ok(permit)
        } else {
            Err(Error::Overloaded)
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
