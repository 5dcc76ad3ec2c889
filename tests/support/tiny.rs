//! A file system of 32 MiB in memory, that can be filled.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A quarter of what a store keeps free on it.
const LEFT_BYTES: u64 = 1 << 20;

/// Unmounted with this value.
pub(crate) struct Tiny(PathBuf);

impl Tiny {
    /// Over that directory.
    pub(crate) fn over(dir: &Path) -> Self {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"])
            .arg(dir)
            .output();
        let mounted = mount.as_ref().is_ok_and(|out| out.status.success());
        assert!(
            mounted,
            "this test mounts a tmpfs, which is not permitted here ({mount:?}): run it as root or \
             in `unshare -Urm`, or leave it out with --skip full_"
        );
        Self(dir.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes nearly all the room, at once: what is left is less than the store keeps free.
    pub(crate) fn fill(&self) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let bytes = stat.f_bavail * stat.f_frsize - LEFT_BYTES;
        let bytes = usize::try_from(bytes).unwrap();
        std::fs::write(self.filler(), vec![0; bytes]).unwrap();
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
