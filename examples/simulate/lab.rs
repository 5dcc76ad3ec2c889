//! What everything in one run shares: chance, weather, the process that is up, and its witness.
//!
//! Owns how rigs and towns are spoken to, so that the account knows who waits for which answer.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use durable::{Clock, Error, InlineHost, Namespace, ObjectId, TokioClock};
use rig::{
    Input, Refused, Reply, Rig, RigId, TownId,
    town::{Town, TownInput, TownReply},
};
use runtime::objects::{Look, LookTown, RigActor, Tell, TellTown, TownActor};

use crate::{book::Book, container::Container, rng::Rng, trees::Trees, weather::Weather};

/// A process that is up.
pub(crate) struct Up {
    pub(crate) host: InlineHost,
    pub(crate) rigs: Namespace<RigActor>,
    pub(crate) towns: Namespace<TownActor>,
    /// Filled when each has told the rigs of its life.
    pub(crate) containers: RefCell<BTreeMap<TownId, Rc<Container>>>,
}

/// How the network and the disk are in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Of a thousand messages so many are lost, each way.
    pub(crate) lost: u64,
    /// So many come twice.
    pub(crate) doubled: u64,
    /// So many come again long after.
    pub(crate) again: u64,
    /// The longest that one is under way.
    pub(crate) late_ms: i64,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Self {
            lost: 0,
            doubled: 0,
            again: 0,
            late_ms: 20,
        }
    }
}

/// See the file's head.
pub(crate) struct Lab {
    pub(crate) book: Book,
    pub(crate) rng: RefCell<Rng>,
    pub(crate) weather: RefCell<Weather>,
    pub(crate) faults: Cell<Faults>,
    pub(crate) clock: RefCell<Arc<TokioClock>>,
    pub(crate) up: RefCell<Option<Rc<Up>>>,
    pub(crate) trees: RefCell<Trees>,
    pub(crate) rigs: Vec<RigId>,
    pub(crate) towns: Vec<TownId>,
}

impl Lab {
    pub(crate) fn up(&self) -> Option<Rc<Up>> {
        self.up.borrow().clone()
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.borrow().now()
    }

    pub(crate) fn between(&self, low: i64, high: i64) -> i64 {
        self.rng.borrow_mut().between(low, high)
    }

    pub(crate) fn chance(&self, per_mille: u64) -> bool {
        self.rng.borrow_mut().chance(per_mille)
    }

    /// Says one input to a rig.
    pub(crate) async fn tell(
        &self,
        up: &Up,
        rig: &RigId,
        input: Input,
    ) -> Result<Result<Reply, Refused>, Error> {
        let id = ObjectId::from_name(rig.as_str())?;
        let ticket = {
            let mut notes = self.book.notes();
            notes
                .rigs
                .entry(rig.to_string())
                .or_default()
                .ask(input.clone())
        };
        let answer = up.rigs.stub(&id).send(Tell(input)).await;
        let mut notes = self.book.notes();
        let shadow = notes.rigs.entry(rig.to_string()).or_default();
        shadow.answered(ticket, answer.is_ok());
        drop(notes);
        if let Err(error) = &answer {
            self.refused(error);
        }
        answer
    }

    /// Says one input to a town.
    pub(crate) async fn tell_town(
        &self,
        up: &Up,
        town: &TownId,
        input: TownInput,
    ) -> Result<TownReply, Error> {
        let id = ObjectId::from_name(town.as_str())?;
        let ticket = {
            let mut notes = self.book.notes();
            notes
                .towns
                .entry(town.to_string())
                .or_default()
                .ask(input.clone())
        };
        let answer = up.towns.stub(&id).send(TellTown(input)).await;
        let mut notes = self.book.notes();
        let shadow = notes.towns.entry(town.to_string()).or_default();
        shadow.answered(ticket, answer.is_ok());
        drop(notes);
        if let Err(error) = &answer {
            self.refused(error);
        }
        answer
    }

    fn refused(&self, error: &Error) {
        self.book.say(|| format!("the store: {error}"));
        match error {
            Error::OutcomeUnknown => self.book.saw("outcome unknown"),
            other if other.is_full() => self.book.saw("store refused: full disk"),
            _ => {}
        }
    }

    /// Looks at a rig.
    pub(crate) async fn look<R: Send + 'static>(
        &self,
        up: &Up,
        rig: &RigId,
        look: impl FnOnce(&Rig) -> R + Send + 'static,
    ) -> Option<R> {
        let id = ObjectId::from_name(rig.as_str()).ok()?;
        let look = Look(Box::new(move |rig: &Rig, _| look(rig)));
        up.rigs.stub(&id).send(look).await.ok()
    }

    /// Looks at a town.
    pub(crate) async fn look_town<R: Send + 'static>(
        &self,
        up: &Up,
        town: &TownId,
        look: impl FnOnce(&Town) -> R + Send + 'static,
    ) -> Option<R> {
        let id = ObjectId::from_name(town.as_str()).ok()?;
        let look = LookTown(Box::new(move |town: &Town, _| look(town)));
        up.towns.stub(&id).send(look).await.ok()
    }

    /// Which town a rig belongs to.
    pub(crate) fn town_of(&self, rig: usize) -> TownId {
        self.towns[rig % self.towns.len()].clone()
    }

    /// Waits.
    pub(crate) async fn sleep(&self, ms: i64) {
        let ms = u64::try_from(ms).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
