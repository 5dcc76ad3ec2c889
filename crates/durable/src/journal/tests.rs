//! Checkpoint + journal tail = state, whatever is written and wherever the power goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::ObjectId;
use crate::keys::ObjectKeys;
use crate::storage::MemoryStorage;

/// A storage that loses power at the n-th write: then it holds what was synced, and any of the
/// later batches.
#[derive(Debug, Default)]
pub(crate) struct Brittle(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Applied, but not synced.
    pending: Vec<Vec<Op>>,
    visible: BTreeMap<Vec<u8>, Vec<u8>>,
    writes_left: Option<usize>,
}

fn play(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put { key, value } => drop(map.insert(key.clone(), value.clone())),
            Op::Delete { key } => drop(map.remove(key)),
        }
    }
}

impl Inner {
    fn spend(&mut self) -> Result<(), Error> {
        match &mut self.writes_left {
            Some(0) => Err(Error::Storage {
                action: "write",
                reason: "no power".into(),
            }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Brittle {
    pub(crate) fn fail_after(&self, writes: Option<usize>) {
        self.0.lock().unwrap().writes_left = writes;
    }

    /// What is found after the crash, if those of the unsynced batches reached the disk.
    pub(crate) fn crashed(&self, kept: u64) -> Arc<Self> {
        let inner = self.0.lock().unwrap();
        let mut map = inner.durable.clone();
        for (n, ops) in inner.pending.iter().enumerate() {
            if kept >> (n % 64) & 1 == 1 {
                play(&mut map, ops);
            }
        }
        Arc::new(Self(Mutex::new(Inner {
            durable: map.clone(),
            visible: map,
            ..Inner::default()
        })))
    }
}

impl Read for Brittle {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.lock().unwrap().visible.get(key).cloned())
    }

    fn scan(&self, a: &[u8], z: &[u8], order: Order, limit: usize) -> Result<Vec<Entry>, Error> {
        let copy = MemoryStorage::new();
        let all = self.0.lock().unwrap().visible.clone();
        let put = |(key, value)| Op::Put { key, value };
        copy.apply(all.into_iter().map(put).collect())?;
        copy.scan(a, z, order, limit)
    }
}

impl Storage for Brittle {
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error> {
        let mut inner = self.0.lock().unwrap();
        inner.spend()?;
        play(&mut inner.visible, &ops);
        inner.pending.push(ops);
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        let mut inner = self.0.lock().unwrap();
        inner.spend()?;
        inner.pending.clear();
        inner.durable = inner.visible.clone();
        Ok(())
    }
}

fn keys_of(n: u8) -> ObjectKeys {
    ObjectKeys::new("rig", &ObjectId::from_name(&n.to_string()).unwrap())
}

/// Keys and values of one commit's changes.
type Changes = Vec<(u8, Option<u8>)>;

fn part<'a>(id: &'a str, ops: &'a [Op]) -> Part<'a> {
    let namespace = "rig";
    Part { namespace, id, ops }
}

/// One thing that the writer is told to do.
#[derive(Debug, Clone)]
enum Step {
    /// Commits of these objects.
    Group(Vec<(u8, Changes)>),
    Begin,
    Slices(usize),
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0_u8..12, proptest::option::of(any::<u8>()));
    let commit = (0_u8..4, proptest::collection::vec(change, 1..4));
    let step = prop_oneof![
        4 => proptest::collection::vec(commit, 1..4).prop_map(Step::Group),
        2 => Just(Step::Begin),
        4 => (1_usize..6).prop_map(Step::Slices),
        1 => Just(Step::Sync),
    ];
    proptest::collection::vec(step, 1..24)
}

fn ops(owner: u8, changes: &[(u8, Option<u8>)]) -> Vec<Op> {
    let op = |(key, value): &(u8, Option<u8>)| {
        let key = keys_of(owner).record(&key.to_string());
        match value {
            Some(value) => Op::Put {
                value: record::seal_json(&key, 1, value).unwrap(),
                key,
            },
            None => Op::Delete { key },
        }
    };
    changes.iter().map(op).collect()
}

type State = Vec<Entry>;

fn state(journal: &Journal) -> State {
    journal
        .scan(b"r/", b"r0", Order::Ascending, usize::MAX)
        .unwrap()
}

/// What a writer has done: the state after each commit, the first one empty.
struct Run {
    model: BTreeMap<Vec<u8>, Vec<u8>>,
    states: Vec<State>,
    acknowledged: u64,
}

impl Run {
    fn new(journal: &Journal) -> Self {
        let begin = state(journal);
        Self {
            model: begin.iter().cloned().collect(),
            states: vec![begin],
            acknowledged: *journal.last.borrow(),
        }
    }

    fn group(&mut self, writer: &mut Writer, commits: &[(u8, Changes)]) -> Result<(), Error> {
        let all: Vec<(String, Vec<Op>)> = commits
            .iter()
            .map(|(owner, changes)| (owner.to_string(), ops(*owner, changes)))
            .collect();
        for (_, ops) in &all {
            play(&mut self.model, ops);
            let state = self.model.clone().into_iter().collect();
            self.states.push(state);
        }
        let parts: Vec<Part<'_>> = all.iter().map(|(id, ops)| part(id, ops)).collect();
        self.acknowledged = *writer.append(&parts)?.end();
        writer.publish(&mut all.into_iter().map(|(_, ops)| ops));
        Ok(())
    }

    fn step(&mut self, writer: &mut Writer, step: &Step) -> Result<(), Error> {
        match step {
            Step::Group(commits) => self.group(writer, commits),
            Step::Begin => {
                writer.begin_checkpoint();
                Ok(())
            }
            Step::Slices(n) => (0..*n).try_for_each(|_| writer.slice().map(drop)),
            Step::Sync => writer.sync(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn checkpoint_and_journal_tail_are_the_state_after_a_crash_at_any_write(
        before in steps(),
        after in steps(),
        crash_at in 0_usize..40,
        kept: u64,
    ) {
        let storage = Arc::new(Brittle::default());
        let base: Arc<dyn Storage> = Arc::<Brittle>::clone(&storage);
        let mut writer = Writer::open(base, 1, None).unwrap();
        let mut run = Run::new(writer.journal());
        for step in &before {
            run.step(&mut writer, step).unwrap();
            prop_assert_eq!(&state(writer.journal()), run.states.last().unwrap());
        }
        storage.fail_after(Some(crash_at));
        // Without a failure the power goes at the end.
        let _ = after.iter().try_for_each(|step| run.step(&mut writer, step));

        let disk = storage.crashed(kept);
        let mut again = Writer::open(disk, 2, None).unwrap();
        let last = *again.journal().last.borrow();
        prop_assert!(last >= run.acknowledged, "{} acknowledged, {last} there", run.acknowledged);
        let expected = &run.states[usize::try_from(last).unwrap()];
        prop_assert_eq!(&state(again.journal()), expected);
        // An end without a crash leaves the same state and no journal.
        again.finish().unwrap();
        prop_assert_eq!(&state(again.journal()), expected);
        prop_assert_eq!(&again.journal.base.scan(b"r/", b"r0", Order::Ascending, 999).unwrap(), expected);
        prop_assert_eq!(again.journal.base.scan(b"j/", b"j0", Order::Ascending, 9).unwrap(), vec![]);
    }
}

fn written(storage: &Arc<MemoryStorage>, groups: u8) -> Writer {
    let base: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(storage);
    let mut writer = Writer::open(base, 1, None).unwrap();
    let mut run = Run::new(writer.journal());
    for n in 0..groups {
        let commits: Vec<_> = (0..3).map(|owner| (owner, vec![(1, Some(n))])).collect();
        run.group(&mut writer, &commits).unwrap();
    }
    writer
}

#[test]
fn numbers_have_no_gap_and_are_not_used_again_after_an_empty_tail() {
    let storage = Arc::new(MemoryStorage::new());
    let mut writer = written(&storage, 2);
    assert_eq!(writer.last, 6);
    writer.finish().unwrap();
    drop(writer);
    assert_eq!(storage.scan(b"j/", b"j0", Order::Ascending, 9), Ok(vec![]));
    let writer = written(&storage, 1);
    assert_eq!(writer.last, 9);
}

#[test]
fn a_damaged_commit_costs_its_object_alone_and_for_ever() {
    let storage = Arc::new(MemoryStorage::new());
    drop(written(&storage, 2));
    let key = keys::journal(4, 0);
    let mut value = storage.get(&key).unwrap().unwrap();
    // The second of three commits.
    let whole = ops(1, &[(1, Some(1))]);
    let Some(Op::Put { value: body, .. }) = whole.first() else {
        panic!("no put");
    };
    let at = value.windows(body.len()).position(|w| w == body).unwrap();
    value[at] ^= 1;
    storage.apply(vec![Op::Put { key, value }]).unwrap();
    for _ in 0..2 {
        let base: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&storage);
        let mut writer = Writer::open(base, 2, None).unwrap();
        let journal = Arc::clone(writer.journal());
        let refused = journal.get(&keys_of(1).record("1"));
        assert!(
            matches!(&refused, Err(Error::Corrupt { object, key, .. }) if object == "1" && key == "j/4"),
            "{refused:?}"
        );
        let whole = keys_of(1).record("");
        let scan = journal.scan(&whole, &keys::end_of(&whole), Order::Ascending, 9);
        assert!(matches!(scan, Err(Error::Corrupt { .. })));
        for owner in [0, 2] {
            let key = keys_of(owner).record("1");
            let value = journal.get(&key).unwrap().unwrap();
            assert_eq!(record::open("", &key, &value), Ok(&b"1"[..]), "{owner}");
        }
        assert_eq!(journal.verify().unwrap().damage.len(), 1);
        // The second time the journal is gone, and the note is all there is.
        writer.finish().unwrap();
    }
}

#[test]
fn a_missing_journal_record_is_noticed() {
    for lost in [1, 4] {
        let storage = Arc::new(MemoryStorage::new());
        drop(written(&storage, 3));
        let gone = Op::Delete {
            key: keys::journal(lost, 0),
        };
        storage.apply(vec![gone]).unwrap();
        let opened = Writer::open(storage, 2, None).map(drop);
        let reason = opened.unwrap_err().to_string();
        assert!(
            reason.contains("3 commits before it are missing"),
            "{reason}"
        );
    }
}

/// Writes groups as fast as it can and gives the longest journal and the most changes in memory.
fn pressed(groups: u32, commits: u32, bytes: usize) -> (usize, usize) {
    let mut writer = Writer::open(Arc::new(MemoryStorage::new()), 1, None).unwrap();
    let mut most = (0, 0);
    for group in 0..groups {
        let put = |n: u32| {
            let key = keys_of(1).record(&format!("{group}-{n}"));
            let value = vec![0; bytes];
            vec![Op::Put { key, value }]
        };
        let all: Vec<Vec<Op>> = (0..commits).map(put).collect();
        let parts: Vec<Part<'_>> = all.iter().map(|ops| part("1", ops)).collect();
        writer.append(&parts).unwrap();
        writer.publish(&mut all.into_iter());
        writer.write_behind().unwrap();
        let tail = writer
            .journal
            .base
            .scan(b"j/", b"j0", Order::Ascending, usize::MAX);
        let tail = tail.unwrap().iter().map(|(_, value)| value.len()).sum();
        most.0 = most.0.max(tail);
        most.1 = most.1.max(writer.journal.overlay.active_len());
    }
    most
}

#[test]
fn the_journal_and_what_is_in_memory_are_bounded_whatever_is_written() {
    let (tail, _) = pressed(40, 4, 1024 * 1024);
    assert!(tail <= 72 * 1024 * 1024, "{tail} bytes");
    let (_, keys) = pressed(100, 2_000, 10);
    assert!(keys <= 82_000, "{keys} keys");
}

#[test]
fn a_group_of_many_chunks_reads_back() {
    let storage = Arc::new(MemoryStorage::new());
    let base: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&storage);
    let mut writer = Writer::open(base, 1, None).unwrap();
    let key = keys_of(1).record("large");
    let large = vec![Op::Put {
        value: record::seal_json(&key, 1, &"x".repeat(1024 * 1024)).unwrap(),
        key: key.clone(),
    }];
    writer.append(&[part("1", &large)]).unwrap();
    let chunks = storage.scan(b"j/", b"j0", Order::Ascending, 999).unwrap();
    assert!(chunks.len() > 8);
    assert!(
        chunks
            .iter()
            .all(|(_, value)| value.len() * 16 < 128 * 1024)
    );
    let again = Writer::open(storage, 2, None).unwrap();
    let value = again.journal().get(&key).unwrap().unwrap();
    assert_eq!(
        record::open("", &key, &value).unwrap().len(),
        1024 * 1024 + 2
    );
}
