//! What processes have used, as the kernel counts it: CPU time, bytes written, memory.
//!
//! A server may be several processes; all below the one that was started are counted.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// What one server has used since it was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) cpu_ms: u64,
    pub(crate) written_bytes: u64,
    pub(crate) resident_kb: u64,
}

/// CPU time of this process in milliseconds.
pub(crate) fn own_cpu_ms() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000).unwrap_or_default()
}

/// The sum over that process and all below it.
pub(crate) fn used(pid: u32) -> Used {
    let mut sum = Used::default();
    for pid in tree(pid) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name may hold anything, so the fields are counted from its end.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let field = |n: usize| fields.get(n).and_then(|text| text.parse::<u64>().ok());
        // User and system time, in hundredths of a second.
        sum.cpu_ms += 10 * (field(11).unwrap_or(0) + field(12).unwrap_or(0));
        sum.written_bytes += value_of(&format!("/proc/{pid}/io"), "write_bytes:");
        sum.resident_kb += value_of(&format!("/proc/{pid}/status"), "VmRSS:");
    }
    sum
}

/// That process and all below it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    found
}

fn value_of(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.split_whitespace().next());
    value.and_then(|text| text.parse().ok()).unwrap_or(0)
}
