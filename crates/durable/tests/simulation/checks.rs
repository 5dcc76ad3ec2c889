//! What a store has to hold after any crash, and a network to have carried in the end.

use std::collections::BTreeMap;

use durable::{ObjectId, Order};
use serde_json::Value;

use super::client::{NODES, node};
use super::lab::Lab;
use super::world::Up;

/// Every turn of each node is there with both its records, none is missing before it, and
/// what was answered is among them.
pub async fn stored(lab: &Lab, up: &Up) {
    let mut labels = BTreeMap::new();
    for n in 0..NODES {
        let id = node(n);
        // The host goes on between these reads.
        let before = row(up, &id).await;
        let stub = up.nodes.stub(&id);
        let scanned = stub.scan("", None, usize::MAX, Order::Ascending).await;
        let (Ok(records), after) = (scanned, row(up, &id).await) else {
            return lab.say("the disk fails while it is checked");
        };
        let n = records.iter().find(|(key, _)| key == "n");
        let n = n.and_then(|(_, n)| n.as_u64());
        let ok = before.is_none_or(|row| row <= n) && after.is_none_or(|row| row >= n);
        lab.check(ok, || {
            format!("{id}: row {before:?} to {after:?}, not {n:?}")
        });
        let found = check_node(lab, &id, &records);
        labels.insert(id.to_string(), found);
    }
    let (acked, refused) = {
        let notes = lab.notes();
        (notes.acked.clone(), notes.refused.clone())
    };
    for (op, (node, n, _)) in acked {
        let (wiped, found) = &labels[&node];
        let stored = found.get(&format!("do-{op}"));
        let ok = stored == Some(&n) || (stored.is_none() && n < *wiped);
        lab.check(ok, || {
            format!("{node}: answered op {op} of turn {n} is {stored:?}")
        });
    }
    for (op, node) in refused {
        let stored = labels[&node].1.get(&format!("do-{op}"));
        lab.check(stored.is_none(), || {
            format!("{node}: refused op {op} is {stored:?}")
        });
    }
}

/// What the projection says of the node's count; nothing if it does not run.
async fn row(up: &Up, id: &ObjectId) -> Option<Option<u64>> {
    up.counts.as_ref()?.get(&format!("n/{id}")).await.ok()
}

/// The turn that has wiped, and the turn of each label.
fn check_node(
    lab: &Lab,
    id: &ObjectId,
    records: &[(String, Value)],
) -> (u64, BTreeMap<String, u64>) {
    let (mut ops, mut twins, mut n, mut wiped) = (BTreeMap::new(), BTreeMap::new(), 0, 1);
    for (key, value) in records {
        let number = value.as_u64().unwrap_or_default();
        match key.split_once('/') {
            Some(("op", label)) => drop(ops.insert(label.to_owned(), number)),
            Some((_, label)) => drop(twins.insert(label.to_owned(), number)),
            None if key == "n" => n = number,
            None if key == "wiped" => wiped = number,
            None => {}
        }
    }
    lab.check(ops == twins, || {
        format!("{id}: half a batch: {ops:?} {twins:?}")
    });
    let mut numbers: Vec<u64> = ops.values().copied().collect();
    numbers.sort_unstable();
    let ok = numbers.iter().copied().eq(wiped..=n);
    lab.check(ok, || format!("{id}: turns {numbers:?} of {wiped}..={n}"));
    (wiped, ops)
}

/// Every effect that was promised to a caller has arrived.
pub fn delivered(lab: &Lab) {
    let (acked, taken) = {
        let notes = lab.notes();
        (notes.acked.clone(), notes.taken.clone())
    };
    for (op, (node, _, sent)) in acked {
        for seq in sent {
            let ok = taken.contains(&(node.clone(), seq));
            lab.check(ok, || format!("{node} #{seq} of op {op} never arrived"));
        }
    }
}
