//! Usage that nobody reported, from the stream, from the messages, and from both.
//!
//! Test code only.

use super::{events, messages, replay};
use crate::event::parse_frame;
use crate::judge::TurnReason;
use crate::redact::Redactor;
use crate::session_event::SessionEvent;
use crate::turn::{Turn, Want};

#[test]
fn steps_without_reported_usage_are_counted_from_the_stream_and_from_the_messages() {
    for (name, unreported) in [
        ("ok", 0),
        ("tool-bash", 0),
        ("permission-once", 0),
        ("empty", 0),
        ("e401", 0),
        ("e500", 0),
        ("hang-abort", 0),
        ("no-usage", 1),
        // Cut before the gateway could tell its usage.
        ("malformed", 1),
        ("hang-mid-abort", 1),
        ("tool-sleep-abort", 1),
    ] {
        let (told, ends) = replay(name);
        let last = told.iter().rev().find_map(|event| match event {
            SessionEvent::Usage(usage) => Some(usage.unreported_steps),
            _ => None,
        });
        assert_eq!(last.unwrap_or_default(), unreported, "{name}: stream");
        assert_eq!(ends[0].usage.unreported_steps, unreported, "{name}: end");
        // The messages alone, and once more after the stream.
        let messages = messages(name);
        let id = messages.first().unwrap().info.session_id.clone();
        let mut turn = Turn::new(id, "/w/repo".to_owned(), Redactor::default());
        turn.prompted();
        turn.absorb(&messages);
        for event in events(name) {
            turn.on_event(&event);
        }
        turn.absorb(&messages);
        let usage = turn.finish(TurnReason::Completed, &messages).usage;
        assert_eq!(usage, ends[0].usage, "{name}: both");
    }
}

#[test]
fn a_gateway_that_sends_no_usage_is_told_as_such_for_child_sessions_too() {
    let own = "ses_own";
    let mut turn = Turn::new(own.to_owned(), "/w".to_owned(), Redactor::default());
    turn.prompted();
    let frame = |kind: &str, properties: serde_json::Value| {
        let data = serde_json::json!({"type": kind, "properties": properties}).to_string();
        parse_frame(&data).unwrap().event.unwrap()
    };
    let created = |id: &str| {
        let info = serde_json::json!({"id": id, "parentID": own, "directory": "/w"});
        frame(
            "session.created",
            serde_json::json!({"sessionID": id, "info": info}),
        )
    };
    let step = |session: &str, message: &str, done: bool| {
        let time = serde_json::json!({"created": 1, "completed": done.then_some(2)});
        let tokens = serde_json::json!({"input": 0, "output": 0, "reasoning": 0});
        let info = serde_json::json!({"id": message, "sessionID": session, "role": "assistant",
            "time": time, "tokens": tokens, "cost": 0});
        frame(
            "message.updated",
            serde_json::json!({"sessionID": session, "info": info}),
        )
    };
    let delta = |session: &str, message: &str| {
        let properties = serde_json::json!({"sessionID": session, "messageID": message,
            "partID": "prt_1", "field": "text", "delta": "x"});
        frame("message.part.delta", properties)
    };
    let mut told = Vec::new();
    for event in [
        created("ses_child"),
        step(own, "msg_1", false),
        delta(own, "msg_1"),
        step("ses_child", "msg_2", false),
        delta("ses_child", "msg_2"),
        delta("ses_strange", "msg_3"),
        step("ses_strange", "msg_3", true),
        step("ses_child", "msg_2", true),
        step(own, "msg_1", true),
        step(own, "msg_1", true),
    ] {
        told.extend(turn.on_event(&event));
    }
    let counts: Vec<u64> = told
        .iter()
        .filter_map(|want| match want {
            Want::Tell(SessionEvent::Usage(usage)) => Some(usage.unreported_steps),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [1, 2]);
}
