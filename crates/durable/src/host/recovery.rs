//! What the host finds on disk: alarms whose time comes, and outboxes of earlier runs.
//!
//! Also the walks over the host's own indexes that status displays ask for.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::storage::{Order, Read};
use crate::timers::{Edge, Found, Kind, Scan, Target};
use crate::{Error, ObjectId, keys, meta, record};

const PAGE: usize = 256;
/// Entries read to find the next ids.
const FEW: usize = 16;
/// Outboxes that are woken together at start.
const OUTBOXES: usize = 1_024;
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// One entry of the alarm index.
pub(super) struct AlarmEntry {
    pub(super) namespace: String,
    pub(super) id: ObjectId,
    pub(super) at: i64,
    pub(super) failures: u32,
}

/// Wakes every object of the namespace that has an outbox, some at a time, and tries again until
/// all were woken: an effect that is not found here would not leave before its object is used.
pub(super) async fn recover(core: Arc<Core>, namespace: &'static str) {
    let mut from = keys::outboxes(namespace);
    while !core.is_stopping() {
        let (job, start) = (Arc::clone(&core), from.clone());
        let work = move || -> Result<(Vec<ObjectId>, Vec<u8>), Error> {
            let prefix = keys::outboxes(namespace);
            ids_from(&*job.storage()?, &prefix, start, OUTBOXES)
        };
        match core.executor.read(work).await {
            Ok(Ok((ids, _))) if ids.is_empty() => return,
            Ok(Ok((ids, next))) => {
                let kind = Kind::Outbox;
                let target = |id| Target {
                    namespace,
                    id,
                    kind,
                };
                core.timers
                    .wake_all(ids.into_iter().map(target).collect())
                    .await;
                from = next;
            }
            failed => {
                tracing::error!(namespace, ?failed, "cannot read outboxes; trying again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

/// Reads a part of the alarm index. A key that is none stops nobody else's alarm.
pub(super) fn scan_alarms(storage: &dyn Read, scan: &Scan) -> Result<Found, Error> {
    let (mut alarms, mut reached) = (Vec::new(), scan.from.clone());
    while alarms.len() < scan.room {
        let entries = storage.scan(reached.key(), scan.to.key(), Order::Ascending, PAGE)?;
        let last = entries.len() < PAGE;
        for (key, _) in entries {
            let at = keys::alarm_time(&key).unwrap_or(reached.at());
            if let Some((at, namespace, id)) = keys::alarm_parts(&key) {
                let known = scan.namespaces.iter().find(|known| **known == namespace);
                alarms.extend(known.map(|known| (*known, id, at)));
            } else {
                tracing::error!(?key, "no key of an alarm in the alarm index");
            }
            reached = Edge::behind(at, key);
        }
        if last {
            let reached = scan.to.clone();
            return Ok(Found { alarms, reached });
        }
    }
    Ok(Found { alarms, reached })
}

/// The whole alarm index, by time.
pub(super) fn walk_alarms(
    storage: &dyn Read,
    mut each: impl FnMut(AlarmEntry),
) -> Result<(), Error> {
    let (mut start, end) = (keys::ALARMS.to_vec(), keys::end_of(keys::ALARMS));
    loop {
        let page = storage.scan(&start, &end, Order::Ascending, PAGE)?;
        for (key, value) in &page {
            let (at, namespace, id) = keys::alarm_parts(key).ok_or_else(|| Error::Corrupt {
                object: String::new(),
                key: String::from_utf8_lossy(key).into_owned(),
                reason: "no key of an alarm".to_owned(),
            })?;
            let failures = meta::index_retry(value);
            each(AlarmEntry {
                namespace: namespace.to_owned(),
                id,
                at,
                failures,
            });
        }
        match page.into_iter().nth(PAGE - 1) {
            Some((key, _)) => start = record::after(key),
            None => return Ok(()),
        }
    }
}

/// All effects in all outboxes.
pub(super) fn count_effects(storage: &dyn Read) -> Result<usize, Error> {
    let (mut start, end) = (keys::OUTBOXES.to_vec(), keys::end_of(keys::OUTBOXES));
    let mut count = 0;
    loop {
        let page = storage.scan(&start, &end, Order::Ascending, PAGE)?;
        count += page.len();
        match page.into_iter().nth(PAGE - 1) {
            Some((key, _)) => start = record::after(key),
            None => return Ok(count),
        }
    }
}

/// The ids of a namespace that have anything stored beyond their meta record.
pub(super) fn stored_ids(storage: &dyn Read, namespace: &str) -> Result<Vec<ObjectId>, Error> {
    let mut ids = ids_below(storage, &keys::metas(namespace))?;
    let mut failure = None;
    ids.retain(|id| match has_state(storage, namespace, id) {
        Ok(found) => found,
        // It has state, only nobody can read it.
        Err(Error::Corrupt { .. }) => true,
        Err(error) => {
            failure.get_or_insert(error);
            false
        }
    });
    failure.map_or(Ok(ids), Err)
}

/// The ids of a namespace that have dead letters.
pub(super) fn dead_lettered_ids(
    storage: &dyn Read,
    namespace: &str,
) -> Result<Vec<ObjectId>, Error> {
    ids_below(storage, &keys::all_letters(namespace))
}

fn has_state(storage: &dyn Read, namespace: &str, id: &ObjectId) -> Result<bool, Error> {
    let own = keys::ObjectKeys::new(namespace, id);
    let any = |prefix: Vec<u8>| -> Result<bool, Error> {
        Ok(!storage
            .scan(&prefix, &keys::end_of(&prefix), Order::Ascending, 1)?
            .is_empty())
    };
    if any(own.record(""))? || any(own.outbox())? || any(own.letters())? {
        return Ok(true);
    }
    let key = own.meta();
    let Some(value) = storage.get(&key)? else {
        return Ok(false);
    };
    Ok(record::open_json::<meta::Meta>(id.as_str(), &key, &value)?
        .alarm
        .is_some())
}

/// The distinct ids below a prefix.
fn ids_below(storage: &dyn Read, prefix: &[u8]) -> Result<Vec<ObjectId>, Error> {
    let (mut ids, mut from) = (Vec::new(), prefix.to_vec());
    loop {
        let (some, next) = ids_from(storage, prefix, from, PAGE)?;
        if some.is_empty() {
            return Ok(ids);
        }
        ids.extend(some);
        from = next;
    }
}

/// At most `max` distinct ids below a prefix, and where to go on: with one short read per id
/// where it holds much, and one for many ids where they hold little.
fn ids_from(
    storage: &dyn Read,
    prefix: &[u8],
    mut start: Vec<u8>,
    max: usize,
) -> Result<(Vec<ObjectId>, Vec<u8>), Error> {
    let (mut ids, end): (Vec<ObjectId>, _) = (Vec::new(), keys::end_of(prefix));
    while ids.len() < max {
        let page = storage.scan(&start, &end, Order::Ascending, FEW)?;
        if page.is_empty() {
            break;
        }
        for (key, _) in page {
            let id = keys::id_below(prefix, &key).ok_or_else(|| Error::Corrupt {
                object: String::new(),
                key: String::from_utf8_lossy(&key).into_owned(),
                reason: "no key of an object".to_owned(),
            })?;
            if ids.last() != Some(&id) {
                // Behind `<id>\0...`, before any longer id.
                start = [prefix, id.as_str().as_bytes(), &[1]].concat();
                ids.push(id);
            }
        }
    }
    Ok((ids, start))
}
