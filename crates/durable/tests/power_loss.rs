//! Power cuts: a file system that forgets what was not synced, under a store that writes.
//!
//! The store lies on an ext4 image. At a random moment the file system is shut down without its
//! journal being written; then it is mounted again, replays what it has, and the store is opened.
//! What was acknowledged before the cut has to be there. It needs root and loop devices.
// A test fails by panicking; the test speaks to whoever runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod trial;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use durable::storage::Op;
use durable::{SledStorage, Storage as _};
use trial::{Fsync, Tally, Writer, find};

const BATCHES_MIN: usize = 1_000;
/// A store lives through that many cuts before a new one is made.
const CUTS_PER_IMAGE: usize = 10;
const IMAGE_MB: u64 = 512;

/// An ext4 file system in a file.
struct Image {
    _root: tempfile::TempDir,
    file: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

impl Image {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (file, mount) = (root.path().join("image"), root.path().join("mount"));
        File::create(&file)
            .unwrap()
            .set_len(IMAGE_MB << 20)
            .unwrap();
        std::fs::create_dir(&mount).unwrap();
        run(Command::new("mkfs.ext4").arg("-qF").arg(&file));
        let mut image = Self {
            _root: root,
            file,
            mount,
            mounted: false,
        };
        image.mount();
        image
    }

    fn store(&self) -> PathBuf {
        self.mount.join("store")
    }

    fn mount(&mut self) {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.file)
            .arg(&self.mount));
        self.mounted = true;
    }

    fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted) {
            run(Command::new("umount").arg(&self.mount));
        }
    }

    /// From here on nothing reaches the image any more, the file system's journal included.
    fn cut(&self) {
        shut_down(&File::open(&self.mount).unwrap());
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} (it needs root and loop devices): {said}"
    );
}

#[expect(unsafe_code, reason = "no safe wrapper exists for this call")]
fn shut_down(root: &File) {
    /// `EXT4_IOC_SHUTDOWN`, which is `_IOR('X', 125, __u32)`.
    const SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
    /// `EXT4_GOING_FLAGS_NOLOGFLUSH`
    const NO_LOG_FLUSH: u32 = 2;
    // SAFETY: the call reads one u32 behind the pointer that `Setter` passes.
    unsafe {
        let flags = rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH);
        rustix::ioctl::ioctl(root, flags).unwrap();
    }
}

/// One cut under a writing store, and what is left.
fn cut_under(test: &str, image: &mut Image, fsync: Fsync, tally: &mut Tally) -> bool {
    let mut writer = Writer::start(test, &image.store(), fsync);
    let batches = BATCHES_MIN + rand::random_range(0..BATCHES_MIN);
    writer.listen(
        batches,
        Duration::from_micros(rand::random_range(0..10_000)),
    );
    let before = writer.acknowledged();
    image.cut();
    writer.kill();
    image.unmount();
    image.mount();
    let found = find(test, &image.store());
    let mut one = Tally::default();
    one.add(before, &found);
    if !one.is_clean() {
        println!("trial {}: {} lost, {found:?}", tally.trials, one.lost);
    }
    tally.add(before, &found);
    one.is_clean()
}

fn trials(test: &str, count: usize, fsync: Fsync) -> Tally {
    let mut tally = Tally::default();
    while tally.trials < count {
        let mut image = Image::new();
        if fsync == Fsync::TakenOut {
            // The store itself is on disk: what gets lost below are batches.
            let mut writer = Writer::start(test, &image.store(), Fsync::Own);
            writer.listen(100, Duration::ZERO);
            writer.kill();
            image.unmount();
            image.mount();
        }
        for _ in 0..CUTS_PER_IMAGE.min(count - tally.trials) {
            if !cut_under(test, &mut image, fsync, &mut tally) {
                break;
            }
        }
        image.unmount();
    }
    tally
}

#[test]
#[ignore = "needs root and loop devices: just power-loss"]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if trial::was_child() {
        return;
    }
    let name = "a_power_cut_loses_nothing_that_was_acknowledged";
    let tally = trials(name, trial::trials(100), Fsync::Own);
    tally.print("as shipped");
    assert!(tally.is_clean(), "{tally:?}");
}

/// The same trials see the loss that the own fsync prevents, so they would see another one.
#[test]
#[ignore = "needs root and loop devices: just power-loss"]
fn without_the_own_fsync_the_same_cuts_lose_batches() {
    if trial::was_child() {
        return;
    }
    let name = "without_the_own_fsync_the_same_cuts_lose_batches";
    let tally = trials(name, trial::trials(100).min(30), Fsync::TakenOut);
    tally.print("own fsync taken out");
    assert!(tally.with_loss + tally.not_opened > 0, "{tally:?}");
}

/// D8: ext4 becomes read-only by itself when it meets an error; `abort` makes it meet one.
#[test]
#[ignore = "needs root and loop devices: just power-loss"]
fn a_file_system_that_becomes_read_only_is_told_by_the_next_write() {
    let image = Image::new();
    let storage = SledStorage::open(image.store()).unwrap();
    let write = |n: u8| {
        let (key, value) = (b"n".to_vec(), vec![n; 10_000]);
        storage.apply(vec![Op::Put { key, value }])?;
        storage.sync()
    };
    write(1).unwrap();
    run(Command::new("mount")
        .args(["-o", "remount,abort"])
        .arg(&image.mount));
    let refused = write(2).unwrap_err();
    assert!(!refused.is_full(), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("Read-only file system"), "{text}");
}
