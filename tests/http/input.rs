//! Bodies that are wrong in every way that a client finds.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::house::{House, send};

const PATH: &str = "/api/rigs/rig-1/beads";

#[tokio::test]
async fn every_mistake_is_named_at_once() {
    let house = House::new().await;
    let answer = house
        .post(
            PATH,
            &json!({"type": "nope", "title": "  ", "priority": 3, "labels": "a", "metadata": []}),
        )
        .await;
    assert_eq!(answer.error(400), "Invalid request body");
    let mut issues = answer.issues();
    issues.sort();
    assert_eq!(issues, ["labels", "metadata", "priority", "title", "type"]);
    let nothing = house.post(PATH, &json!({})).await;
    nothing.error(400);
    assert_eq!(nothing.issues(), ["type", "title"]);
}

#[tokio::test]
async fn malformed_bodies_are_400_on_every_route_that_needs_one() {
    let house = House::new().await;
    let deep = format!("{{\"title\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let stored_too_deep = format!(
        "{{\"type\":\"issue\",\"title\":\"x\",\"metadata\":{{\"a\":{}1{}}}}}",
        "[".repeat(100),
        "]".repeat(100)
    );
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "\"x\"",
        "1",
        "{\"title\":}",
        "\u{feff}{}",
        &deep,
        &stored_too_deep,
    ];
    for (method, path) in [
        ("POST", PATH),
        ("POST", "/api/rigs/rig-1/sling"),
        ("POST", "/api/rigs/rig-1/agents"),
        ("POST", "/api/rigs/rig-1/agents/a/hook"),
        ("POST", "/api/rigs/rig-1/agents/a/done"),
        ("POST", "/api/rigs/rig-1/agents/a/completed"),
        ("POST", "/api/rigs/rig-1/escalations"),
        ("PATCH", "/api/rigs/rig-1/beads/b/status"),
        ("POST", "/api/rigs/rig-1/beads/b/close"),
        ("PUT", "/api/rigs/rig-1/policy"),
        ("PUT", "/api/rigs/rig-1/budget"),
        ("PUT", "/api/towns/t/policy"),
        ("PUT", "/api/towns/t/budget"),
        ("POST", "/api/users/u/towns"),
        ("POST", "/api/users/u/rigs"),
        ("PATCH", "/api/users/u/rigs/r"),
    ] {
        for body in bodies {
            let request = house.admin(method, path).body(body.to_owned());
            let answer = send(request).await;
            let shown = &body[..body.len().min(40)];
            assert_eq!(
                answer.error(400),
                "Invalid request body",
                "{method} {path} {shown}"
            );
            assert!(!answer.issues().is_empty());
        }
    }
    let not_utf8 = house.admin("POST", PATH).body(vec![b'{', 0xff, b'}']);
    send(not_utf8).await.error(400);
}

#[tokio::test]
async fn sizes_are_bounded() {
    let house = House::new().await;
    let titled = |title: String| json!({"type": "issue", "title": title});
    house.post(PATH, &titled("ä".repeat(1_000))).await.data(201);
    house
        .post(PATH, &titled("ä".repeat(1_001)))
        .await
        .error(400);
    let bodied = |len: usize| json!({"type": "issue", "title": "x", "body": "x".repeat(len)});
    house.post(PATH, &bodied(256 * 1024)).await.data(201);
    assert_eq!(
        house.post(PATH, &bodied(256 * 1024 + 1)).await.issues(),
        ["body"]
    );
    let large = house.admin("POST", PATH).body("x".repeat(1024 * 1024 + 1));
    let answer = send(large).await;
    answer.error(413);
    assert_eq!(answer.code(), "too_large");
}

#[tokio::test]
async fn agents_are_validated() {
    let house = House::new().await;
    let path = "/api/rigs/rig-1/agents";
    let body =
        |name: &str, identity: &str| json!({"role": "polecat", "name": name, "identity": identity});
    house
        .post(path, &body(&"n".repeat(128), &"i".repeat(128)))
        .await
        .data(201);
    let long = "x".repeat(129);
    for (name, identity, issue) in [
        ("", "i", "name"),
        ("n", "", "identity"),
        (&*long, "i", "name"),
        ("n", &*long, "identity"),
    ] {
        let answer = house.post(path, &body(name, identity)).await;
        answer.error(400);
        assert_eq!(answer.issues(), [issue]);
    }
    house
        .post(path, &json!({"role": "nope", "name": "n", "identity": "j"}))
        .await
        .error(400);
}

/// Any JSON, shallow enough to print.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        let names = prop_oneof![
            Just("title".to_owned()),
            Just("type".to_owned()),
            Just("metadata".to_owned()),
            Just("labels".to_owned()),
            Just("body".to_owned()),
            Just("status".to_owned()),
            Just("agent_id".to_owned()),
            ".{0,8}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

#[test]
fn no_body_gets_an_answer_outside_of_the_contract() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    let paths = [
        ("POST", PATH),
        ("POST", "/api/rigs/rig-1/agents"),
        ("PUT", "/api/rigs/rig-1/policy"),
        ("PUT", "/api/rigs/rig-1/budget"),
        ("PUT", "/api/towns/t/policy"),
        ("PUT", "/api/towns/t/budget"),
        ("POST", "/api/users/u/rigs"),
        ("POST", "/api/rigs/rig-1/agents/a/heartbeat"),
        ("PATCH", "/api/rigs/rig-1/beads/b/status"),
    ];
    let config = ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(body in any_json(), which in 0..paths.len())| {
        let (method, path) = paths[which];
        let answer = runtime.block_on(send(house.admin(method, path).json(&body)));
        prop_assert!(matches!(answer.status, 200 | 201 | 400 | 404), "{} {}", path, answer.text);
        let success = matches!(answer.status, 200 | 201);
        prop_assert_eq!(&answer.body["success"], &json!(success));
    });
    runtime.block_on(async { send(house.bare("GET", "/health")).await });
}
