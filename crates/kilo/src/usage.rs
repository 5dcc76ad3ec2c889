//! Sums up what the steps of a session and its child sessions used, each counted once.
//!
//! Pure. Heads and parts of messages arrive in any order and more than once; it must not estimate
//! what kilo did not report, only count it.

use crate::session_event::Usage;
use crate::wire::{Message, MessageInfo, Part, count};
use std::collections::{HashMap, VecDeque};

/// Steps that may still change. A turn is read with 400 messages at most, so what falls out of
/// these is not told again.
const STEPS_KEPT: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// By the id of the message; each step of the model has one of its own.
    steps: HashMap<String, Step>,
    /// Their ids, oldest first.
    order: VecDeque<String>,
    /// The sum of those that fell out.
    settled: Usage,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Step {
    /// Said by the head only: a prompt's text is a part as well, and never finished.
    is_finished: bool,
    has_output: bool,
    input: u64,
    output: u64,
    cost: f64,
}

impl Meter {
    /// What was used so far.
    pub(crate) fn usage(&self) -> Usage {
        let each = self.steps.values().map(Step::usage);
        each.fold(self.settled, plus)
    }

    /// Takes the head of a model's message over; whether it changed the sum.
    pub(crate) fn head(&mut self, info: &MessageInfo) -> bool {
        let (tokens, cache) = (&info.tokens, &info.tokens.cache);
        self.change(&info.id, |step| Step {
            is_finished: is_finished(info),
            input: count(tokens.input) + count(cache.read) + count(cache.write),
            output: count(tokens.output) + count(tokens.reasoning),
            cost: info.cost.max(0.0),
            ..step
        })
    }

    /// A message has output; whether that changed the sum.
    pub(crate) fn output(&mut self, message: &str) -> bool {
        !message.is_empty()
            && self.change(message, |step| Step {
                has_output: true,
                ..step
            })
    }

    /// Takes a model's message with its parts over; whether it changed the sum.
    pub(crate) fn message(&mut self, message: &Message) -> bool {
        let has_output = message.parts.iter().any(is_output);
        let by_parts = has_output && self.output(&message.info.id);
        self.head(&message.info) || by_parts
    }

    fn change(&mut self, id: &str, with: impl FnOnce(Step) -> Step) -> bool {
        if !self.steps.contains_key(id) {
            self.make_room();
            self.order.push_back(id.to_owned());
        }
        let step = self.steps.entry(id.to_owned()).or_default();
        let before = step.usage();
        *step = with(*step);
        before != step.usage()
    }

    fn make_room(&mut self) {
        if self.order.len() < STEPS_KEPT {
            return;
        }
        let oldest = self.order.pop_front();
        if let Some(step) = oldest.and_then(|id| self.steps.remove(&id)) {
            self.settled = plus(self.settled, step.usage());
        }
    }
}

impl Step {
    fn usage(&self) -> Usage {
        let has_tokens = self.input > 0 || self.output > 0;
        let is_unknown = self.is_finished && self.has_output && !has_tokens;
        Usage {
            input: self.input,
            output: self.output,
            cost: self.cost,
            unreported_steps: u64::from(is_unknown),
        }
    }
}

/// Whether the model has ended this step, well or not.
pub(crate) fn is_finished(info: &MessageInfo) -> bool {
    info.finish.is_some() || info.time.completed.is_some()
}

/// Whether a part is something that the model wrote.
pub(crate) fn is_output(part: &Part) -> bool {
    match part.kind.as_str() {
        "tool" | "patch" | "reasoning" => true,
        "text" => !part.synthetic && !part.text.trim().is_empty(),
        _ => false,
    }
}

fn plus(sum: Usage, one: Usage) -> Usage {
    Usage {
        input: sum.input.saturating_add(one.input),
        output: sum.output.saturating_add(one.output),
        cost: sum.cost + one.cost,
        unreported_steps: sum.unreported_steps + one.unreported_steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn message(id: &str, tokens: &Value, done: Option<u64>, parts: &Value) -> Message {
        serde_json::from_value(json!({
            "info": {"id": id, "role": "assistant", "tokens": tokens, "time": {"completed": done}},
            "parts": parts,
        }))
        .unwrap()
    }

    fn text() -> Value {
        json!([{"type": "step-start"}, {"type": "text", "text": "done"}])
    }

    fn none() -> Value {
        json!({"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}})
    }

    fn unreported(message: &Message) -> u64 {
        let mut meter = Meter::default();
        meter.message(message);
        meter.usage().unreported_steps
    }

    #[test]
    fn a_finished_step_with_output_and_no_tokens_is_unreported() {
        assert_eq!(unreported(&message("m", &none(), Some(1), &text())), 1);
        assert_eq!(unreported(&message("m", &Value::Null, Some(1), &text())), 1);
        for kind in ["tool", "reasoning"] {
            let parts = json!([{ "type": kind }]);
            assert_eq!(unreported(&message("m", &none(), Some(1), &parts)), 1);
        }
        let mut stopped = message("m", &none(), None, &text());
        assert_eq!(unreported(&stopped), 0, "it still writes");
        stopped.info.finish = Some("tool-calls".to_owned());
        assert_eq!(unreported(&stopped), 1);
    }

    #[test]
    fn what_has_tokens_or_no_output_is_not() {
        for tokens in [
            json!({"input": 1}),
            json!({"output": 1}),
            json!({"reasoning": 1}),
            json!({"cache": {"read": 1}}),
        ] {
            assert_eq!(unreported(&message("m", &tokens, Some(1), &text())), 0);
        }
        for parts in [
            json!([]),
            json!([{"type": "step-start"}, {"type": "step-finish"}]),
            json!([{"type": "text", "text": " "}]),
            json!([{"type": "text", "text": "Initializing", "synthetic": true}]),
        ] {
            assert_eq!(unreported(&message("m", &none(), Some(1), &parts)), 0);
        }
    }

    #[test]
    fn each_step_counts_once_in_whatever_order_it_is_told() {
        let step = message("m", &none(), Some(1), &text());
        let mut meter = Meter::default();
        assert!(!meter.output("m"), "whose it is shows later");
        assert!(meter.head(&step.info));
        assert_eq!(meter.usage().unreported_steps, 1);
        assert!(!meter.output("m") && !meter.head(&step.info) && !meter.message(&step));
        assert_eq!(meter.usage().unreported_steps, 1);
        let late = message("m", &json!({"input": 5}), Some(1), &text());
        assert!(meter.message(&late));
        let usage = meter.usage();
        assert_eq!((usage.input, usage.unreported_steps), (5, 0));
    }

    #[test]
    fn a_prompt_is_no_step() {
        let mut meter = Meter::default();
        meter.output("the user's");
        assert!(!meter.output(""));
        assert_eq!(meter.usage(), Usage::default());
    }

    #[test]
    fn memory_is_bounded_and_the_sum_keeps_all() {
        let mut meter = Meter::default();
        let steps = 2 * STEPS_KEPT as u64;
        for n in 0..steps {
            let tokens = json!({"input": n % 2});
            meter.message(&message(&n.to_string(), &tokens, Some(1), &text()));
        }
        assert_eq!(
            (meter.steps.len(), meter.order.len()),
            (STEPS_KEPT, STEPS_KEPT)
        );
        let usage = meter.usage();
        assert_eq!(
            (usage.input, usage.unreported_steps),
            (steps / 2, steps / 2)
        );
    }

    #[test]
    fn no_number_is_too_large() {
        let mut meter = Meter::default();
        for n in 0..STEPS_KEPT {
            let tokens = json!({"input": 1e300, "output": -1.0, "cache": {"read": 1e18}});
            meter.message(&message(&n.to_string(), &tokens, Some(1), &text()));
        }
        assert_eq!(meter.usage().output, 0);
        assert_eq!(meter.usage().input, u64::MAX);
    }
}
