//! Directories of files: copied, listed, damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Copies files and directories as they are at this moment.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, content) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    // sled wants the directory of its blobs, empty or not.
    if from.join("blobs").is_dir() {
        fs::create_dir_all(to.join("blobs")).unwrap();
    }
}

/// Relative names and contents of all files below a directory.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(dir, dir, &mut found);
    found
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if let Ok(content) = fs::read(&path) {
            // sled removes files on threads of its own, so a listed one may be gone.
            found.insert(path.strip_prefix(root).unwrap().to_owned(), content);
        }
    }
}
