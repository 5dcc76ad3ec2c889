//! Every behaviour of the scripted gateway as it looks on the wire.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gateway_support;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use gateway_support::{Answer, Chat, SOON, TOKEN, start, start_with};
use wellhead::gateway::{Behaviour, Script};

fn sh(directory: &Path, command: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn text_comes_in_chunks_with_its_price_and_an_end() {
    let gateway = start().await;
    let answer = Chat::new(&gateway, "scripted/text")
        .user("hi")
        .answer()
        .await;
    assert!(answer.text().len() > 10 && answer.done, "{answer:?}");
    assert_eq!(answer.finish(), ["stop"]);
    let usage = answer.usage();
    assert!(usage["completion_tokens"].as_u64() > Some(0), "{usage}");
    assert!(usage["cost"].as_f64() > Some(0.0), "{usage}");
    assert!(
        answer
            .chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk")
    );
}

#[tokio::test]
async fn the_commit_command_commits_a_note_of_the_task_and_the_result_ends_the_turn() {
    let gateway = start().await;
    let chat = Chat::new(&gateway, "scripted/commit").user("Add the user's greeting; then rest");
    let asked = chat.answer().await;
    assert_eq!(asked.finish(), ["tool_calls"]);

    let repo = tempfile::tempdir().unwrap();
    sh(repo.path(), "git init -q -b main");
    for commits in ["1\n", "2\n"] {
        sh(repo.path(), &asked.command());
        assert_eq!(sh(repo.path(), "git rev-list --count HEAD"), commits);
    }
    assert_eq!(sh(repo.path(), "git status --porcelain"), "");
    assert!(sh(repo.path(), "git show --stat").contains("notes/add-the-users-greeting"));

    let result = chat.says("assistant", "").says("tool", "ok").answer().await;
    assert!(!result.text().is_empty());
    assert_eq!(result.finish(), ["stop"]);
}

#[tokio::test]
async fn different_tasks_write_different_files() {
    let gateway = start().await;
    let chat = Chat::new(&gateway, "scripted/write");
    let one = chat.clone().user("one").answer().await.command();
    let other = chat.user("other").answer().await.command();
    assert_ne!(one, other);
    assert!(!one.contains("git"), "{one}");

    let directory = tempfile::tempdir().unwrap();
    sh(directory.path(), &one);
    assert_eq!(sh(directory.path(), "cat notes/*"), "one\n");
}

#[tokio::test]
async fn an_empty_answer_ends_well_and_says_nothing() {
    let gateway = start().await;
    let answer = Chat::new(&gateway, "scripted/empty")
        .user("hi")
        .answer()
        .await;
    assert_eq!(
        (answer.text().as_str(), answer.finish()),
        ("", vec!["stop"])
    );
    assert_eq!(answer.usage()["completion_tokens"], 0);
    assert!(answer.done);
}

#[tokio::test]
async fn a_malformed_stream_has_a_chunk_that_is_not_json() {
    let gateway = start().await;
    let response = Chat::new(&gateway, "scripted/malformed")
        .user("hi")
        .send()
        .await
        .unwrap();
    let text = response.text().await.unwrap();
    let last = text.trim_end().rsplit("data: ").next().unwrap();
    assert!(
        serde_json::from_str::<serde_json::Value>(last).is_err(),
        "{text}"
    );
    assert_ne!(last, "[DONE]");
}

#[tokio::test]
async fn a_cut_stream_breaks_after_its_first_chunk() {
    let gateway = start().await;
    let mut response = Chat::new(&gateway, "scripted/cut")
        .user("hi")
        .send()
        .await
        .unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    assert!(
        !Answer::read(std::str::from_utf8(&first).unwrap())
            .text()
            .is_empty()
    );
    assert!(response.chunk().await.is_err());
}

#[tokio::test]
async fn a_hang_sends_nothing_and_ends_with_its_client() {
    let gateway = start().await;
    let chat = Chat::new(&gateway, "scripted/hang").user("hi");
    let client = tokio::spawn(async move { chat.send().await.map(|_| ()) });
    gateway
        .wait_until(|counters| counters.in_flight == 1, SOON)
        .await
        .unwrap();
    assert!(!client.is_finished());
    client.abort();
    gateway
        .wait_until(|counters| counters.in_flight == 0, SOON)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hang_in_the_middle_has_begun_and_ends_with_its_client() {
    let gateway = start().await;
    let mut response = Chat::new(&gateway, "scripted/hang-mid")
        .user("hi")
        .send()
        .await
        .unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    assert!(
        !Answer::read(std::str::from_utf8(&first).unwrap())
            .text()
            .is_empty()
    );
    assert_eq!(gateway.counters().in_flight, 1);
    drop(response);
    gateway
        .wait_until(|counters| counters.in_flight == 0, SOON)
        .await
        .unwrap();
}

#[tokio::test]
async fn errors_have_their_status_twice() {
    let gateway = start().await;
    for status in [400, 401, 402, 403, 429, 500, 502] {
        let chat = Chat::new(&gateway, &format!("scripted/e{status}")).user("hi");
        let response = chat.send().await.unwrap();
        assert!(!response.headers().contains_key("retry-after"));
        let (seen, body) = chat.refusal().await;
        assert_eq!(seen, status);
        assert_eq!(body["error"]["code"], status);
        assert!(body["error"]["message"].is_string());
        assert_eq!(body["error"]["buyCreditsUrl"].is_string(), status == 402);
    }
}

#[tokio::test]
async fn a_rate_limit_can_say_when_to_come_back() {
    let gateway = start().await;
    let response = Chat::new(&gateway, "scripted/e429ra")
        .user("hi")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
}

#[tokio::test]
async fn a_slow_answer_takes_its_time() {
    let gateway = start().await;
    let begin = Instant::now();
    let chat = Chat::new(&gateway, "scripted/auto").user("hi [[script: slow 1]]");
    let answer = chat.answer().await;
    assert!(
        begin.elapsed().as_millis() >= 1_000,
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(answer.text(), "word 1 word 2 word 3 word 4 word 5 ");
    assert_eq!(answer.finish(), ["stop"]);
}

#[tokio::test]
async fn a_sleeping_tool_sleeps() {
    let gateway = start().await;
    let answer = Chat::new(&gateway, "scripted/sleep-tool")
        .user("hi")
        .answer()
        .await;
    assert_eq!(answer.command(), "sleep 300");
}

#[tokio::test]
async fn a_nudge_turns_words_into_work() {
    let gateway = start().await;
    let chat = Chat::new(&gateway, "scripted/nudged-commit").user("do it");
    let first = chat.answer().await;
    assert_eq!(first.finish(), ["stop"]);
    let nudged = chat
        .says("assistant", &first.text())
        .user("you did nothing")
        .answer()
        .await;
    let command = nudged.command();
    assert!(
        command.contains("git") && command.contains("notes/do-it-"),
        "{command}"
    );
}

#[tokio::test]
async fn a_question_is_asked_only_where_it_can_be() {
    let gateway = start().await;
    let mut chat = Chat::new(&gateway, "scripted/question").user("hi");
    let (tool, arguments) = chat.answer().await.tool_call();
    assert_eq!(tool, "question");
    assert!(arguments["questions"][0]["options"][1]["label"].is_string());

    chat.body["tools"] = serde_json::json!([]);
    let answer = chat.answer().await;
    assert_eq!(answer.finish(), ["stop"]);
    assert!(answer.text().contains("question"));
}

#[tokio::test]
async fn a_title_is_given_whatever_the_script_says() {
    let gateway = start_with(Script::new(|_| Behaviour::Hang)).await;
    let mut chat = Chat::new(&gateway, "scripted/hang").user("hi");
    chat.mode = "title".into();
    assert!(!chat.answer().await.text().is_empty());
    assert_eq!(gateway.requests()[0].behaviour, "title");
}

#[tokio::test]
async fn a_script_in_code_sees_the_request() {
    let script = Script::new(|request| match request.task_id.as_str() {
        "ses_1" if request.offers("bash") => Behaviour::Error {
            status: 503,
            retry_after_s: None,
        },
        _ => Behaviour::Text,
    });
    let gateway = start_with(script).await;
    let (status, body) = Chat::new(&gateway, "any/model").user("hi").refusal().await;
    assert_eq!((status, &body["error"]["code"]), (503, &503.into()));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_the_way_out() {
    let gateway = start().await;
    let (status, body) = Chat::new(&gateway, "scripted/comit")
        .user("hi")
        .refusal()
        .await;
    assert_eq!(status, 400);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("nudged-commit"),
        "{body}"
    );

    let mut chat = Chat::new(&gateway, "scripted/text").user("hi");
    chat.body["stream"] = false.into();
    assert_eq!(chat.refusal().await.0, 400);
    chat.body = serde_json::json!({"messages": "none"});
    assert_eq!(chat.refusal().await.0, 400);
    assert_eq!(chat.token.as_deref(), Some(TOKEN));
}
