//! Who may call what, from where: the table walked, the fixed sentences, the order of the checks.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use wellhead::{Access, RouteInfo, routes};

use crate::house::{House, jwt, jwt_of, send};

/// A concrete path of a route.
fn path_of(route: &RouteInfo) -> String {
    route
        .path
        .replace("{rig}", "rig-1")
        .replace("{agent}", "agent-1")
        .replace("{bead}", "bead-1")
        .replace("{review}", "review-1")
        .replace("{escalation}", "bead-1")
        .replace("{user}", "user-1")
        .replace("{town}", "town-1")
}

fn changes(route: &RouteInfo) -> bool {
    route.method != "GET"
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn without_a_credential_only_the_open_routes_answer() {
    let house = House::new().await;
    let open: Vec<_> = routes()
        .into_iter()
        .filter(|r| r.access == Access::Open)
        .map(|r| r.path)
        .collect();
    let expected = [
        "/",
        "/assets/app.js",
        "/assets/app.css",
        "/health",
        "/livez",
        "/readyz",
        "/api/session",
    ];
    assert_eq!(
        open, expected,
        "an open route is a decision: change this list on purpose"
    );
    for route in routes() {
        let path = path_of(&route);
        let answer = send(house.bare(route.method, &path)).await;
        if route.access == Access::Open && route.method == "GET" {
            assert_eq!(answer.status, 200, "{path}");
        } else {
            assert_eq!(answer.error(401), "Authentication required", "{path}");
        }
    }
}

#[tokio::test]
async fn a_wrong_credential_is_none() {
    let house = House::new().await;
    let path = "/api/rigs/rig-1/beads";
    let short = &house.admin[..house.admin.len() - 1];
    let forged = jwt("agent-1", "rig-1").replace('.', "A.");
    for token in ["", "x", short, &forged, &format!("{}x", house.admin)] {
        let answer = send(house.with_token(token, "GET", path)).await;
        assert_eq!(answer.error(401), "Authentication required", "{token}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    for header in [
        "Basic eDp5",
        &house.admin,
        "bearer",
        &format!("Token {}", house.admin),
    ] {
        let request = house.bare("GET", path).header("authorization", header);
        assert_eq!(status(request).await, 401, "{header}");
    }
    let lower = house
        .bare("GET", path)
        .header("authorization", format!("bearer {}", house.admin));
    assert_eq!(
        status(lower).await,
        200,
        "the scheme's case does not matter"
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_use_the_envelope() {
    let house = House::new().await;
    for path in [
        "/nope",
        "/api",
        "/api/rigs/rig-1/nope",
        "/api/rigs/rig-1/beads/",
        "/API/snapshot",
    ] {
        assert_eq!(house.get(path).await.error(404), "Not found", "{path}");
        assert_eq!(
            send(house.bare("GET", path)).await.error(401),
            "Authentication required"
        );
    }
    let answer = send(house.admin("PUT", "/api/rigs/rig-1/beads")).await;
    answer.error(405);
    assert_eq!(answer.headers["allow"], "POST, GET");
}

#[tokio::test]
async fn the_viewer_reads_and_never_changes() {
    let house = House::new().await;
    for route in routes()
        .into_iter()
        .filter(|route| route.access != Access::Open)
    {
        let path = path_of(&route);
        let answer = send(house.with_token(&house.viewer, route.method, &path)).await;
        let may = matches!(
            route.access,
            Access::Read | Access::RigRead | Access::AgentRead
        );
        assert_eq!(
            may,
            !changes(&route),
            "every read is the viewer's, no write is: {path}"
        );
        if may {
            assert!(
                matches!(answer.status, 200 | 404),
                "{path}: {}",
                answer.text
            );
        } else {
            assert_eq!(
                answer.error(403),
                "The viewer token may only read",
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn an_agent_stays_in_its_rig_its_name_and_its_routes() {
    let house = House::new().await;
    for route in routes()
        .into_iter()
        .filter(|route| route.access != Access::Open)
    {
        let path = path_of(&route);
        let answer = send(house.with_token(&jwt("agent-1", "rig-1"), route.method, &path)).await;
        if matches!(route.access, Access::Read | Access::Admin) {
            assert_eq!(
                answer.error(403),
                "An agent's token may not call this route",
                "{path}"
            );
        } else {
            assert!(
                matches!(answer.status, 200 | 400 | 404),
                "{path}: {}",
                answer.text
            );
        }
        if route.path.contains("/api/rigs/{rig}") {
            let token = jwt("agent-1", "rig-2");
            let answer = send(house.with_token(&token, route.method, &path)).await;
            assert_eq!(
                answer.error(403),
                "Token rigId does not match route",
                "{path}"
            );
        }
        if route.path.contains("{agent}") {
            let token = jwt("agent-2", "rig-1");
            let answer = send(house.with_token(&token, route.method, &path)).await;
            assert_eq!(
                answer.error(403),
                "Token agentId does not match route",
                "{path}"
            );
        }
        if route.path.contains("{town}") {
            let token = jwt_of(&json!({"townId": "town-2"}));
            let answer = send(house.with_token(&token, route.method, &path)).await;
            assert_eq!(
                answer.error(403),
                "Token townId does not match route",
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn pages_of_others_change_nothing_whatever_they_carry() {
    let house = House::new().await;
    for route in routes() {
        let path = path_of(&route);
        let request = || house.admin(route.method, &path);
        let foreign = request().header("origin", "http://evil.example");
        let site = request().header("sec-fetch-site", "cross-site");
        let answers = [send(foreign).await, send(site).await];
        let is_stream = route.path == "/api/snapshot";
        for answer in answers {
            if changes(&route) || is_stream {
                let sentence = answer.error(403);
                assert_eq!(sentence, "Cross-origin requests are not accepted", "{path}");
            } else {
                assert_ne!(answer.status, 403, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn clients_that_are_no_browsers_need_no_origin() {
    let house = House::new().await;
    let path = "/api/rigs/rig-1/beads";
    let body = json!({"type": "issue", "title": "x"});
    for (name, value) in [
        ("sec-fetch-mode", "cors"),
        ("accept", "*/*"),
        ("sec-fetch-site", "none"),
    ] {
        let request = house.admin("POST", path).json(&body).header(name, value);
        assert_eq!(status(request).await, 201, "{name}");
    }
    let own = house.facade.url();
    let request = house.admin("POST", path).json(&body).header("origin", own);
    assert_eq!(status(request).await, 201);
}

#[tokio::test]
async fn only_our_own_host_names_are_answered() {
    let house = House::with(
        |settings| settings,
        |facade| wellhead::FacadeSettings {
            allow_hosts: vec!["wells.example".into()],
            ..facade
        },
    )
    .await;
    let port = house.facade.url().rsplit(':').next().unwrap().to_owned();
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        "wells.example".to_owned(),
    ] {
        let request = house.bare("GET", "/health").header("host", &host);
        assert_eq!(status(request).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost",
        "127.0.0.1:1",
        "wells.example.evil",
    ] {
        let answer = send(house.admin("GET", "/api/snapshot").header("host", host)).await;
        answer.error(421);
        assert_eq!(answer.code(), "wrong_host");
    }
}

#[tokio::test]
async fn the_checks_come_in_their_order() {
    let house = House::new().await;
    let path = "/api/rigs/rig-1/beads/no-such-bead/close";
    let close =
        |token: &str, body: &str| send(house.with_token(token, "POST", path).body(body.to_owned()));
    let own = jwt("agent-1", "rig-1");
    // Everything is wrong at once; each line mends one thing.
    assert_eq!(
        close("bad", "{").await.error(401),
        "Authentication required"
    );
    let foreign = jwt("agent-1", "rig-2");
    assert_eq!(
        close(&foreign, "{").await.error(403),
        "Token rigId does not match route"
    );
    close(&own, "{").await.error(400);
    close(&own, "{}").await.error(400);
    let other = r#"{"agent_id":"agent-2"}"#;
    let sentence = "agent_id does not match authenticated agent";
    assert_eq!(close(&own, other).await.error(403), sentence);
    close(&own, r#"{"agent_id":"agent-1"}"#).await.error(404);
    let bead = house.bead("rig-1", "x").await;
    let hook = format!(
        "/api/rigs/rig-1/beads/{}/retry",
        bead["id"].as_str().unwrap()
    );
    let answer = house.post(&hook, &json!({})).await;
    answer.error(409);
    assert_eq!(answer.code(), "conflict");
}

#[tokio::test]
async fn a_token_is_good_for_an_agent_and_a_rig_that_were_never_seen() {
    let house = House::new().await;
    let token = jwt("never-registered", "never-written");
    let beads = send(house.with_token(&token, "GET", "/api/rigs/never-written/beads")).await;
    assert_eq!(beads.data(200), json!([]));
    let escalation = house
        .with_token(&token, "POST", "/api/rigs/never-written/escalations")
        .json(&json!({"title": "help"}));
    let bead = send(escalation).await.data(201);
    assert_eq!(bead["metadata"]["agent_id"], json!("never-registered"));
}

#[tokio::test]
async fn an_ended_dispatch_leaves_only_the_reports() {
    let house = House::new().await;
    let bead = house.bead("rig-1", "x").await;
    let dispatch = format!("{}.1", bead["id"].as_str().unwrap());
    for named in [dispatch.as_str(), "nonsense", ""] {
        let token = jwt_of(&json!({"dispatchId": named}));
        for route in routes() {
            let is_agents = !matches!(route.access, Access::Open | Access::Read | Access::Admin);
            if !is_agents {
                continue;
            }
            let path = path_of(&route);
            let body = report_body(&route);
            let request = house.with_token(&token, route.method, &path).json(&body);
            let answer = send(request).await;
            if route.access == Access::AgentReport {
                let is_known = answer.status == 409 && answer.code() == "stale_dispatch";
                // Nobody of that name is registered: that is told first.
                assert!(is_known || answer.status == 404, "{path}: {}", answer.text);
            } else {
                answer.error(403);
                assert_eq!(answer.code(), "dispatch_ended", "{path}");
            }
        }
    }
}

fn report_body(route: &RouteInfo) -> Value {
    match route.path.rsplit('/').next() {
        Some("done") => json!({"branch": "b"}),
        Some("completed") => json!({"status": "completed"}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn a_short_signing_secret_is_refused() {
    let house = House::new().await;
    let short = wellhead::FacadeSettings {
        jwt_secret: Some(secrecy::SecretString::from("too short")),
        ..wellhead::FacadeSettings::loopback()
    };
    let error = wellhead::Facade::start(house.runtime.clone(), short)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("32"), "{error}");
    assert!(
        !error.to_string().contains("too short"),
        "the secret is not in the text: {error}"
    );
    let public = wellhead::FacadeSettings {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..wellhead::FacadeSettings::loopback()
    };
    let error = wellhead::Facade::start(house.runtime.clone(), public)
        .await
        .unwrap_err();
    assert!(matches!(error, wellhead::FacadeError::NotLoopback(_)));
}
