//! A projection is the fold of the state, whatever is committed and wherever the power goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::Storage;
use crate::commit::{Batch, Origin, write};
use crate::journal::Writer;
use crate::journal::tests::Brittle;
use crate::storage::Order;

/// Every value by object and key, and the sum of them.
struct Sums;

impl Projection for Sums {
    const NAME: &'static str = "sums";
    const VERSION: u32 = 1;
    const NAMESPACES: &'static [&'static str] = &["rig"];

    fn fold(&self, change: &Change<'_>, rows: &mut Rows<'_>) -> Result<(), Error> {
        for key in change.keys() {
            let row = format!("{}/{key}", change.id());
            let before: i64 = rows.get(&row)?.unwrap_or_default();
            let after: Option<i64> = change.get(key)?;
            match after {
                Some(value) => rows.put(&row, &value)?,
                None => rows.delete(&row),
            }
            let sum: i64 = rows.get("sum")?.unwrap_or_default();
            rows.put("sum", &(sum - before + after.unwrap_or_default()))?;
        }
        Ok(())
    }
}

/// The changes of a commit's keys.
type Changes = Vec<(u8, Option<i64>)>;
/// Per commit its object and its changes.
type Groups = Vec<Vec<(u8, Changes)>>;

fn groups() -> impl Strategy<Value = Groups> {
    let change = (0_u8..5, proptest::option::of(0_i64..100));
    let commit = (0_u8..3, proptest::collection::vec(change, 1..4));
    proptest::collection::vec(proptest::collection::vec(commit, 1..4), 0..10)
}

fn batch(owner: u8, changes: &[(u8, Option<i64>)]) -> Batch {
    let id = ObjectId::from_name(&owner.to_string()).unwrap();
    let own = ObjectKeys::new("rig", &id);
    let put = |key: Vec<u8>, value: &dyn Fn(&[u8]) -> Vec<u8>| Op::Put {
        value: value(&key),
        key,
    };
    // A host writes the meta record with an object's first record.
    let meta = Meta::default();
    let mut ops = vec![put(own.meta(), &|key| {
        record::seal_json(key, 1, &meta).unwrap()
    })];
    ops.extend(changes.iter().map(|(key, value)| {
        let key = own.record(&key.to_string());
        match value {
            Some(value) => put(key, &|key| record::seal_json(key, 1, value).unwrap()),
            None => Op::Delete { key },
        }
    }));
    let origin = Origin {
        namespace: "rig",
        id,
        activation: 1,
    };
    Batch {
        origin: Some(Arc::new(origin)),
        wipe: None,
        ops,
        done: Box::new(drop),
    }
}

fn commit(writer: &mut Writer, runners: &Runners, groups: &Groups) -> Result<(), Error> {
    for (n, group) in groups.iter().enumerate() {
        let mut group: Vec<Batch> = group.iter().map(|(id, ops)| batch(*id, ops)).collect();
        write(writer, runners, &mut group)?;
        if n % 2 == 1 {
            writer.begin_checkpoint();
        }
        writer.slice()?;
    }
    Ok(())
}

fn read(view: &dyn Read, prefix: &[u8]) -> BTreeMap<String, i64> {
    let end = keys::end_of(prefix);
    let all = view.scan(prefix, &end, Order::Ascending, usize::MAX);
    let row = |(key, value): (Vec<u8>, Vec<u8>)| {
        let name = String::from_utf8_lossy(&key[prefix.len()..]).replace('\0', "/");
        (name, record::open_json::<i64>("", &key, &value).unwrap())
    };
    all.unwrap().into_iter().map(row).collect()
}

/// The rows and what they have to be.
fn rows_and_fold(view: &dyn Read) -> (BTreeMap<String, i64>, BTreeMap<String, i64>) {
    let mut rows = read(view, b"p/sums\0");
    let sum = rows.remove("sum").unwrap_or_default();
    let state = read(view, b"r/rig\0");
    assert_eq!(sum, state.values().sum::<i64>());
    (rows, state)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_projection_is_the_fold_of_the_state_after_a_crash_at_any_write(
        (before, after) in (groups(), groups()),
        crash_at in 0_usize..40,
        kept: u64,
        without in groups(),
    ) {
        let storage = Arc::new(Brittle::default());
        let base: Arc<dyn Storage> = Arc::<Brittle>::clone(&storage);
        let mut writer = Writer::open(base, 1, None).unwrap();
        let mut runners = Runners::default();
        commit(&mut writer, &runners, &before).unwrap();
        storage.fail_after(Some(crash_at));
        let runner = || Runner::new(Sums, Arc::default());
        let _ = runners
            .register(runner(), &mut writer)
            .and_then(|()| commit(&mut writer, &runners, &after));

        let disk = storage.crashed(kept);
        let mut again = Writer::open(Arc::<Brittle>::clone(&disk) as _, 2, None).unwrap();
        let mut runners = Runners::default();
        runners.register(runner(), &mut again).unwrap();
        let (rows, state) = rows_and_fold(&**again.journal());
        prop_assert_eq!(rows, state);

        // A run that does not know the projection.
        commit(&mut again, &Runners::default(), &without).unwrap();
        let mut runners = Runners::default();
        runners.register(runner(), &mut again).unwrap();
        commit(&mut again, &runners, &after).unwrap();
        let (rows, state) = rows_and_fold(&**again.journal());
        prop_assert_eq!(rows, state);
    }
}

#[test]
fn rows_are_made_anew_only_if_they_have_missed_something() {
    let base: Arc<dyn Storage> = Arc::new(crate::MemoryStorage::new());
    let mut writer = Writer::open(base, 1, None).unwrap();
    let mut runners = Runners::default();
    let one = vec![vec![(1, vec![(1, Some(1))])]];
    let register = |runners: &mut Runners, writer: &mut Writer| {
        let before = writer.last();
        let runner = Runner::new(Sums, Arc::default());
        runners.register(runner, writer).unwrap();
        // Making them anew takes commits.
        writer.last() != before
    };
    assert!(register(&mut runners, &mut writer));
    commit(&mut writer, &runners, &one).unwrap();
    assert!(!register(&mut runners, &mut writer));
    commit(&mut writer, &Runners::default(), &one).unwrap();
    assert!(register(&mut runners, &mut writer));
    assert!(!register(&mut runners, &mut writer));
}

#[test]
fn a_damaged_commit_makes_rows_void() {
    let storage = Arc::new(crate::MemoryStorage::new());
    let mut writer =
        Writer::open(Arc::<crate::MemoryStorage>::clone(&storage) as _, 1, None).unwrap();
    let mut runners = Runners::default();
    let runner = || Runner::new(Sums, Arc::default());
    runners.register(runner(), &mut writer).unwrap();
    let first = writer.last() + 1;
    let groups = vec![vec![(1, vec![(1, Some(1))])], vec![(2, vec![(1, Some(2))])]];
    for group in groups {
        let mut group: Vec<Batch> = group.iter().map(|(id, ops)| batch(*id, ops)).collect();
        write(&mut writer, &runners, &mut group).unwrap();
    }
    let key = keys::journal(first, 0);
    let mut value = storage.get(&key).unwrap().unwrap();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    storage.apply(vec![Op::Put { key, value }]).unwrap();
    let mut again = Writer::open(storage, 2, None).unwrap();
    let mut runners = Runners::default();
    runners.register(runner(), &mut again).unwrap();
    // What the damaged commit brought is nowhere; what came after it is everywhere.
    let rows = read(&**again.journal(), b"p/sums\0");
    assert_eq!(rows, BTreeMap::from([("2/1".into(), 2), ("sum".into(), 2)]));
}
