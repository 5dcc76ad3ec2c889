//! How projections run inside the committer: over each group, and over the whole store when
//! their rows have to be made anew.
//!
//! Beside the rows there is one note per projection: its version and the commit that it has
//! reached, written in each group. Whatever is not reached with the next commit was missed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::{Change, Pending, Projection, Rows};
use crate::commit::Batch;
use crate::journal::{Part, Writer};
use crate::keys::ObjectKeys;
use crate::storage::{Entry, Op, Order, Read};
use crate::{Error, ObjectId, keys, record};

/// Records per change while rows are made anew, and rows removed per commit.
const PAGE: usize = 1_000;

/// How far a projection has come, as it is stored.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    version: u32,
    /// The last commit that is in the rows; none while they are void.
    upto: Option<u64>,
}

type Fold = Box<dyn Fn(&Change<'_>, &mut Rows<'_>) -> Result<(), Error> + Send>;

/// One registered projection.
pub(crate) struct Runner {
    name: &'static str,
    version: u32,
    namespaces: &'static [&'static str],
    fold: Fold,
    /// Why it does not run any more; shared with those who read its rows.
    stale: Arc<OnceLock<String>>,
}

/// All projections of a committer.
#[derive(Default)]
pub(crate) struct Runners(Vec<Runner>);

impl Runner {
    pub(crate) fn new<P: Projection>(projection: P, stale: Arc<OnceLock<String>>) -> Self {
        Self {
            name: P::NAME,
            version: P::VERSION,
            namespaces: P::NAMESPACES,
            fold: Box::new(move |change, rows| projection.fold(change, rows)),
            stale,
        }
    }

    fn runs(&self) -> bool {
        self.stale.get().is_none()
    }

    /// Takes a change into the pending rows, or is stale from then on.
    fn take(
        &self,
        change: Result<Change<'_>, Error>,
        view: &dyn Read,
        to: &mut Pending,
        epoch: u64,
    ) {
        let name = self.name;
        let mut rows = Rows {
            view,
            pending: to,
            name,
            epoch,
        };
        let folded = change.and_then(|change| {
            catch_unwind(AssertUnwindSafe(|| (self.fold)(&change, &mut rows))).unwrap_or_else(
                |_| {
                    Err(Error::Panicked {
                        object: change.id.to_string(),
                        reason: "the projection panicked".to_owned(),
                    })
                },
            )
        });
        if let Err(error) = folded {
            tracing::error!(name, %error, "a projection failed and has stopped");
            let _ = self.stale.set(error.to_string());
        }
    }

    fn note(&self, upto: Option<u64>, epoch: u64) -> Result<Op, Error> {
        let (key, version) = (keys::note(self.name), self.version);
        let value = record::seal_json(&key, epoch, &Note { version, upto })?;
        Ok(Op::Put { key, value })
    }
}

impl Runners {
    /// Folds a group that is about to be written; the rows go with its last commit.
    pub(crate) fn fold(&self, writer: &Writer, group: &mut [Batch]) -> Result<(), Error> {
        let Some(last) = group.iter().rposition(|batch| !batch.ops.is_empty()) else {
            return Ok(());
        };
        let (view, epoch) = (&**writer.journal(), writer.epoch());
        let mut written = Vec::new();
        for runner in self.0.iter().filter(|runner| runner.runs()) {
            let (mut pending, mut seq) = (Pending::new(), writer.last());
            for batch in group.iter().filter(|batch| !batch.ops.is_empty()) {
                seq += 1;
                let Some(origin) = batch.origin.as_deref() else {
                    continue;
                };
                if runner.runs() && runner.namespaces.contains(&origin.namespace) {
                    let ops = batch.ops.iter();
                    let change = Change::new(origin.namespace, &origin.id, seq, ops);
                    runner.take(change, view, &mut pending, epoch);
                }
            }
            let upto = runner.runs().then_some(seq);
            if upto.is_some() {
                written.extend(pending.into_iter().map(op));
            }
            written.push(runner.note(upto, epoch)?);
        }
        if let Some(batch) = group.get_mut(last) {
            batch.ops.append(&mut written);
        }
        Ok(())
    }

    /// Adds a projection, in place of one of the same name, with its rows up to date.
    pub(crate) fn register(&mut self, runner: Runner, writer: &mut Writer) -> Result<(), Error> {
        self.0.retain(|known| known.name != runner.name);
        let current = Note {
            version: runner.version,
            upto: Some(writer.last()),
        };
        if read_note(&runner, &**writer.journal()) != Some(current) {
            rebuild(&runner, writer)?;
        }
        self.0.push(runner);
        Ok(())
    }
}

/// An unreadable note is none.
fn read_note(runner: &Runner, view: &dyn Read) -> Option<Note> {
    let key = keys::note(runner.name);
    let value = view.get(&key).ok()??;
    record::open_json("", &key, &value).ok()
}

/// Makes the rows anew. Its commits are the store's own: with the first of them the old note has
/// missed something, so a rebuild that is cut short begins again.
fn rebuild(runner: &Runner, writer: &mut Writer) -> Result<(), Error> {
    tracing::info!(name = runner.name, "the rows of a projection are made anew");
    let epoch = writer.epoch();
    let rows = keys::row(runner.name, "");
    loop {
        let end = keys::end_of(&rows);
        let page = writer.journal().scan(&rows, &end, Order::Ascending, PAGE)?;
        if page.is_empty() {
            break;
        }
        let gone = page.into_iter().map(|(key, _)| Op::Delete { key });
        write(writer, gone.collect())?;
    }
    for namespace in runner.namespaces {
        let prefix = keys::metas(namespace);
        walk(writer, &prefix, &mut |writer, page| {
            for (key, value) in page {
                let id = keys::id_below(&prefix, &key);
                if let Some(id) = id.filter(|_| runner.runs()) {
                    let meta = Op::Put { key, value };
                    rebuild_object(runner, writer, namespace, &id, meta)?;
                }
            }
            Ok(())
        })?;
    }
    // This note is a commit itself.
    let upto = runner.runs().then(|| writer.last() + 1);
    write(writer, vec![runner.note(upto, epoch)?])
}

fn rebuild_object(
    runner: &Runner,
    writer: &mut Writer,
    namespace: &str,
    id: &ObjectId,
    meta: Op,
) -> Result<(), Error> {
    let mut meta = Some(meta);
    let prefix = ObjectKeys::new(namespace, id).record("");
    let walked = walk(writer, &prefix, &mut |writer, page| {
        let put = |(key, value)| Op::Put { key, value };
        let ops: Vec<Op> = page.into_iter().map(put).chain(meta.take()).collect();
        let (view, seq, mut pending) = (&**writer.journal(), writer.last(), Pending::new());
        let change = Change::new(namespace, id, seq, ops.iter());
        runner.take(change, view, &mut pending, writer.epoch());
        write(writer, pending.into_iter().map(op).collect())
    });
    match walked {
        Err(error @ Error::Corrupt { .. }) => {
            tracing::warn!(object = %id, %error, "a damaged object is not in the projection");
            Ok(())
        }
        other => other,
    }
}

type OnPage<'a> = dyn FnMut(&mut Writer, Vec<Entry>) -> Result<(), Error> + 'a;

/// Gives all entries below the prefix in pages, at least one.
fn walk(writer: &mut Writer, prefix: &[u8], each: &mut OnPage<'_>) -> Result<(), Error> {
    let (mut start, end) = (prefix.to_vec(), keys::end_of(prefix));
    loop {
        let page = writer
            .journal()
            .scan(&start, &end, Order::Ascending, PAGE)?;
        let last = page.get(PAGE - 1).map(|(key, _)| key.clone());
        each(writer, page)?;
        match last {
            Some(key) => start = record::after(key),
            None => return Ok(()),
        }
    }
}

/// A commit of the store's own.
fn write(writer: &mut Writer, ops: Vec<Op>) -> Result<(), Error> {
    if ops.is_empty() {
        return Ok(());
    }
    let (namespace, id) = ("", "");
    let ops_of = ops.as_slice();
    writer.append(&[Part {
        namespace,
        id,
        ops: ops_of,
    }])?;
    writer.publish(&mut std::iter::once(ops));
    writer.write_behind()
}

fn op((key, value): (Vec<u8>, Option<Vec<u8>>)) -> Op {
    match value {
        Some(value) => Op::Put { key, value },
        None => Op::Delete { key },
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
