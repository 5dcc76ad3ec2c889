//! The scripted gateway as a server: tokens, the list of models, faults at run time, the log.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gateway_support;

use gateway_support::{Chat, SOON, TOKEN, start, start_with};
use secrecy::SecretString;
use serde_json::Value;
use wellhead::gateway::{Behaviour, Error, Gateway, GatewaySettings, Script};

async fn get(gateway: &Gateway, path: &str, token: Option<&str>) -> (u16, Value) {
    let mut request = reqwest::Client::new().get(format!("{}{path}", gateway.url()));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn the_models_are_public_but_not_for_a_wrong_token() {
    let mut settings = GatewaySettings::new(SecretString::from(TOKEN));
    settings.models = vec!["mine/own".into()];
    let gateway = Gateway::start(Script::default(), settings).await.unwrap();
    for token in [None, Some(TOKEN)] {
        let (status, body) = get(&gateway, "/api/openrouter/models", token).await;
        assert_eq!(status, 200);
        let listed: Vec<&str> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|m| m["id"].as_str())
            .collect();
        for name in Behaviour::NAMES {
            assert!(
                listed.contains(&format!("scripted/{name}").as_str()),
                "{name}"
            );
        }
        assert!(listed.contains(&"mine/own"));
    }
    let (status, body) = get(&gateway, "/api/openrouter/models", Some("wrong")).await;
    assert_eq!((status, &body["error"]["code"]), (401, &401.into()));
    assert_eq!(gateway.counters().models, 3);
}

#[tokio::test]
async fn the_default_model_is_one_of_the_list() {
    let gateway = start().await;
    let (_, defaults) = get(&gateway, "/api/defaults", None).await;
    let (_, models) = get(&gateway, "/api/openrouter/models", None).await;
    for key in ["defaultModel", "defaultFreeModel"] {
        let data = models["data"].as_array().unwrap();
        assert!(
            data.iter().any(|model| model["id"] == defaults[key]),
            "{defaults}"
        );
    }
    assert_eq!(get(&gateway, "/api/other", None).await.0, 404);
}

#[tokio::test]
async fn a_chat_needs_the_token_of_the_moment() {
    let gateway = start().await;
    let mut chat = Chat::new(&gateway, "scripted/text").user("hi");
    for token in [None, Some("wrong".to_owned()), Some("anonymous".to_owned())] {
        chat.token = token;
        let (status, body) = chat.refusal().await;
        assert_eq!((status, &body["error"]["code"]), (401, &401.into()));
    }
    assert!(gateway.requests().iter().all(|request| !request.authorized));

    gateway.set_token(SecretString::from("fresh"));
    chat.token = Some(TOKEN.into());
    assert_eq!(chat.refusal().await.0, 401);
    chat.token = Some("fresh".into());
    assert!(chat.answer().await.done);
    let counters = gateway.counters();
    assert_eq!((counters.requests, counters.unauthorized), (5, 4));
}

#[tokio::test]
async fn a_title_needs_the_token_too() {
    let gateway = start().await;
    let mut chat = Chat::new(&gateway, "scripted/text").user("hi");
    chat.mode = "title".into();
    chat.token = None;
    assert_eq!(chat.refusal().await.0, 401);
}

#[tokio::test]
async fn down_breaks_and_refuses_and_up_answers_on_the_same_port() {
    let gateway = start().await;
    let url = gateway.url();
    let hanging = Chat::new(&gateway, "scripted/hang").user("hi");
    let hanging = tokio::spawn(async move { hanging.send().await.map(|_| ()) });
    gateway
        .wait_until(|counters| counters.in_flight == 1, SOON)
        .await
        .unwrap();

    gateway.set_down(true).await.unwrap();
    gateway.set_down(true).await.unwrap();
    assert!(
        tokio::time::timeout(SOON, hanging)
            .await
            .unwrap()
            .unwrap()
            .is_err()
    );
    let chat = Chat::new(&gateway, "scripted/text").user("hi");
    assert!(chat.send().await.unwrap_err().is_connect());
    assert_eq!(gateway.counters().in_flight, 0);

    for _ in 0..3 {
        gateway.set_down(false).await.unwrap();
        assert!(chat.answer().await.done);
        gateway.set_down(true).await.unwrap();
    }
    gateway.set_down(false).await.unwrap();
    assert_eq!(gateway.url(), url);
    assert_eq!(gateway.counters().requests, 4);
}

#[tokio::test]
async fn stop_is_the_end() {
    let gateway = start().await;
    gateway.stop().await;
    gateway.stop().await;
    let chat = Chat::new(&gateway, "scripted/text").user("hi");
    assert!(chat.send().await.unwrap_err().is_connect());
    assert!(matches!(gateway.set_down(false).await, Err(Error::Stopped)));
}

#[tokio::test]
async fn a_dropped_gateway_frees_its_port() {
    let gateway = start().await;
    let chat = Chat::new(&gateway, "scripted/text").user("hi");
    assert!(chat.answer().await.done);
    drop(gateway);
    let gone = async {
        while chat.send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let gateway = start().await;
    let mut settings = GatewaySettings::new(SecretString::from(TOKEN));
    settings.port = gateway.url().rsplit(':').next().unwrap().parse().unwrap();
    let error = Gateway::start(Script::default(), settings)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("another port"), "{error}");
}

#[tokio::test]
async fn the_log_has_a_line_for_each_request_and_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("requests.jsonl");
    let mut settings = GatewaySettings::new(SecretString::from(TOKEN));
    settings.log_file = Some(file.clone());
    assert!(!format!("{settings:?}").contains(TOKEN));
    let gateway = Gateway::start(Script::default(), settings).await.unwrap();
    let mut chat = Chat::new(&gateway, "scripted/text").user("hi");
    chat.answer().await;
    chat.token = Some("wrong".into());
    chat.refusal().await;
    assert!(!format!("{gateway:?}").contains(TOKEN));
    gateway.stop().await;

    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(TOKEN) && !text.contains("wrong"), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let as_seen: Vec<Value> = gateway
        .requests()
        .iter()
        .map(|r| serde_json::to_value(r).unwrap())
        .collect();
    assert_eq!(lines, as_seen);
    assert_eq!(lines[0]["task_id"], "ses_1");
    assert_eq!(lines[0]["behaviour"], "text");
    assert_eq!(
        (&lines[0]["authorized"], &lines[1]["authorized"]),
        (&true.into(), &false.into())
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_named() {
    let mut settings = GatewaySettings::new(SecretString::from(TOKEN));
    settings.log_file = Some("/nonexistent/requests.jsonl".into());
    let error = Gateway::start(Script::default(), settings)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent/requests.jsonl"), "{error}");
}

#[tokio::test]
async fn many_sessions_are_answered_at_once() {
    let gateway = start_with(Script::new(|_| Behaviour::Slow { seconds: 1 })).await;
    let chat = Chat::new(&gateway, "any/model").user("hi");
    let chats = (0..40).map(|_| {
        let chat = chat.clone();
        tokio::spawn(async move { chat.answer().await.done })
    });
    let chats: Vec<_> = chats.collect();
    gateway
        .wait_until(|counters| counters.in_flight == 40, SOON)
        .await
        .unwrap();
    for chat in chats {
        assert!(chat.await.unwrap());
    }
}
