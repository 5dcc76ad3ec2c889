//! What no compiler holds: heads of files, boundaries between parts, links in documents.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && entry.file_name() != "target" {
            found.extend(files(&path, ending));
        } else if kind.is_file() && path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found
}

fn sources() -> Vec<PathBuf> {
    ["benches", "crates", "examples", "tests"]
        .iter()
        .flat_map(|dir| files(&root().join(dir), "rs"))
        .collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Files below `dir` that hold one of the words, tests and `but` excepted.
fn holders(dir: &str, words: &[&str], but: &[&str]) -> Vec<String> {
    let files = files(&root().join(dir), "rs").into_iter().filter(|path| {
        let shown = shown(path);
        !shown.contains("/tests") && !but.contains(&shown.as_str())
    });
    let holds = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        code.into_iter()
            .any(|line| words.iter().any(|word| line.contains(word)))
    };
    files.filter(holds).map(|path| shown(&path)).collect()
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let headless: Vec<_> = sources()
        .iter()
        .filter(|path| !std::fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| shown(path))
        .collect();
    assert!(
        headless.is_empty(),
        "files without a //! head: {headless:#?}"
    );
}

#[test]
fn sled_is_named_in_one_place() {
    let found = holders(
        "crates",
        &["sled::"],
        &[
            "crates/durable/src/storage/sled_storage.rs",
            "crates/durable/src/storage/sled_storage/split.rs",
        ],
    );
    assert!(found.is_empty(), "sled leaks into {found:?}");
}

#[test]
fn no_timer_lives_inside_an_actor() {
    // A timer that is already due slips past a gate once; timers arrive as messages from outside.
    let words = [".run_later(", ".notify_later(", ".run_interval("];
    let found = holders("crates", &words, &[]);
    assert!(found.is_empty(), "timers inside actors: {found:?}");
}

#[test]
fn the_object_host_knows_no_bead_and_kilo_knows_no_rig() {
    let found = holders(
        "crates/durable/src",
        &["bead", "Bead", "agent", "kilo"],
        &[],
    );
    assert!(found.is_empty(), "durable speaks of {found:?}");
    let found = holders(
        "crates/kilo/src",
        &["bead", "Bead", "rig::", "durable::"],
        &[],
    );
    assert!(found.is_empty(), "kilo speaks of {found:?}");
}

#[test]
fn pages_and_http_servers_live_in_the_server_alone() {
    for dir in [
        "crates/rig",
        "crates/durable",
        "crates/kilo",
        "crates/runtime",
    ] {
        let found = holders(dir, &["actix_web"], &[]);
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = files(&root().join("docs"), "md");
    documents.push(root().join("README.md"));
    let mut broken = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = link.split('#').next().unwrap_or_default();
            let is_file = !path.is_empty() && !link.contains("://");
            if is_file && !document.with_file_name(path).exists() {
                broken.push(format!("{} → {link}", shown(&document)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Rows of documents that name tests: `` `file` name, name… ``. A name that ends in `…` is the
/// beginning of one.
#[test]
fn tests_that_documents_name_are_there() {
    let everything: String = sources()
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut missing = Vec::new();
    for document in files(&root().join("docs"), "md") {
        let text = std::fs::read_to_string(&document).unwrap();
        for row in text.lines().filter(|line| line.starts_with('|')) {
            let is_of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let words = row.split(|c: char| !is_of_a_name(c));
            // Tests are named by sentences; nothing else in a table has that many words in one.
            for name in words.filter(|word| word.matches('_').count() >= 4) {
                if !everything.contains(&format!("fn {}", name.trim_end_matches('_'))) {
                    missing.push(format!("{}: {name}", shown(&document)));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}
