//! The committer: one thread that makes batches durable in groups and then answers.
//!
//! ```text
//! actors ──► bounded queue ──► [ one journal record, one sync ] ──► answers, in order
//!                                then a slice of the journal's checkpoint
//! ```
//! Only this thread writes to the store. After the first failure it writes no more: what it
//! was given, and whatever follows, has an unknown outcome. A full disk is another matter: writes
//! are refused before they are begun, and one that failed half way is settled by opening the
//! store again. Either ends the lives of all objects. It knows batches, not objects.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::BoxFuture;
use crate::journal::{Part, Writer};
use crate::projection::{Runner, Runners};
use crate::room::{Lives, Room};
use crate::storage::Op;
use crate::{Error, ObjectId};

/// Batches per group: bounds the time until the first of them is answered.
const GROUP_MAX: usize = 4_096;
/// Bytes per group, for the same reason; the last batch may exceed it.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// After so long without a batch the journal is written into the records. Not at once: what is
/// written again soon is then written there once.
const IDLE: Duration = Duration::from_secs(10);

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} life {}", self.namespace, self.id, self.activation)
    }
}

/// How often a full disk is looked at, while nobody writes.
const PROBE: Duration = Duration::from_secs(1);

/// Objects named in the log when a group fails.
const NAMED_MAX: usize = 16;

/// Called once, on the committer's thread, with the fate of the batch.
pub(crate) type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Who wrote a batch: one life of one object.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) namespace: &'static str,
    pub(crate) id: ObjectId,
    pub(crate) activation: u64,
}

/// One turn's changes; without changes it is a barrier that waits for all before it.
pub(crate) struct Batch {
    pub(crate) origin: Option<Arc<Origin>>,
    /// Everything below this prefix goes, before the changes are applied and together with them.
    pub(crate) wipe: Option<Vec<u8>>,
    pub(crate) ops: Vec<Op>,
    pub(crate) done: Done,
}

enum Command {
    Commit(Batch),
    /// From the next commit on, this projection sees all.
    Project(Runner, oneshot::Sender<Result<(), Error>>),
    /// Ends the thread after everything that was queued.
    Stop,
}

/// A place in the queue, taken before a step so that no step is left without one.
pub(crate) struct Slot<'q>(mpsc::Permit<'q, Command>);

impl Slot<'_> {
    pub(crate) fn commit(self, batch: Batch) {
        self.0.send(Command::Commit(batch));
    }
}

/// The way into the committer.
#[derive(Debug)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Command>,
    poisoned: Arc<AtomicBool>,
    fatal: watch::Receiver<Option<String>>,
    full: watch::Receiver<Option<Error>>,
    lives: Arc<Lives>,
    last_seq: watch::Receiver<u64>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(writer: Writer, queue_max: usize) -> Result<(Self, JoinHandle<()>), Error> {
        let start = |e: std::io::Error| Error::Start {
            reason: e.to_string(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(start)?;
        let (committer, work) = Self::new(writer, queue_max);
        let thread = std::thread::Builder::new()
            .name("durable-commit".to_owned())
            .spawn(move || runtime.block_on(work.run()))
            .map_err(start)?;
        Ok((committer, thread))
    }

    /// The queue and the work on it; somebody has to run the work.
    pub(crate) fn new(writer: Writer, queue_max: usize) -> (Self, Work) {
        let (queue, commands) = mpsc::channel(queue_max);
        let (fatal_tx, fatal) = watch::channel(None);
        let poisoned = Arc::new(AtomicBool::new(false));
        let last_seq = writer.journal().last_seq();
        let lives = Arc::new(Lives::default());
        let (room, full) = Room::over(Arc::clone(writer.base()));
        let work = Work {
            writer,
            room,
            lives: Arc::clone(&lives),
            runners: Runners::default(),
            joining: None,
            commands,
            fatal: fatal_tx,
            poisoned: Arc::clone(&poisoned),
            pause: None,
        };
        let committer = Self {
            queue,
            poisoned,
            fatal,
            full,
            lives,
            last_seq,
        };
        (committer, work)
    }

    /// A place for one batch, or `Overloaded`, at once.
    pub(crate) fn reserve(&self) -> Result<Slot<'_>, Error> {
        self.check()?;
        self.queue.try_reserve().map(Slot).map_err(|e| match e {
            mpsc::error::TrySendError::Full(()) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(()) => Error::Stopped,
        })
    }

    /// Resolves when everything queued or applied before the call is durable.
    pub(crate) async fn barrier(&self) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(answer.send(result)));
        let batch = Batch {
            origin: None,
            wipe: None,
            ops: Vec::new(),
            done,
        };
        self.queue
            .send(Command::Commit(batch))
            .await
            .map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::OutcomeUnknown)?
    }

    /// Resolves when the projection has seen every commit, and will see every later one.
    pub(crate) async fn project(&self, runner: Runner) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .send(Command::Project(runner, answer))
            .await
            .map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)?
    }

    /// Refuses once a commit has failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.poisoned.load(Ordering::Acquire) {
            Err(Error::OutcomeUnknown)
        } else {
            Ok(())
        }
    }

    pub(crate) fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.clone()
    }

    /// Why nothing is stored for now, while the disk is full.
    pub(crate) fn full(&self) -> watch::Receiver<Option<Error>> {
        self.full.clone()
    }

    /// Which lives of objects are over.
    pub(crate) fn lives(&self) -> &Lives {
        &self.lives
    }

    /// Follows the number of the last durable commit.
    pub(crate) fn last_seq(&self) -> watch::Receiver<u64> {
        self.last_seq.clone()
    }

    /// Ends the thread once all that was queued has been answered.
    pub(crate) async fn stop(&self) {
        // A closed queue means that the thread has ended already.
        let _ = self.queue.send(Command::Stop).await;
    }
}

/// What the committer's thread does.
pub(crate) struct Work {
    writer: Writer,
    room: Room,
    lives: Arc<Lives>,
    runners: Runners,
    /// A projection that comes behind the group under way.
    joining: Option<(Runner, oneshot::Sender<Result<(), Error>>)>,
    commands: mpsc::Receiver<Command>,
    fatal: watch::Sender<Option<String>>,
    poisoned: Arc<AtomicBool>,
    /// Comes before each group, where a write takes time that is not its thread's.
    pause: Option<Pause>,
}

/// Waits as long as a write is to take.
pub(crate) type Pause = Box<dyn Fn() -> BoxFuture<'static, ()> + Send>;

impl Work {
    /// Each group takes that long, while those who wait for it go on.
    pub(crate) fn paced(self, pause: Pause) -> Self {
        let pause = Some(pause);
        Self { pause, ..self }
    }

    /// Runs until `Stop`, and leaves an empty journal. Blocks its thread while it writes.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.next().await {
            let group = self.gather(first);
            if let Some(pause) = &self.pause {
                pause().await;
            }
            self.commit(group);
            self.write_behind(Writer::write_behind);
            self.join();
        }
        self.write_behind(Writer::finish);
    }

    /// The next command. Time that nobody needs goes into the checkpoint.
    async fn next(&mut self) -> Option<Command> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => return Some(command),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            if self.writes() && self.room.is_short() {
                match tokio::time::timeout(PROBE, self.commands.recv()).await {
                    Ok(command) => return command,
                    Err(_) => drop(self.find_room(0)),
                }
            } else if self.writes() && self.writer.is_checkpointing() {
                self.write_behind(Writer::idle_slice);
                // Whoever shares the thread, without a thread of our own, has its turn.
                tokio::task::yield_now().await;
            } else if self.writes() && self.writer.has_tail() {
                match tokio::time::timeout(IDLE, self.commands.recv()).await {
                    Ok(command) => return command,
                    Err(_) => self.writer.begin_checkpoint(),
                }
            } else {
                return self.commands.recv().await;
            }
        }
    }

    /// The first batch and all that wait behind it. A lone one does not wait for company.
    fn gather(&mut self, first: Command) -> Vec<Batch> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Commit(batch) => {
                    bytes += batch.ops.iter().map(size).sum::<usize>();
                    group.push(batch);
                }
                Command::Project(runner, answer) => {
                    self.joining = Some((runner, answer));
                    return group;
                }
                // A closed queue still runs dry: what was queued is committed.
                Command::Stop => self.commands.close(),
            }
            next = if group.len() < GROUP_MAX && bytes < GROUP_BYTES {
                self.commands.try_recv().ok()
            } else {
                None
            };
        }
        group
    }

    fn join(&mut self) {
        let Some((runner, answer)) = self.joining.take() else {
            return;
        };
        let joined = self.guarded(|writer, runners| runners.register(runner, writer));
        let joined = joined.filter(Result::is_ok).ok_or(Error::OutcomeUnknown);
        // Whoever asked may have gone.
        let _ = answer.send(joined.map(drop));
    }

    fn commit(&mut self, group: Vec<Batch>) {
        let is_over = |batch: &Batch| {
            let origin = batch.origin.as_deref();
            origin.is_some_and(|origin| self.lives.is_over(origin.activation))
        };
        // Behind a write that was refused nothing of that life may become durable.
        let (over, mut group): (Vec<Batch>, Vec<Batch>) = group.into_iter().partition(is_over);
        if !over.is_empty() {
            answer(over, &Err(self.room.refusal()));
        }
        let ops = group.iter().flat_map(|batch| &batch.ops);
        let bytes = ops.map(size).sum::<usize>();
        if self.writes() && group.iter().any(changes) && self.find_room(bytes).is_err() {
            return self.refuse(group);
        }
        let result = self.guarded(|writer, runners| write(writer, runners, &mut group));
        if let Some(Err(failure)) = &result {
            let named = group.iter().filter_map(|batch| batch.origin.as_ref());
            let objects: Vec<String> = named.map(ToString::to_string).take(NAMED_MAX).collect();
            tracing::error!(%failure, ?objects, "a commit failed: its outcome is unknown");
        }
        let result = match result {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Error::OutcomeUnknown),
        };
        answer(group, &result);
    }

    /// Nothing of the group has happened; whoever wrote it has to read again what is stored.
    fn refuse(&mut self, group: Vec<Batch>) {
        self.lives.end_all();
        let (barriers, refused) = group.into_iter().partition(|batch| batch.origin.is_none());
        answer(refused, &Err(self.room.refusal()));
        answer(barriers, &Ok(()));
    }

    /// Whether so much can be written; a store that has failed for want of room is opened again.
    fn find_room(&mut self, bytes: usize) -> Result<(), Error> {
        if self.room.is_closed() {
            match self.writer.reload() {
                Ok(()) => self.room.opened(),
                Err(error) if Room::may_open_later(&error) => return Err(error),
                Err(error) => {
                    self.poison(&error.to_string());
                    return Err(error);
                }
            }
        }
        self.room.find(bytes)
    }

    /// Work on the checkpoint. It answers nobody: its failure shows at the next commit.
    fn write_behind(&mut self, work: impl FnOnce(&mut Writer) -> Result<(), Error>) {
        if self.room.is_short() || (self.writer.has_tail() && self.find_room(0).is_err()) {
            return;
        }
        if let Some(Err(failure)) = self.guarded(|writer, _| work(writer)) {
            tracing::error!(%failure, "a checkpoint failed");
        }
    }

    fn writes(&self) -> bool {
        !self.poisoned.load(Ordering::Acquire)
    }

    /// Writes, or not if a write has failed before: the first failure ends all writing.
    fn guarded(
        &mut self,
        work: impl FnOnce(&mut Writer, &mut Runners) -> Result<(), Error>,
    ) -> Option<Result<(), String>> {
        if !self.writes() {
            return None;
        }
        let (writer, runners) = (&mut self.writer, &mut self.runners);
        let failure = match catch_unwind(AssertUnwindSafe(|| work(writer, runners))) {
            Ok(Ok(())) => return Some(Ok(())),
            Ok(Err(error)) if error.is_full() => {
                self.room.closed();
                // Whether it opens at once or later: what failed is unknown until then.
                let _ = self.find_room(0);
                self.lives.end_all();
                return Some(Err(error.to_string()));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store panicked".to_owned(),
        };
        self.poison(&failure);
        Some(Err(failure))
    }

    fn poison(&mut self, failure: &str) {
        self.poisoned.store(true, Ordering::Release);
        tracing::error!(failure, "the store is not written any more");
        self.fatal.send_replace(Some(failure.to_owned()));
    }
}

/// Gives all batches their answer, in order.
fn answer(group: Vec<Batch>, result: &Result<(), Error>) {
    for batch in group {
        let (origin, done, result) = (batch.origin, batch.done, result.clone());
        // A caller's destructor may run in here; it must not take the committer with it.
        if catch_unwind(AssertUnwindSafe(move || done(result))).is_err() {
            let object = origin.map(|origin| origin.to_string());
            tracing::error!(object, "a panic while a commit was answered");
        }
    }
}

fn changes(batch: &Batch) -> bool {
    batch.wipe.is_some() || !batch.ops.is_empty()
}

/// Makes all batches durable with one journal record and one sync, then shows them.
pub(crate) fn write(
    writer: &mut Writer,
    runners: &Runners,
    group: &mut [Batch],
) -> Result<(), Error> {
    wipe(writer, group)?;
    runners.fold(writer, group)?;
    let parts: Vec<Part<'_>> = group.iter().filter_map(part).collect();
    if parts.is_empty() {
        return Ok(());
    }
    writer.append(&parts)?;
    writer.publish(&mut group.iter_mut().map(|batch| std::mem::take(&mut batch.ops)));
    Ok(())
}

fn part(batch: &Batch) -> Option<Part<'_>> {
    let (namespace, id) = match &batch.origin {
        Some(origin) => (origin.namespace, origin.id.as_str()),
        None => ("", ""),
    };
    let ops = batch.ops.as_slice();
    (!ops.is_empty()).then_some(Part { namespace, id, ops })
}

/// Turns what is to be wiped into removals of single keys, in front of the batch's own changes.
fn wipe(writer: &Writer, group: &mut [Batch]) -> Result<(), Error> {
    for n in 0..group.len() {
        let (before, rest) = group.split_at_mut(n);
        let Some((batch, prefix)) = rest
            .first_mut()
            .and_then(|batch| batch.wipe.take().map(|prefix| (batch, prefix)))
        else {
            continue;
        };
        // What is to go may stand in this very group.
        let before = before.iter().flat_map(|batch| &batch.ops);
        let mut ops = writer.wiped(&prefix, before)?;
        ops.append(&mut batch.ops);
        batch.ops = ops;
    }
    Ok(())
}

fn size(op: &Op) -> usize {
    match op {
        Op::Put { key, value } => key.len() + value.len(),
        Op::Delete { key } => key.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, Order, Read};

    fn batch(wipe: Option<&[u8]>, keys: &[&[u8]]) -> Batch {
        let put = |key: &&[u8]| Op::Put {
            key: key.to_vec(),
            value: b"v".to_vec(),
        };
        Batch {
            origin: None,
            wipe: wipe.map(<[u8]>::to_vec),
            ops: keys.iter().map(put).collect(),
            done: Box::new(drop),
        }
    }

    fn keys(storage: &dyn Read) -> Vec<Vec<u8>> {
        let all = storage.scan(b"r/", b"r0", Order::Ascending, 99).unwrap();
        all.into_iter().map(|(key, _)| key).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_committer_writes_the_journal_into_the_records() {
        let storage: Arc<dyn crate::Storage> = Arc::new(MemoryStorage::new());
        let writer = Writer::open(Arc::clone(&storage), 1, None).unwrap();
        let (committer, work) = Committer::new(writer, 9);
        let working = tokio::spawn(work.run());
        let mut batch = batch(None, &[b"r/a/1"]);
        let (answer, answered) = oneshot::channel();
        batch.done = Box::new(move |result| drop(answer.send(result)));
        committer.reserve().unwrap().commit(batch);
        assert_eq!(answered.await, Ok(Ok(())));
        let journal = || storage.scan(b"j/", b"j0", Order::Ascending, 9).unwrap();
        assert_eq!((journal().len(), keys(&*storage).len()), (1, 0));
        tokio::time::sleep(IDLE / 2).await;
        assert_eq!(journal().len(), 1);
        tokio::time::sleep(IDLE).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(journal(), []);
        assert_eq!(keys(&*storage), [b"r/a/1"]);
        committer.stop().await;
        working.await.unwrap();
    }

    #[test]
    fn a_wipe_removes_what_is_stored_journalled_or_in_its_own_group() {
        let storage: Arc<dyn crate::Storage> = Arc::new(MemoryStorage::new());
        let mut writer = Writer::open(Arc::clone(&storage), 1, None).unwrap();
        write(
            &mut writer,
            &Runners::default(),
            &mut [batch(None, &[b"r/a/1", b"r/b/1"])],
        )
        .unwrap();
        writer.finish().unwrap();
        write(
            &mut writer,
            &Runners::default(),
            &mut [batch(None, &[b"r/a/2", b"r/b/2"])],
        )
        .unwrap();
        let mut group = [
            batch(None, &[b"r/a/3", b"r/b/3"]),
            batch(Some(b"r/a/"), &[b"r/a/4"]),
            batch(None, &[b"r/a/5"]),
        ];
        write(&mut writer, &Runners::default(), &mut group).unwrap();
        let left: [&[u8]; 5] = [b"r/a/4", b"r/a/5", b"r/b/1", b"r/b/2", b"r/b/3"];
        assert_eq!(keys(&**writer.journal()), left);
        drop(writer);
        let again = Writer::open(storage, 2, None).unwrap();
        assert_eq!(keys(&**again.journal()), left);
    }
}
