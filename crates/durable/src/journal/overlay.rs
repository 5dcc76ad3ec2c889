//! What the journal holds and the records do not yet: changes by key, over a storage.
//!
//! ```text
//! active   changes since the last freeze
//! frozen   changes that are being written into the storage, in key order
//! base     the storage
//! ```
//! A reader sees each batch wholly or not at all within one call. It knows keys only as bytes.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Error;
use crate::record::after;
use crate::storage::{Entry, Op, Order, Read};

/// A key's newest value, or none if it was removed.
pub(super) type Map = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Default)]
struct Layers {
    active: Map,
    frozen: Option<Arc<Map>>,
    /// Counts the freezes: the storage changes only by what a freeze has taken.
    freezes: u64,
}

/// The changes over a storage.
#[derive(Default)]
pub(super) struct Overlay {
    layers: RwLock<Layers>,
}

/// A part of a scan that the overlay answers, and the range in which it is complete.
struct Window {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    start: Vec<u8>,
    end: Vec<u8>,
    freezes: u64,
}

impl Overlay {
    /// Makes changes visible, all at once.
    pub(super) fn publish(&self, ops: impl Iterator<Item = Op>) {
        let mut layers = self.write();
        for op in ops {
            match op {
                Op::Put { key, value } => layers.active.insert(key, Some(value)),
                Op::Delete { key } => layers.active.insert(key, None),
            };
        }
    }

    /// Keys that have changed since the last freeze.
    pub(super) fn active_len(&self) -> usize {
        self.read().active.len()
    }

    /// Every change since the last freeze.
    pub(super) fn each(&self, mut see: impl FnMut(&[u8], &Option<Vec<u8>>)) {
        for (key, value) in &self.read().active {
            see(key, value);
        }
    }

    /// Takes what is active out of the way of later changes. There is no frozen layer before.
    pub(super) fn freeze(&self) -> Arc<Map> {
        let mut layers = self.write();
        let frozen = Arc::new(std::mem::take(&mut layers.active));
        layers.frozen = Some(Arc::clone(&frozen));
        layers.freezes += 1;
        frozen
    }

    /// Lets the frozen layer go: the storage has all of it.
    pub(super) fn thaw(&self) {
        let thawed = self.write().frozen.take();
        // Freed without the lock.
        drop(thawed);
    }

    /// Takes the place of all changes, once `read_again` has prepared the storage beneath; until
    /// then readers wait.
    pub(super) fn replace<T>(
        &self,
        read_again: impl FnOnce() -> Result<(Self, T), Error>,
    ) -> Result<T, Error> {
        let mut layers = self.write();
        let (fresh, found) = read_again()?;
        let freezes = layers.freezes + 1;
        let fresh = fresh.layers.into_inner();
        *layers = fresh.unwrap_or_else(PoisonError::into_inner);
        layers.freezes = freezes;
        Ok(found)
    }

    pub(super) fn get(&self, base: &dyn Read, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let (changed, freezes) = {
                let layers = self.read();
                let frozen = || layers.frozen.as_ref().and_then(|frozen| frozen.get(key));
                let changed = layers.active.get(key).or_else(frozen).cloned();
                (changed, layers.freezes)
            };
            if let Some(changed) = changed {
                return Ok(changed);
            }
            let found = base.get(key)?;
            // As in a scan: what was beneath may have been opened again.
            if self.read().freezes == freezes {
                return Ok(found);
            }
        }
    }

    pub(super) fn scan(
        &self,
        base: &dyn Read,
        (start, end): (&[u8], &[u8]),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        if start >= end || limit == 0 {
            return Ok(Vec::new());
        }
        loop {
            let found = self.window(start, end, order, limit);
            // Each change may hide one entry of the storage.
            let most = limit.saturating_add(found.changes.len());
            let below = base.scan(&found.start, &found.end, order, most)?;
            // Changes of a later freeze may have come into the storage meanwhile: look again,
            // or half of a batch could be seen. Freezes are rare.
            if self.read().freezes == found.freezes {
                let below = below.into_iter().map(|(key, value)| (key, Some(value)));
                let all = merge(found.changes.into_iter(), below, order);
                let live = all.filter_map(|(key, value)| value.map(|value| (key, value)));
                return Ok(live.take(limit).collect());
            }
        }
    }

    /// Changes in the range, until there are enough of them to answer the scan alone.
    fn window(&self, start: &[u8], end: &[u8], order: Order, limit: usize) -> Window {
        let layers = self.read();
        let range = (Bound::Included(start), Bound::Excluded(end));
        let empty = Map::new();
        let frozen = layers.frozen.as_deref().unwrap_or(&empty);
        let active = layers.active.range::<[u8], _>(range);
        let frozen = frozen.range::<[u8], _>(range);
        let (mut changes, mut live) = (Vec::new(), 0);
        let mut take = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            live += usize::from(value.is_some());
            changes.push((key.clone(), value.clone()));
            live < limit
        };
        let complete = match order {
            Order::Ascending => merge(active, frozen, order).all(&mut take),
            Order::Descending => merge(active.rev(), frozen.rev(), order).all(&mut take),
        };
        let last = changes.last().filter(|_| !complete).map(|(key, _)| key);
        let (start, end) = match (last, order) {
            (Some(key), Order::Ascending) => (start.to_vec(), after(key.clone())),
            (Some(key), Order::Descending) => (key.clone(), end.to_vec()),
            (None, _) => (start.to_vec(), end.to_vec()),
        };
        Window {
            start,
            end,
            freezes: layers.freezes,
            changes,
        }
    }

    // A writer that panicked has poisoned the store; readers see whole changes of keys at least.
    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two runs in the same order as one; of the same key the upper run's entry counts.
fn merge<K: AsRef<[u8]>, V>(
    above: impl Iterator<Item = (K, V)>,
    below: impl Iterator<Item = (K, V)>,
    order: Order,
) -> impl Iterator<Item = (K, V)> {
    let (mut above, mut below) = (above.peekable(), below.peekable());
    std::iter::from_fn(move || {
        let first = match (above.peek(), below.peek()) {
            (Some((a, _)), Some((b, _))) => compare(a.as_ref(), b.as_ref(), order),
            (_, None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        if first == Ordering::Equal {
            below.next();
        }
        if first == Ordering::Greater {
            below.next()
        } else {
            above.next()
        }
    })
}

fn compare(a: &[u8], b: &[u8], order: Order) -> Ordering {
    match order {
        Order::Ascending => a.cmp(b),
        Order::Descending => b.cmp(a),
    }
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay")
            .field("active", &self.active_len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::{MemoryStorage, Storage};

    fn op() -> impl Strategy<Value = Op> {
        let key = proptest::collection::vec(0_u8..4, 1..3);
        (key, proptest::option::of(any::<u8>())).prop_map(|(key, value)| match value {
            Some(value) => Op::Put {
                key,
                value: vec![value],
            },
            None => Op::Delete { key },
        })
    }

    /// A storage into which a whole batch is written while it is read for the first time.
    #[derive(Debug, Default)]
    struct Changing {
        storage: MemoryStorage,
        overlay: Arc<Overlay>,
        done: std::sync::atomic::AtomicBool,
    }

    impl Read for Changing {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
            self.storage.get(key)
        }

        fn scan(&self, a: &[u8], z: &[u8], order: Order, n: usize) -> Result<Vec<Entry>, Error> {
            if !self.done.swap(true, std::sync::atomic::Ordering::SeqCst) {
                self.overlay.publish(both(2).into_iter());
                self.overlay.freeze();
                self.storage.apply(both(2))?;
                self.overlay.thaw();
            }
            self.storage.scan(a, z, order, n)
        }
    }

    fn both(value: u8) -> Vec<Op> {
        let put = |key: u8| Op::Put {
            key: vec![key],
            value: vec![value],
        };
        vec![put(1), put(2)]
    }

    #[test]
    fn a_scan_sees_no_half_of_a_batch_that_a_checkpoint_moves_meanwhile() {
        let base = Changing::default();
        let mut ops = both(1);
        base.overlay.publish(std::iter::once(ops.remove(0)));
        base.storage.apply(ops).unwrap();
        let found = base.overlay.scan(&base, (&[0], &[9]), Order::Ascending, 9);
        assert_eq!(found, Ok(vec![(vec![1], vec![2]), (vec![2], vec![2])]));
    }

    fn bound() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0_u8..5, 1..3)
    }

    proptest! {
        #[test]
        fn three_layers_read_like_one_map(
            layers in proptest::array::uniform3(proptest::collection::vec(op(), 0..12)),
            (start, end) in (bound(), bound()),
            limit in 0_usize..6,
        ) {
            let (base, overlay, model) =
                (MemoryStorage::new(), Overlay::default(), MemoryStorage::new());
            let [stored, frozen, active] = layers;
            for ops in [&stored, &frozen, &active] {
                model.apply(ops.clone()).unwrap();
            }
            base.apply(stored).unwrap();
            overlay.publish(frozen.into_iter());
            overlay.freeze();
            overlay.publish(active.into_iter());
            prop_assert_eq!(overlay.get(&base, &start).unwrap(), model.get(&start).unwrap());
            for order in [Order::Ascending, Order::Descending] {
                let found = overlay.scan(&base, (&start, &end), order, limit).unwrap();
                prop_assert_eq!(found, model.scan(&start, &end, order, limit).unwrap());
            }
        }
    }
}
