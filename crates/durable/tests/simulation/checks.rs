//! What a store has to hold after any crash, and a network to have carried in the end.

use std::collections::{BTreeMap, BTreeSet};

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

/// Every effect that was promised to a caller, or has left, has either arrived or is a dead letter
/// of its sender, and only what no receiver takes is one.
pub async fn delivered(lab: &Lab, up: &Up) {
    let mut dead = BTreeMap::new();
    for n in 0..NODES {
        let id = node(n);
        let letters = up.nodes.stub(&id).dead_letters().await;
        lab.check(letters.is_ok(), || format!("{id}: {letters:?}"));
        for letter in letters.unwrap_or_default() {
            dead.insert((id.to_string(), letter.seq), letter);
        }
    }
    let (acked, left, taken) = {
        let mut notes = lab.notes();
        notes.letters = dead.len();
        (notes.acked.clone(), notes.sent.clone(), notes.taken.clone())
    };
    let promised = acked.into_values().flat_map(|(node, _, sent)| {
        let of = move |seq| (node.clone(), seq);
        sent.into_iter().map(of)
    });
    let all: BTreeSet<_> = promised.chain(left.keys().cloned()).collect();
    for effect in all {
        let ends = [taken.contains(&effect), dead.contains_key(&effect)];
        let ok = ends.iter().filter(|end| **end).count() == 1;
        lab.check(ok, || {
            format!("{effect:?}: arrived, a dead letter: {ends:?}")
        });
    }
    for (effect, letter) in &dead {
        let ok = letter.effect.is_poison() && left.get(effect) == Some(&letter.effect);
        lab.check(ok, || format!("{effect:?} is a dead letter: {letter:?}"));
    }
}

/// Sends what can be taken by now once more.
pub async fn cure(lab: &Lab, up: &Up) {
    lab.notes().cured = true;
    for n in 0..NODES {
        let stub = up.nodes.stub(&node(n));
        for letter in stub.dead_letters().await.unwrap_or_default() {
            if letter.effect.is_curable() {
                lab.retries_now(stub.id().as_str(), letter.seq);
                let found = stub.retry_dead_letter(letter.seq).await;
                lab.check(found == Ok(true), || format!("{letter:?}: {found:?}"));
            }
        }
    }
}
