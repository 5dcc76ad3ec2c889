//! The page, its session, and the headers of every answer.

use serde_json::json;

use crate::house::{Answer, House, send};

fn key(house: &House) -> String {
    house
        .facade
        .open_url()
        .split_once("/#key=")
        .unwrap()
        .1
        .to_owned()
}

/// The cookie that a browser would send.
fn cookie(answer: &Answer) -> String {
    let set = answer.headers["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(set.contains(attribute), "{set}");
    }
    set.split(';').next().unwrap().to_owned()
}

async fn signed_in(house: &House) -> String {
    let body = json!({"key": key(house)});
    let answer = send(house.bare("POST", "/api/session").json(&body)).await;
    let cookie = cookie(&answer);
    answer.data(201);
    cookie
}

#[tokio::test]
async fn the_shell_is_open_and_holds_no_data_and_no_inline_code() {
    let house = House::new().await;
    let page = send(house.bare("GET", "/")).await;
    assert_eq!(page.status, 200);
    assert!(
        page.text
            .contains("<title>Gastown Dashboard · Wellhead</title>")
    );
    assert!(
        page.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    for inline in ["<script>", "<style", "style=", "onclick", "javascript:"] {
        assert!(!page.text.contains(inline), "{inline}");
    }
    for (path, kind) in [
        ("/assets/app.js", "text/javascript"),
        ("/assets/app.css", "text/css"),
    ] {
        assert!(page.text.contains(path));
        let asset = send(house.bare("GET", path)).await;
        assert_eq!(asset.status, 200);
        assert!(
            asset.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with(kind)
        );
    }
    let script = send(house.bare("GET", "/assets/app.js")).await.text;
    for unsafe_sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!script.contains(unsafe_sink), "{unsafe_sink}");
    }
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let house = House::new().await;
    for request in [
        house.bare("GET", "/"),
        house.bare("GET", "/nope"),
        house.admin("GET", "/api/snapshot"),
        house.admin("POST", "/api/rigs/rig-1/beads"),
        house.bare("GET", "/health").header("host", "evil.example"),
    ] {
        let answer = send(request).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        assert!(!header("x-request-id").is_empty());
    }
    let api = house.get("/api/snapshot").await;
    assert_eq!(api.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn health_is_bare() {
    let house = House::new().await;
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(
            send(house.bare("GET", path)).await.text,
            r#"{"status":"ok"}"#
        );
    }
}

#[tokio::test]
async fn the_one_time_key_opens_once() {
    let house = House::new().await;
    let try_key = |body: serde_json::Value| send(house.bare("POST", "/api/session").json(&body));
    for wrong in [json!({}), json!({"key": "wrong"}), json!({"key": null})] {
        let answer = try_key(wrong).await;
        answer.error(401);
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    try_key(json!({"key": 7})).await.error(400);
    signed_in(&house).await;
    try_key(json!({"key": key(&house)})).await.error(401);
    let debugged = format!("{:?}", house.facade);
    assert!(
        !debugged.contains(&key(&house)),
        "the link is a secret: {debugged}"
    );
}

#[tokio::test]
async fn a_session_reads_and_changes_only_from_our_own_page() {
    let house = House::new().await;
    let cookie = signed_in(&house).await;
    let own = house.facade.url();
    let request = |method, path| {
        house
            .bare(method, path)
            .header("cookie", format!("a=b; {cookie}"))
    };
    send(request("GET", "/api/snapshot")).await.data(200);
    let path = "/api/rigs/rig-1/beads";
    let body = json!({"type": "issue", "title": "x"});
    send(request("POST", path).json(&body).header("origin", &own))
        .await
        .data(201);
    send(request("POST", path).json(&body)).await.error(403);
    let foreign = request("POST", path)
        .json(&body)
        .header("origin", "http://evil.example");
    send(foreign).await.error(403);
    let reset = "/api/rigs/rig-1/breaker/reset";
    send(request("POST", reset)).await.error(403);
    send(request("POST", reset).header("origin", &own))
        .await
        .data(200);
    let embedded = request("GET", "/api/escalations").header("sec-fetch-site", "cross-site");
    send(embedded).await.error(403);
    let wrong = house
        .bare("GET", "/api/snapshot")
        .header("cookie", format!("{cookie}x"));
    send(wrong).await.error(401);
    let beside = request("GET", "/api/snapshot").bearer_auth("wrong");
    send(beside).await.error(401);
}

#[tokio::test]
async fn a_person_with_the_token_gets_a_session_too_and_a_viewer_does_not() {
    let house = House::new().await;
    let answer = send(house.admin("POST", "/api/session").json(&json!({}))).await;
    let cookie = cookie(&answer);
    send(house.bare("GET", "/api/snapshot").header("cookie", cookie))
        .await
        .data(200);
    let viewer = house.viewer.clone();
    send(
        house
            .with_token(&viewer, "POST", "/api/session")
            .json(&json!({})),
    )
    .await
    .error(401);
}
