//! Whether all alarms of a data directory fire, seen from a runtime of its own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use runtime::{Runtime, Settings};

/// What is due when the directory is opened is fired within this.
const FIRED_WITHIN: Duration = Duration::from_secs(20);
/// An alarm that is due now and about to fire is not overdue.
const LATE_MS: i64 = 500;

/// How many alarms are still overdue after a while; 0 as soon as none is.
pub(crate) async fn overdue(dir: &Path) -> usize {
    let runtime = Box::pin(Runtime::start(Settings::new(dir))).await.unwrap();
    let deadline = Instant::now() + FIRED_WITHIN;
    let late = loop {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let pending = runtime.alarms_pending().await.unwrap();
        let late = pending.iter().filter(|(_, _, at)| *at < now_ms - LATE_MS);
        let late = late.count();
        if late == 0 || Instant::now() > deadline {
            break late;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    runtime.stop(Duration::from_secs(10)).await;
    late
}
