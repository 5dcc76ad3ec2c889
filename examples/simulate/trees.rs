//! Working trees and branches as the container leaves them: what is committed, saved, lying about.
//!
//! Owns the witness of I12: every piece of work that a session ever made is on a branch, in a saved
//! ref, or still in its tree. Knows no rig.

use std::collections::{BTreeMap, BTreeSet};

use rig::{BeadId, Class, RigId, Work};

/// One bead's tree and branch.
#[derive(Debug, Default)]
struct Tree {
    lying: BTreeSet<u64>,
    saved: BTreeSet<u64>,
    committed: BTreeSet<u64>,
    commits: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    by_bead: BTreeMap<(RigId, BeadId), Tree>,
    made: BTreeMap<(RigId, BeadId), BTreeSet<u64>>,
    pieces: u64,
}

impl Trees {
    /// A session changes the tree.
    pub(crate) fn change(&mut self, at: &(RigId, BeadId)) {
        self.pieces += 1;
        self.by_bead
            .entry(at.clone())
            .or_default()
            .lying
            .insert(self.pieces);
        self.made.entry(at.clone()).or_default().insert(self.pieces);
    }

    /// A commit of everything in the tree; its name.
    pub(crate) fn commit(&mut self, at: &(RigId, BeadId)) -> String {
        let tree = self.by_bead.entry(at.clone()).or_default();
        tree.committed.append(&mut tree.lying);
        tree.commits += 1;
        format!("{}-{}", at.1, tree.commits)
    }

    /// What is there at a turn's or a session's end, given the commit of this dispatch.
    pub(crate) fn work(&self, at: &(RigId, BeadId), own: Option<&String>) -> Work {
        if let Some(sha) = own {
            let sha = sha.clone();
            return Work::Commit { sha };
        }
        match self.by_bead.get(at) {
            Some(tree) if tree.commits > 0 => Work::Earlier {
                sha: format!("{}-{}", at.1, tree.commits),
            },
            _ => Work::None,
        }
    }

    pub(crate) fn is_dirty(&self, at: &(RigId, BeadId)) -> bool {
        self.by_bead
            .get(at)
            .is_some_and(|tree| !tree.lying.is_empty())
    }

    /// What the end of a session does to its tree.
    pub(crate) fn ends(&mut self, at: &(RigId, BeadId), class: Option<Class>) -> Option<String> {
        let Some(class) = class else {
            // A completed session's tree is saved as a commit.
            return self.is_dirty(at).then(|| self.commit(at));
        };
        let tree = self.by_bead.entry(at.clone()).or_default();
        if class.is_charged() {
            tree.saved.append(&mut tree.lying);
        } else if matches!(class, Class::Interrupted | Class::BudgetStop) {
            tree.saved.extend(tree.lying.iter().copied());
        }
        None
    }

    /// Every piece that was made and is nowhere.
    pub(crate) fn lost(&self) -> Vec<String> {
        let gone = self.made.iter().filter_map(|(at, made)| {
            let tree = self.by_bead.get(at);
            let is_there = |piece: &&u64| {
                tree.is_some_and(|t| {
                    t.lying.contains(*piece)
                        || t.saved.contains(*piece)
                        || t.committed.contains(*piece)
                })
            };
            let gone = made.iter().filter(|piece| !is_there(piece)).count();
            (gone > 0).then(|| format!("I12: {gone} pieces of work on {} are gone", at.1))
        });
        gone.collect()
    }
}
