//! What a namespace finds on disk when it is registered: alarms and outboxes of earlier runs.
//!
//! Also the walks over the host's own indexes that status displays ask for.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::storage::{Order, Read};
use crate::timers::{Kind, Target};
use crate::{Error, ObjectId, keys, meta, record};

const PAGE: usize = 256;
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// One entry of the alarm index.
pub(super) struct AlarmEntry {
    pub(super) namespace: String,
    pub(super) id: ObjectId,
    pub(super) at: i64,
    pub(super) failures: u32,
}

/// Fills the alarm clock for the namespace, and tries again until it has read everything: an
/// alarm that is not found here would not fire before its object gets a message.
pub(super) async fn recover(core: Arc<Core>, namespace: &'static str) {
    loop {
        let job = Arc::clone(&core);
        let work = move || {
            job.storage()
                .and_then(|storage| fill(&job, &*storage, namespace))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => return,
            _ if core.is_stopping() => return,
            failed => {
                tracing::error!(
                    namespace,
                    ?failed,
                    "cannot read the alarm index; trying again"
                );
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

fn fill(core: &Core, storage: &dyn Read, namespace: &'static str) -> Result<(), Error> {
    walk_alarms(storage, |entry| {
        if entry.namespace == namespace {
            let target = Target {
                namespace,
                id: entry.id,
                kind: Kind::Alarm,
            };
            core.timers.offer(target, entry.at);
        }
    })?;
    for id in ids_below(storage, &keys::outboxes(namespace))? {
        core.timers.offer(
            Target {
                namespace,
                id,
                kind: Kind::Outbox,
            },
            i64::MIN,
        );
    }
    Ok(())
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
        Err(error) => {
            failure.get_or_insert(error);
            false
        }
    });
    failure.map_or(Ok(ids), Err)
}

fn has_state(storage: &dyn Read, namespace: &str, id: &ObjectId) -> Result<bool, Error> {
    let own = keys::ObjectKeys::new(namespace, id);
    let any = |prefix: Vec<u8>| -> Result<bool, Error> {
        Ok(!storage
            .scan(&prefix, &keys::end_of(&prefix), Order::Ascending, 1)?
            .is_empty())
    };
    if any(own.record(""))? || any(own.outbox())? {
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

/// The distinct ids below a prefix, with one read per id however much each of them holds.
fn ids_below(storage: &dyn Read, prefix: &[u8]) -> Result<Vec<ObjectId>, Error> {
    let (mut start, end) = (prefix.to_vec(), keys::end_of(prefix));
    let mut ids = Vec::new();
    while let Some((key, _)) = storage.scan(&start, &end, Order::Ascending, 1)?.pop() {
        let id = keys::id_below(prefix, &key).ok_or_else(|| Error::Corrupt {
            object: String::new(),
            key: String::from_utf8_lossy(&key).into_owned(),
            reason: "no key of an object".to_owned(),
        })?;
        // Behind `<id>\0...`, before any longer id.
        start = [prefix, id.as_str().as_bytes(), &[1]].concat();
        ids.push(id);
    }
    Ok(ids)
}
