//! Counts how often in a row an agent starts one and the same tool call.
//!
//! Pure, of bounded memory. It must not know what to do about a loop: that is for whoever feeds it.

use crate::session_event::{ToolState, ToolStatus};
use crate::tools::Fingerprint;
use std::collections::VecDeque;

/// Calls that may be told of again. Those that run at the same time are far fewer.
const CALLS_KEPT: usize = 512;

/// Fed with each [`ToolState`] of a session in its order, child sessions included.
///
/// ```
/// # use kilo::{Repeats, ToolState};
/// # fn looks(states: &[ToolState]) -> bool {
/// let mut repeats = Repeats::default();
/// states.iter().any(|state| repeats.note(state) >= 5)
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    last: Option<Fingerprint>,
    in_a_row: u32,
    calls: VecDeque<Call>,
}

#[derive(Debug, Clone)]
struct Call {
    id: String,
    is_over: bool,
}

impl Repeats {
    /// Takes a state over and answers as [`Repeats::in_a_row`].
    pub fn note(&mut self, tool: &ToolState) -> u32 {
        let known = self.calls.iter().position(|call| call.id == tool.call_id);
        if let Some(input) = tool.input {
            match known.and_then(|at| self.calls.get_mut(at)) {
                Some(call) => call.is_over |= is_over(tool),
                None => self.start(tool, input),
            }
        } else if tool.state == ToolStatus::Pending
            && let Some(at) = known
            && self.calls.get(at).is_some_and(|call| call.is_over)
        {
            // Some gateways number the calls of each answer anew: this is another call.
            self.calls.remove(at);
        }
        self.in_a_row
    }

    /// How many identical calls were started in a row, up to the latest one; 0 before the first.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    fn start(&mut self, tool: &ToolState, input: Fingerprint) {
        if self.calls.len() == CALLS_KEPT {
            self.calls.pop_front();
        }
        self.calls.push_back(Call {
            id: tool.call_id.clone(),
            is_over: is_over(tool),
        });
        self.in_a_row = if self.last == Some(input) {
            self.in_a_row.saturating_add(1)
        } else {
            1
        };
        self.last = Some(input);
    }
}

fn is_over(tool: &ToolState) -> bool {
    matches!(tool.state, ToolStatus::Completed | ToolStatus::Error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ToolStatus::{Completed, Error, Pending, Running};

    fn state(call_id: &str, state: ToolStatus, command: &str) -> ToolState {
        let input = crate::tools::digest(&serde_json::json!({ "command": command }));
        ToolState {
            name: "bash".to_owned(),
            call_id: call_id.to_owned(),
            state,
            input: (state != Pending).then(|| Fingerprint::new("bash", input)),
        }
    }

    fn whole(repeats: &mut Repeats, call_id: &str, command: &str) -> u32 {
        for status in [Pending, Running, Running] {
            repeats.note(&state(call_id, status, command));
        }
        repeats.note(&state(call_id, Completed, command))
    }

    #[test]
    fn identical_calls_are_counted_once_each() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.in_a_row(), 0);
        assert_eq!(repeats.note(&state("a", Pending, "ls")), 0);
        let counts = ["a", "b", "c"].map(|id| whole(&mut repeats, id, "ls"));
        assert_eq!(counts, [1, 2, 3]);
        assert_eq!(repeats.note(&state("d", Error, "ls")), 4, "an end alone");
    }

    #[test]
    fn another_call_in_between_starts_anew() {
        let mut repeats = Repeats::default();
        whole(&mut repeats, "a", "ls");
        whole(&mut repeats, "b", "ls");
        assert_eq!(whole(&mut repeats, "c", "cat"), 1);
        assert_eq!(whole(&mut repeats, "d", "ls"), 1);
    }

    #[test]
    fn a_pending_call_is_no_call_yet() {
        let mut repeats = Repeats::default();
        whole(&mut repeats, "a", "ls");
        repeats.note(&state("b", Pending, "cat"));
        assert_eq!(whole(&mut repeats, "c", "ls"), 2);
    }

    #[test]
    fn calls_at_the_same_time_count_as_they_start() {
        let mut repeats = Repeats::default();
        let running = ["a", "b", "c"].map(|id| repeats.note(&state(id, Running, "ls")));
        assert_eq!(running, [1, 2, 3]);
        let over = ["c", "a", "b"].map(|id| repeats.note(&state(id, Completed, "ls")));
        assert_eq!(over, [3, 3, 3]);
        repeats.note(&state("long", Running, "make"));
        repeats.note(&state("d", Running, "ls"));
        repeats.note(&state("e", Running, "ls"));
        assert_eq!(
            repeats.note(&state("long", Completed, "make")),
            2,
            "no new call"
        );
    }

    #[test]
    fn a_number_that_is_used_again_is_another_call() {
        let mut repeats = Repeats::default();
        let counts = ["0", "0", "0"].map(|id| whole(&mut repeats, id, "ls"));
        assert_eq!(counts, [1, 2, 3]);
        repeats.note(&state("1", Running, "ls"));
        assert_eq!(repeats.note(&state("1", Pending, "ls")), 4);
        assert_eq!(repeats.note(&state("1", Running, "ls")), 4, "a late double");
    }

    #[test]
    fn memory_is_bounded() {
        let mut repeats = Repeats::default();
        for n in 0..10 * CALLS_KEPT {
            repeats.note(&state(&n.to_string(), Running, "ls"));
        }
        assert_eq!(repeats.calls.len(), CALLS_KEPT);
        assert_eq!(repeats.in_a_row() as usize, 10 * CALLS_KEPT);
    }
}
