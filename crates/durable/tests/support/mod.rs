//! What the tests of this crate share: a store with a gate in its sync, an object that does what
//! it is told, a receiver of effects that refuses on demand, and waits with a deadline.
// Each test file uses its own part of this module.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod files;
pub mod letters;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use durable::storage::{Entry, Op};
use durable::{
    Alarm, AlarmFailed, BoxFuture, DeadLetter, Deliver, Envelope, Error, Handle, Host, ManualClock,
    MemoryStorage, Message, Namespace, NotDelivered, Object, ObjectId, Order, Records, Settings,
    Storage, Store, Turn,
};
use tokio::sync::watch;

/// No wait in any test is longer.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Effects from this one on are refused for good.
pub const POISON: u64 = 9_000;
/// From this one on the delivery's future panics.
pub const BREAKS: u64 = 9_500;
/// From this one on the delivery panics before there is a future.
pub const BREAKS_AT_ONCE: u64 = 9_700;
/// Where manual clocks begin.
pub const START: i64 = 1_000_000;

pub fn id(name: &str) -> ObjectId {
    ObjectId::from_name(name).unwrap()
}

/// Waits for the future, or fails the test.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("nothing happened before the deadline")
}

/// Waits until the watched value satisfies the condition.
pub async fn until<T: Clone>(watched: &watch::Sender<T>, is: impl FnMut(&T) -> bool) -> T {
    soon(watched.subscribe().wait_for(is))
        .await
        .unwrap()
        .clone()
}

/// Whether a future stays pending: a look at what must not happen, not a wait for what should.
pub async fn pending<F: Future + Unpin>(future: &mut F) -> bool {
    tokio::time::timeout(Duration::from_millis(50), future)
        .await
        .is_err()
}

/// A storage whose sync can be held, failed and watched.
#[derive(Debug)]
pub struct Gated {
    pub inner: Arc<dyn Storage>,
    closed: Mutex<bool>,
    opened: Condvar,
    pub fail: AtomicBool,
    /// Syncs that have begun.
    pub syncs: watch::Sender<usize>,
    /// Sizes of the batches applied.
    pub applied: Mutex<Vec<usize>>,
}

impl Gated {
    pub fn new() -> Arc<Self> {
        Self::over(Arc::new(MemoryStorage::new()))
    }

    pub fn over(inner: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            closed: Mutex::new(false),
            opened: Condvar::new(),
            fail: AtomicBool::new(false),
            syncs: watch::Sender::new(0),
            applied: Mutex::default(),
        })
    }

    pub fn hold(&self) {
        *self.closed.lock().unwrap() = true;
    }

    pub fn release(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    /// Waits until a sync that began after `before` is under way.
    pub async fn sync_after(&self, before: usize) {
        until(&self.syncs, |syncs| *syncs > before).await;
    }

    pub fn syncs(&self) -> usize {
        *self.syncs.borrow()
    }
}

impl durable::storage::Read for Gated {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get(key)
    }

    fn scan(&self, a: &[u8], z: &[u8], order: Order, limit: usize) -> Result<Vec<Entry>, Error> {
        self.inner.scan(a, z, order, limit)
    }
}

impl Storage for Gated {
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error> {
        self.applied.lock().unwrap().push(ops.len());
        self.inner.apply(ops)
    }

    fn sync(&self) -> Result<(), Error> {
        self.syncs.send_modify(|syncs| *syncs += 1);
        let mut closed = self.closed.lock().unwrap();
        while *closed {
            closed = self.opened.wait(closed).unwrap();
        }
        if self.fail.load(Ordering::SeqCst) {
            return Err(Error::Storage {
                action: "sync",
                reason: "as told".into(),
            });
        }
        self.inner.sync()
    }
}

/// A store whose machine dies after the given number of writes: later ones never happen.
#[derive(Debug)]
pub struct Dying {
    inner: MemoryStorage,
    pub left: AtomicUsize,
}

impl Dying {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStorage::new(),
            left: AtomicUsize::new(usize::MAX),
        })
    }

    fn alive(&self) -> Result<(), Error> {
        let one_less = |left: usize| left.checked_sub(1);
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        match self.left.fetch_update(set, get, one_less) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Storage {
                action: "write",
                reason: "the machine is dead".into(),
            }),
        }
    }
}

impl durable::storage::Read for Dying {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get(key)
    }

    fn scan(&self, a: &[u8], z: &[u8], order: Order, limit: usize) -> Result<Vec<Entry>, Error> {
        self.inner.scan(a, z, order, limit)
    }
}

impl Storage for Dying {
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error> {
        self.alive()?;
        self.inner.apply(ops)
    }

    fn sync(&self) -> Result<(), Error> {
        self.alive()
    }
}

/// What an alarm handler is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAlarm {
    #[default]
    Succeed,
    Fail,
    Panic,
    SetAgain(i64),
}

/// What a handler of dead letters is to do besides writing down that it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLetter {
    #[default]
    Note,
    Send(u64),
    Panic,
    Nonsense,
}

/// One run of an alarm: what it was told, and when.
pub type Fired = (Alarm, i64, Option<i64>);

/// What all instances of a test share.
#[derive(Debug, Default)]
pub struct Lab {
    pub loads: AtomicUsize,
    pub steps: watch::Sender<usize>,
    pub alarms: watch::Sender<Vec<Fired>>,
    pub on_alarm: Mutex<OnAlarm>,
    pub load_panics: AtomicBool,
    /// What the handler of dead letters was told.
    pub letters: watch::Sender<Vec<DeadLetter<u64>>>,
    pub on_letter: Mutex<OnLetter>,
    loads_held: Mutex<bool>,
    loads_released: Condvar,
}

impl Lab {
    /// From now on loads hang, or go on.
    pub fn hold_loads(&self, held: bool) {
        *self.loads_held.lock().unwrap() = held;
        self.loads_released.notify_all();
    }

    fn pass(&self) {
        let mut held = self.loads_held.lock().unwrap();
        while *held {
            held = self.loads_released.wait(held).unwrap();
        }
    }

    pub fn on_alarm(&self, what: OnAlarm) {
        *self.on_alarm.lock().unwrap() = what;
    }

    /// Waits for that many alarm runs and gives all of them.
    pub async fn fired(&self, count: usize) -> Vec<Fired> {
        until(&self.alarms, |fired| fired.len() >= count).await
    }
}

/// A number on disk that does what messages say.
#[derive(Debug)]
pub struct Cell {
    pub value: u64,
    lab: Arc<Lab>,
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident $fields:tt -> $reply:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name $fields;
        impl Message for $name {
            type Reply = $reply;
        }
    )*};
}

messages! {
    /// Adds and stores.
    Add(pub u64) -> u64;
    /// Stores that many records in one turn.
    Fill(pub usize) -> ();
    /// Sets or deletes the alarm; answers what was set before.
    SetAlarm(pub Option<i64>) -> Option<i64>;
    /// Adds one, then sends the effects.
    Emit(pub Vec<u64>) -> Vec<u64>;
    /// Stores a record, deletes everything, then adds, sends an effect and sets the alarm.
    Purge(pub Option<u64>, pub Option<u64>, pub Option<i64>) -> Option<i64>;
    /// Adds to memory, stores, and panics.
    AddAndPanic(pub u64) -> u64;
    /// Stores one good record and one that is no JSON.
    PutNonsense(pub u64) -> ();
}

/// Reads memory only.
#[derive(Debug)]
pub struct Read;

impl Message for Read {
    type Reply = u64;
}

/// A reply that panics when it is dropped unread.
#[derive(Debug)]
pub struct Bomb(bool);

impl Bomb {
    pub fn defuse(mut self) {
        self.0 = false;
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0, "the bomb went off");
    }
}

/// Asks for a bomb, and gets it once the other end of the channel has gone.
#[derive(Debug)]
pub struct GetBomb(std::sync::mpsc::Receiver<()>);

impl GetBomb {
    /// Has the bomb dropped by the thread that answers, since the caller is gone by then.
    pub fn explode(cell: &durable::Stub<Cell>) {
        let (caller_is_there, gate) = std::sync::mpsc::channel();
        drop(cell.send(Self(gate)));
        drop(caller_is_there);
    }

    pub fn now() -> Self {
        Self(std::sync::mpsc::channel().1)
    }
}

impl Message for GetBomb {
    type Reply = Bomb;
}

impl Object for Cell {
    const NAMESPACE: &'static str = "cell";
    type Env = Arc<Lab>;
    type Effect = u64;

    fn load(_: &ObjectId, records: &Records<'_>, lab: &Arc<Lab>) -> Result<Self, Error> {
        lab.loads.fetch_add(1, Ordering::SeqCst);
        lab.pass();
        assert!(
            !lab.load_panics.load(Ordering::SeqCst),
            "load panics as told"
        );
        Ok(Self {
            value: records.get("value")?.unwrap_or(0),
            lab: Arc::clone(lab),
        })
    }

    fn alarm(&mut self, turn: &mut Turn<'_, u64>, alarm: Alarm) -> Result<(), AlarmFailed> {
        let seen = turn.alarm();
        self.value += 100;
        turn.put("value", &self.value);
        let what = *self.lab.on_alarm.lock().unwrap();
        if let OnAlarm::SetAgain(at) = what {
            turn.set_alarm(at);
        }
        self.lab
            .alarms
            .send_modify(|fired| fired.push((alarm, turn.now(), seen)));
        match what {
            OnAlarm::Succeed | OnAlarm::SetAgain(_) => Ok(()),
            OnAlarm::Fail => Err(AlarmFailed::new("as told")),
            OnAlarm::Panic => panic!("alarm panics as told"),
        }
    }

    fn dead_letter(&mut self, turn: &mut Turn<'_, u64>, letter: DeadLetter<u64>) {
        self.value += 1_000;
        turn.put("value", &self.value);
        turn.put(&format!("dead/{}", letter.seq), &letter.tries);
        let what = *self.lab.on_letter.lock().unwrap();
        self.lab.letters.send_modify(|told| told.push(letter));
        match what {
            OnLetter::Note => {}
            OnLetter::Send(effect) => drop(turn.send(effect)),
            OnLetter::Panic => panic!("letter panics as told"),
            OnLetter::Nonsense => turn.put("nonsense", &HashMap::from([((1, 2), 3)])),
        }
    }
}

impl Handle<Add> for Cell {
    fn handle(&mut self, turn: &mut Turn<'_, u64>, Add(n): Add) -> u64 {
        self.value += n;
        turn.put("value", &self.value);
        self.lab.steps.send_modify(|steps| *steps += 1);
        self.value
    }
}

impl Handle<Read> for Cell {
    fn handle(&mut self, _: &mut Turn<'_, u64>, _: Read) -> u64 {
        self.lab.steps.send_modify(|steps| *steps += 1);
        self.value
    }
}

impl Handle<Fill> for Cell {
    fn handle(&mut self, turn: &mut Turn<'_, u64>, Fill(count): Fill) {
        for n in 0..count {
            turn.put(&format!("fill/{n:05}"), &n);
        }
    }
}

impl Handle<SetAlarm> for Cell {
    fn handle(&mut self, turn: &mut Turn<'_, u64>, SetAlarm(at): SetAlarm) -> Option<i64> {
        let before = turn.alarm();
        match at {
            Some(at) => turn.set_alarm(at),
            None => turn.delete_alarm(),
        }
        before
    }
}

impl Handle<Emit> for Cell {
    fn handle(&mut self, turn: &mut Turn<'_, u64>, Emit(effects): Emit) -> Vec<u64> {
        self.value += 1;
        turn.put("value", &self.value);
        effects
            .into_iter()
            .map(|effect| turn.send(effect))
            .collect()
    }
}

impl Handle<Purge> for Cell {
    fn handle(&mut self, turn: &mut Turn<'_, u64>, purge: Purge) -> Option<i64> {
        let Purge(add, effect, alarm) = purge;
        turn.put("before", &1);
        turn.set_alarm(turn.now() + 1);
        turn.delete_all();
        let seen = turn.alarm();
        self.value = add.unwrap_or_default();
        if add.is_some() {
            turn.put("value", &self.value);
        }
        if let Some(effect) = effect {
            turn.send(effect);
        }
        if let Some(at) = alarm {
            turn.set_alarm(at);
        }
        seen
    }
}

impl Handle<AddAndPanic> for Cell {
    fn handle(&mut self, turn: &mut Turn<'_, u64>, AddAndPanic(n): AddAndPanic) -> u64 {
        self.value += n;
        turn.put("value", &self.value);
        panic!("handler panics as told");
    }
}

impl Handle<PutNonsense> for Cell {
    fn handle(&mut self, turn: &mut Turn<'_, u64>, PutNonsense(n): PutNonsense) {
        self.value += n;
        turn.put("value", &self.value);
        turn.put("nonsense", &HashMap::from([((1, 2), 3)]));
    }
}

impl Handle<GetBomb> for Cell {
    fn handle(&mut self, _: &mut Turn<'_, u64>, GetBomb(gate): GetBomb) -> Bomb {
        assert!(gate.recv().is_err(), "nothing is ever sent");
        self.lab.steps.send_modify(|steps| *steps += 1);
        Bomb(true)
    }
}

/// Takes effects in, or refuses them.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Every attempt, accepted or not: sender, number, effect.
    pub seen: watch::Sender<Vec<(String, u64, u64)>>,
    /// Attempts that have been answered.
    pub answered: watch::Sender<usize>,
    /// Refuse everything, or these effects only.
    pub refuse_all: AtomicBool,
    pub refuse: Mutex<Vec<u64>>,
    /// Nothing is poison any more.
    pub cured: AtomicBool,
    /// Effects that were accepted.
    pub taken: Mutex<Vec<u64>>,
    /// Never answer these.
    pub swallow: Mutex<Vec<u64>>,
}

impl Inbox {
    pub async fn seen(&self, count: usize) -> Vec<(String, u64, u64)> {
        until(&self.seen, |seen| seen.len() >= count).await
    }

    pub fn effects(&self) -> Vec<u64> {
        self.seen
            .borrow()
            .iter()
            .map(|(_, _, effect)| *effect)
            .collect()
    }
}

/// The receiver, as the host wants it.
#[derive(Debug, Clone, Default)]
pub struct ToInbox(pub Arc<Inbox>);

impl Deliver<u64> for ToInbox {
    fn deliver(&self, envelope: Envelope<u64>) -> BoxFuture<'static, Result<(), NotDelivered>> {
        let Envelope {
            from, seq, effect, ..
        } = envelope;
        let inbox = &self.0;
        let refused = inbox.refuse_all.load(Ordering::SeqCst)
            || inbox.refuse.lock().unwrap().contains(&effect);
        let swallowed = inbox.swallow.lock().unwrap().contains(&effect);
        inbox
            .seen
            .send_modify(|seen| seen.push((from.to_string(), seq, effect)));
        let inbox = Arc::clone(inbox);
        let poison = effect >= POISON && !inbox.cured.load(Ordering::SeqCst);
        if poison && effect >= BREAKS_AT_ONCE {
            inbox.answered.send_modify(|answered| *answered += 1);
            panic!("delivery panics at once as told");
        }
        Box::pin(async move {
            if swallowed {
                std::future::pending::<()>().await;
            }
            inbox.answered.send_modify(|answered| *answered += 1);
            if refused {
                Err(NotDelivered::new("as told"))
            } else if poison {
                assert!(effect < BREAKS, "delivery panics as told");
                Err(NotDelivered::poison(format!("no use for {effect}")))
            } else {
                inbox.taken.lock().unwrap().push(effect);
                Ok(())
            }
        })
    }
}

/// A host over a gated store in memory with a manual clock.
pub struct World {
    pub storage: Arc<Gated>,
    pub clock: Arc<ManualClock>,
    pub lab: Arc<Lab>,
    pub inbox: ToInbox,
    pub host: Host,
    pub cells: Namespace<Cell>,
}

impl World {
    pub fn new() -> Self {
        Self::with(Gated::new(), |settings| settings)
    }

    pub fn with(storage: Arc<Gated>, change: impl FnOnce(Settings) -> Settings) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        Self::at(storage, clock, change)
    }

    pub fn at(
        storage: Arc<Gated>,
        clock: Arc<ManualClock>,
        change: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        let settings = change(Settings {
            clock: Arc::<ManualClock>::clone(&clock),
            ..Settings::default()
        });
        let store = Store::new(Arc::<Gated>::clone(&storage)).unwrap();
        let host = Host::start(store, settings).unwrap();
        let (lab, inbox) = (Arc::new(Lab::default()), ToInbox::default());
        let cells = host.namespace::<Cell>(Arc::clone(&lab), Arc::new(inbox.clone()));
        Self {
            storage,
            clock,
            lab,
            inbox,
            host,
            cells,
        }
    }

    pub fn cell(&self, name: &str) -> durable::Stub<Cell> {
        self.cells.stub(&id(name))
    }

    /// Waits until the object has taken note of that many answers to its effects: they reach its
    /// mailbox in the same poll that gives them, so a later message is behind them.
    pub async fn settled(&self, name: &str, answers: usize) {
        until(&self.inbox.0.answered, |answered| *answered >= answers).await;
        // A refusal comes through the same mailbox, so it is as good as a reply.
        let _ = soon(self.cell(name).send(Read)).await;
    }

    /// Stops this host and starts another one on the same store and clock.
    pub async fn restart(self) -> Self {
        soon(self.host.stop()).await;
        Self::at(self.storage, self.clock, |settings| settings)
    }
}
