//! The machine: platform, port, disk and clock.

use std::{
    fs::Metadata,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::finding::Finding;

const GIB: u64 = 1 << 30;
const SPACE_WARN_BYTES: u64 = 2 * GIB;
const SPACE_FAIL_BYTES: u64 = 200 << 20;
/// Entries that are looked at for the newest time; more say nothing more.
const ENTRIES_MAX: usize = 10_000;
/// Clocks of a network's machines differ by as much.
const SKEW: Duration = Duration::from_mins(1);
/// 2024-01-01 and 2100-01-01: a clock outside of it was never set.
const SANE_S: std::ops::Range<u64> = 1_704_067_200..4_102_444_800;
const SET_CLOCK: &str = "sudo timedatectl set-ntp true";
const OTHER_DIR: &str = "wellhead up --data-dir DIR, with DIR on a local disk";

const FILESYSTEM: &str = "filesystem";

/// Filesystems that promise less than the store asks for: magic, name, consequence.
const FILESYSTEMS: [(i128, &str, &str); 8] = [
    (
        0x6969,
        "NFS",
        "its locks and fsync may lie, so acknowledged work can be lost",
    ),
    (
        0x517B,
        "SMB",
        "its locks and fsync may lie, so acknowledged work can be lost",
    ),
    (
        0xFF53_4D42,
        "CIFS",
        "its locks and fsync may lie, so acknowledged work can be lost",
    ),
    (
        0xFE53_4D42,
        "SMB",
        "its locks and fsync may lie, so acknowledged work can be lost",
    ),
    (
        0x0102_1997,
        "9P",
        "whether fsync reaches a disk is up to the machine outside",
    ),
    (
        0x6573_5546,
        "FUSE",
        "whether fsync reaches a disk is up to its program",
    ),
    (
        0x794C_7630,
        "overlay",
        "it goes away with its container, and all work with it",
    ),
    (
        0x0102_1994,
        "tmpfs",
        "it is memory: a restart of the machine loses all work",
    ),
];

pub(super) fn platform() -> Finding {
    use std::env::consts::{ARCH, OS};
    let text = format!("{OS} on {ARCH}");
    if OS == "linux" && matches!(ARCH, "x86_64" | "aarch64") {
        return Finding::ok("platform", text);
    }
    let text = format!("{text} is not supported; Linux on x86_64 or aarch64 is");
    Finding::fail("platform", text, "uname -sm")
}

pub(super) fn port(listen: SocketAddr, is_held: bool) -> Finding {
    let fix = "wellhead up --listen 127.0.0.1:0";
    if !listen.ip().is_loopback() {
        let text = format!("{listen} is no loopback address; only those are listened on");
        return Finding::fail("port", text, fix);
    }
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("port", format!("{listen} is free")),
        Err(error) if is_held => {
            let text = format!("{listen}: {error}; the running wellhead may be the one");
            Finding::warn("port", text, fix)
        }
        Err(error) => Finding::fail("port", format!("{listen}: {error}"), fix),
    }
}

pub(super) fn space(dir: &Path) -> Finding {
    let (check, at) = ("disk", existing(dir));
    let fix = format!("df -h '{}'", at.display());
    let free = match rustix::fs::statvfs(at) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            let text = format!("free space is not known: {}", std::io::Error::from(error));
            return Finding::warn(check, text, fix);
        }
    };
    let text = format!("{} MiB are free for {}", free >> 20, dir.display());
    match free {
        SPACE_WARN_BYTES.. => Finding::ok(check, text),
        SPACE_FAIL_BYTES.. => Finding::warn(check, format!("{text}; 2 GiB are safer"), fix),
        _ => Finding::fail(check, format!("{text}; a full disk stops all work"), fix),
    }
}

pub(super) fn filesystem(dir: &Path) -> Finding {
    match rustix::fs::statfs(existing(dir)) {
        Ok(stat) => judge_filesystem(i128::from(stat.f_type)),
        Err(error) => {
            let text = format!("its kind is not known: {}", std::io::Error::from(error));
            Finding::warn(FILESYSTEM, text, OTHER_DIR)
        }
    }
}

fn judge_filesystem(magic: i128) -> Finding {
    match FILESYSTEMS.iter().find(|(known, ..)| *known == magic) {
        Some((_, name, consequence)) => {
            let text = format!("the data directory lies on {name}: {consequence}");
            Finding::warn(FILESYSTEM, text, OTHER_DIR)
        }
        None => Finding::ok(FILESYSTEM, "a local filesystem"),
    }
}

pub(super) fn clock(dir: &Path) -> Finding {
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if !SANE_S.contains(&since) {
        let text = "the clock's year is wrong: certificates and deadlines can not be checked";
        return Finding::fail("clock", text, SET_CLOCK);
    }
    let ahead = newest(dir).and_then(|newest| newest.duration_since(now).ok());
    match ahead.filter(|ahead| *ahead > SKEW) {
        Some(ahead) => {
            let text = format!(
                "the clock is {} s behind the newest file of the data directory",
                ahead.as_secs()
            );
            Finding::fail("clock", text, SET_CLOCK)
        }
        None => Finding::ok("clock", "not before the newest file of the data directory"),
    }
}

/// The newest time of the directory's own files and of its store's.
fn newest(dir: &Path) -> Option<SystemTime> {
    let entries = [dir.to_owned(), dir.join("store")]
        .into_iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .take(ENTRIES_MAX);
    let times =
        entries.filter_map(|entry| entry.ok()?.metadata().ok().as_ref().map(Metadata::modified));
    times.filter_map(Result::ok).max()
}

/// The directory, or the nearest one above it that is there.
fn existing(dir: &Path) -> &Path {
    let found = dir.ancestors().find(|dir| dir.exists());
    found.unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    /// D12: the kinds as `statfs(2)` lists them.
    #[test]
    fn a_network_or_layered_filesystem_is_warned_about_by_name() {
        for (magic, name) in [
            (0x6969, "NFS"),
            (0x517B, "SMB"),
            (0xFF53_4D42, "CIFS"),
            (0xFE53_4D42, "SMB"),
            (0x0102_1997, "9P"),
            (0x6573_5546, "FUSE"),
            (0x794C_7630, "overlay"),
            (0x0102_1994, "tmpfs"),
        ] {
            let found = judge_filesystem(magic);
            assert_eq!(found.level, Level::Warn, "{name}");
            let words = format!("lies on {name}: ");
            assert!(found.text.contains(&words), "{}", found.text);
            assert!(found.fix.is_some_and(|fix| fix.contains("--data-dir")));
        }
        for (magic, name) in [
            (0xEF53, "ext4"),
            (0x5846_5342, "XFS"),
            (0x9123_683E, "btrfs"),
        ] {
            assert_eq!(judge_filesystem(magic).level, Level::Ok, "{name}");
        }
    }
}
