//! What the loop of a session knows of it: its clocks, its turn, its tools, its waits.
//!
//! Owns that state and how events change it. Does no I/O.

use std::{collections::BTreeMap, time::Duration};

use kilo::{ToolStatus, TurnEnd};
use rig::{Class, Failure, LAST_OUTPUT_MAX, Stage, Usage};
use tokio::time::Instant;

use super::{How, StopOrder};

/// Far enough to mean never; timers in a select need some time.
pub(super) const NEVER: Duration = Duration::from_hours(24 * 365);

/// See the file's head.
pub(super) struct Known {
    /// Its turn has begun, and the rig is to hear of it.
    pub(super) begun: bool,
    /// The rig has heard of it.
    pub(super) started: bool,
    pub(super) stopping: Option<StopOrder>,
    pub(super) stop_at: Instant,
    /// The turn that completed, and when it was quiet for long enough.
    pub(super) ended: Option<TurnEnd>,
    pub(super) judge_at: Instant,
    pub(super) turn_no: u32,
    pub(super) output: bool,
    pub(super) progress_at: Option<Instant>,
    /// Tools that run, and since when.
    tools: BTreeMap<String, Instant>,
    pub(super) repeats: kilo::Repeats,
    /// From so many identical calls on the rig is told at once.
    repeats_max: u32,
    pub(super) asked: Option<String>,
    pub(super) usage: Usage,
    pub(super) last_output: Option<String>,
    /// The request of the wait for the gateway, while it lasts.
    pub(super) offline: Option<String>,
    /// The newest prompt of the clock that was heeded.
    nudged: u32,
    /// What to prompt with once the stopped turn is over.
    pub(super) nudge: Option<String>,
}

impl Known {
    pub(super) fn new(repeats_max: u32) -> Self {
        let never = Instant::now() + NEVER;
        Self {
            begun: false,
            started: false,
            stopping: None,
            stop_at: never,
            ended: None,
            judge_at: never,
            turn_no: 0,
            output: false,
            progress_at: None,
            tools: BTreeMap::new(),
            repeats: kilo::Repeats::default(),
            repeats_max,
            asked: None,
            usage: Usage::default(),
            last_output: None,
            offline: None,
            nudged: 0,
            nudge: None,
        }
    }

    /// A model or tool event: the work moves, and a turn that looked over is not.
    pub(super) fn moved(&mut self) {
        self.progress_at = Some(Instant::now());
        if self.ended.take().is_some() {
            self.judge_at = Instant::now() + NEVER;
        }
    }

    /// Takes in a tool's state; whether the same call was made so often that the rig has to know.
    pub(super) fn note_tool(&mut self, tool: Option<kilo::ToolState>) -> bool {
        let Some(tool) = tool else { return false };
        let before = self.repeats.in_a_row();
        self.repeats.note(&tool);
        match tool.state {
            ToolStatus::Running => {
                self.tools.entry(tool.call_id).or_insert_with(Instant::now);
            }
            ToolStatus::Completed | ToolStatus::Error => drop(self.tools.remove(&tool.call_id)),
            ToolStatus::Pending => {}
        }
        let now = self.repeats.in_a_row();
        self.repeats_max > 0 && now > before && now >= self.repeats_max
    }

    /// For how long the oldest of the tools runs that run right now, in milliseconds.
    pub(super) fn tool_age_ms(&self) -> Option<i64> {
        let oldest = self.tools.values().min()?;
        Some(age_ms(*oldest))
    }

    /// How long ago the newest model or tool event was, in milliseconds.
    pub(super) fn progress_age_ms(&self) -> Option<i64> {
        self.progress_at.map(age_ms)
    }

    /// A turn is over: no tool of it runs any more.
    pub(super) fn turn_over(&mut self, end: &TurnEnd) {
        self.moved();
        self.tools.clear();
        self.output |= end.model_output;
        self.turn_no += 1;
        if let Some(text) = &end.text {
            self.last_output = Some(tail(text, LAST_OUTPUT_MAX));
        }
    }

    /// Whether a prompt of the clock is a new one.
    pub(super) fn heeds(&mut self, no: u32) -> bool {
        let is_new = no > self.nudged && self.ended.is_none() && self.stopping.is_none();
        self.nudged = self.nudged.max(no);
        is_new
    }

    /// An order to stop: at once, or when the turn has ended within its grace.
    pub(super) fn stop(&mut self, order: StopOrder) {
        let grace = Duration::from_millis(u64::try_from(order.grace_ms).unwrap_or(0));
        let is_quiet = self.ended.is_some();
        self.stopping = Some(order);
        if is_quiet {
            self.judge_at = Instant::now();
        } else {
            self.stop_at = self.stop_at.min(Instant::now() + grace);
        }
    }

    pub(super) fn interrupted(&self) -> How {
        let reason = self
            .stopping
            .as_ref()
            .map_or("stopped", |order| order.reason.as_str());
        How::Failed(Failure::new(Class::Interrupted, Stage::Turn, reason))
    }
}

fn age_ms(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// The end of a text, at most so many bytes.
fn tail(text: &str, max: usize) -> String {
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or(text).to_owned()
}
