//! A tool call as a session tells it, and what makes two calls the same.
//!
//! Pure. It must not know when a repetition is one too many; `repeats` counts, and the caller
//! decides.

use crate::session_event::{ToolState, ToolStatus};
use crate::wire::Part;
use serde_json::Value;

/// Stands for a tool's name and its whole input. Stable over processes and machines, and over the
/// order in which a model writes the keys of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of a call of `tool` with this digest of its input, see [`digest`].
    pub(crate) fn new(tool: &str, input: u64) -> Self {
        let mut hash = Fnv::new();
        hash.text(tool);
        hash.bytes(&input.to_le_bytes());
        Self(hash.0)
    }
}

/// A digest of a JSON value. Inputs hold whole files, so this is all that is kept of them.
pub(crate) fn digest(value: &Value) -> u64 {
    let mut hash = Fnv::new();
    hash.value(value);
    hash.0
}

/// The state that a part tells of its tool call; `None` for parts of other kinds.
pub(crate) fn tool_state(part: &Part) -> Option<ToolState> {
    if part.kind != "tool" {
        return None;
    }
    let found = part.state.as_ref();
    let state = match found.map_or("", |state| state.status.as_str()) {
        "running" => ToolStatus::Running,
        "completed" => ToolStatus::Completed,
        "error" => ToolStatus::Error,
        _ => ToolStatus::Pending,
    };
    let name = part.tool.clone().unwrap_or_default();
    // A pending call shows `{}`, whatever the model is about to write.
    let input = match state {
        ToolStatus::Pending => None,
        ToolStatus::Running | ToolStatus::Completed | ToolStatus::Error => found
            .and_then(|state| state.input)
            .map(|input| Fingerprint::new(&name, input)),
    };
    Some(ToolState {
        name,
        call_id: part.call_id.clone().unwrap_or_default(),
        state,
        input,
    })
}

/// FNV-1a. The standard library's hasher promises nothing from one release to the next.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// With its length, so that `ab`, `c` differs from `a`, `bc`.
    fn text(&mut self, text: &str) {
        self.len(text.len());
        self.bytes(text.as_bytes());
    }

    fn len(&mut self, len: usize) {
        self.bytes(&u64::try_from(len).unwrap_or(u64::MAX).to_le_bytes());
    }

    /// Recursion ends: the parser refuses what is nested deeper than 128.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(b"n"),
            Value::Bool(true) => self.bytes(b"t"),
            Value::Bool(false) => self.bytes(b"f"),
            Value::Number(number) => {
                self.bytes(b"#");
                self.text(&number.to_string());
            }
            Value::String(text) => {
                self.bytes(b"\"");
                self.text(text);
            }
            Value::Array(all) => {
                self.bytes(b"[");
                self.len(all.len());
                for one in all {
                    self.value(one);
                }
            }
            Value::Object(fields) => {
                self.bytes(b"{");
                self.len(fields.len());
                let mut sorted: Vec<_> = fields.iter().collect();
                // Sorted already, unless some crate switches on that order is kept.
                sorted.sort_unstable_by_key(|(name, _)| name.as_str());
                for (name, field) in sorted {
                    self.text(name);
                    self.value(field);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(part: Value) -> Option<ToolState> {
        tool_state(&serde_json::from_value(part).unwrap())
    }

    fn call(status: &str, tool: &str, input: &str) -> Option<Fingerprint> {
        let text = format!(
            r#"{{"type":"tool","callID":"c","tool":"{tool}","state":{{"status":"{status}","input":{input}}}}}"#
        );
        told(serde_json::from_str(&text).unwrap()).unwrap().input
    }

    #[test]
    fn the_same_call_has_the_same_fingerprint_in_each_state_and_key_order() {
        let one = call(
            "running",
            "bash",
            r#"{"command":"ls","more":{"a":1,"b":[2]}}"#,
        );
        assert!(one.is_some());
        for status in ["completed", "error"] {
            let other = call(status, "bash", r#"{"more":{"b":[2],"a":1},"command":"ls"}"#);
            assert_eq!(other, one, "{status}");
        }
    }

    #[test]
    fn another_tool_or_input_has_another_fingerprint() {
        let all = [
            call("running", "bash", r#"{"command":"ls"}"#),
            call("running", "read", r#"{"command":"ls"}"#),
            call("running", "bash", r#"{"command":"ls "}"#),
            call("running", "bash", r#"{"command":["ls"]}"#),
            call("running", "bash", r#"{"comman":"dls"}"#),
            call("running", "bash", r#"{"command":"ls","a":null}"#),
            call("running", "bash", r#"{"a":1}"#),
            call("running", "bash", r#"{"a":"1"}"#),
            call("running", "bash", "{}"),
            call("running", "bash", "[]"),
        ];
        let different: std::collections::HashSet<_> = all.iter().flatten().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn a_fingerprint_is_the_same_in_another_life_of_the_process() {
        assert_eq!(digest(&json!({"command": "ls"})), 9_433_032_909_513_581_238);
    }

    #[test]
    fn there_is_none_before_the_input_is_complete() {
        assert_eq!(call("pending", "bash", "{}"), None);
        assert_eq!(call("", "bash", r#"{"command":"ls"}"#), None);
        assert_eq!(call("running", "bash", "null"), None);
        let bare = json!({"type": "tool", "tool": "bash", "state": {"status": "running"}});
        assert_eq!(told(bare).unwrap().input, None);
        assert_eq!(
            told(json!({"type": "tool", "state": null})).unwrap().input,
            None
        );
        assert_eq!(told(json!({"type": "text", "text": "x"})), None);
    }
}
