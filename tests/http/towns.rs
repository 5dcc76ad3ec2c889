//! Towns and rigs of users; tokens go in and never come out.

use serde_json::{Value, json};

use crate::house::{House, jwt_of, send, text};

async fn town(house: &House, user: &str) -> Value {
    house
        .post(
            &format!("/api/users/{user}/towns"),
            &json!({"name": "  Town  "}),
        )
        .await
        .data(201)
}

fn rig_body(town: &Value) -> Value {
    json!({
        "town_id": town["id"], "name": "rig", "git_url": "/nowhere/at/all",
        "default_branch": "trunk", "review": "manual", "model": "m",
    })
}

#[tokio::test]
async fn towns_belong_to_their_user() {
    let house = House::new().await;
    let town = town(&house, "ann%40example.com").await;
    assert_eq!(
        (&town["name"], &town["owner_user_id"]),
        (&json!("Town"), &json!("ann@example.com"))
    );
    let id = text(&town["id"]);
    let own = house
        .get("/api/users/ann@example.com/towns")
        .await
        .data(200);
    assert_eq!(own, json!([town]));
    assert_eq!(
        house
            .get(&format!("/api/users/ann@example.com/towns/{id}"))
            .await
            .data(200),
        town
    );
    assert_eq!(house.get("/api/users/bob/towns").await.data(200), json!([]));
    house
        .get(&format!("/api/users/bob/towns/{id}"))
        .await
        .error(404);
    house.get("/api/users/bob/towns/no%20town").await.error(404);
    for name in ["", &"x".repeat(65)] {
        house
            .post("/api/users/bob/towns", &json!({"name": name}))
            .await
            .error(400);
    }
}

#[tokio::test]
async fn rigs_are_made_shown_and_changed() {
    let house = House::new().await;
    let town = town(&house, "ann").await;
    let rig = house
        .post("/api/users/ann/rigs", &rig_body(&town))
        .await
        .data(201);
    assert_eq!(rig["default_branch"], json!("trunk"));
    assert_eq!(rig["review"], json!("manual"));
    let path = format!("/api/users/ann/rigs/{}", text(&rig["id"]));
    assert_eq!(house.get(&path).await.data(200), rig);
    house.get(&path.replace("ann", "bob")).await.error(404);
    let listed = format!("/api/users/ann/towns/{}/rigs", text(&town["id"]));
    assert_eq!(house.get(&listed).await.data(200), json!([rig]));
    let change = |body: Value| send(house.admin("PATCH", &path).json(&body));
    let changed = change(json!({"name": "new", "review": "off"}))
        .await
        .data(200);
    assert_eq!(
        (&changed["name"], &changed["review"]),
        (&json!("new"), &json!("off"))
    );
    assert_eq!(changed["model"], json!("m"), "what is not named stays");
    for fixed in ["town_id", "git_url"] {
        let answer = change(json!({fixed: "x"})).await;
        answer.error(400);
        assert_eq!(answer.issues(), [fixed]);
    }
    let body = json!({"town_id": town["id"], "name": "r", "git_url": "/x"});
    let second = house.post("/api/users/ann/rigs", &body).await.data(201);
    assert_eq!(second["default_branch"], json!("main"));
}

#[tokio::test]
async fn a_new_rig_is_checked_field_by_field() {
    let house = House::new().await;
    let town = town(&house, "ann").await;
    let answer = house.post("/api/users/ann/rigs", &json!({})).await;
    answer.error(400);
    let mut issues = answer.issues();
    issues.sort();
    assert_eq!(issues, ["git_url", "name", "town_id"]);
    for (field, bad) in [
        (
            "git_url",
            json!("https://me:secret-in-url@example.com/x.git"),
        ),
        ("git_url", json!("--upload-pack=evil")),
        ("default_branch", json!("-x")),
        ("default_branch", json!("a..b")),
        ("review", json!("maybe")),
        ("name", json!("x".repeat(65))),
        ("kilo_api_url", json!("https://gateway.example")),
        ("kilo_api_url", json!("nonsense")),
    ] {
        let mut body = rig_body(&town);
        body[field] = bad;
        let answer = house.post("/api/users/ann/rigs", &body).await;
        answer.error(400);
        assert!(
            answer.issues().contains(&field.to_owned()),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains("secret-in-url"), "{}", answer.text);
    }
    let mut foreign = rig_body(&town);
    foreign["town_id"] = json!("nope");
    house.post("/api/users/ann/rigs", &foreign).await.error(404);
    house
        .post("/api/users/bob/rigs", &rig_body(&town))
        .await
        .error(404);
}

#[tokio::test]
async fn a_token_goes_in_and_never_comes_out() {
    let house = House::new().await;
    let town = town(&house, "ann").await;
    let mut body = rig_body(&town);
    body["kilocode_token"] = json!("top-secret-value");
    body["kilo_api_url"] = json!("http://127.0.0.1:9/");
    let made = house.post("/api/users/ann/rigs", &body).await;
    let rig = made.body["data"]["id"].clone();
    assert!(!made.text.contains("top-secret"), "{}", made.text);
    made.data(201);
    for path in [
        format!("/api/users/ann/rigs/{}", text(&rig)),
        format!("/api/users/ann/towns/{}/rigs", text(&town["id"])),
        format!("/api/rigs/{}/events", text(&rig)),
        "/api/snapshot".to_owned(),
    ] {
        let shown = house.get(&path).await;
        assert_eq!(shown.status, 200);
        assert!(!shown.text.contains("top-secret"), "{path}");
    }
}

#[tokio::test]
async fn a_configured_rig_compares_the_tokens_town_and_user() {
    let house = House::new().await;
    let town = town(&house, "ann").await;
    let rig = house
        .post("/api/users/ann/rigs", &rig_body(&town))
        .await
        .data(201);
    let path = format!("/api/rigs/{}/beads", text(&rig["id"]));
    let list = async |town: &Value, user: &str| {
        let claims = json!({"rigId": rig["id"], "townId": town, "userId": user});
        send(house.with_token(&jwt_of(&claims), "GET", &path)).await
    };
    list(&town["id"], "ann").await.data(200);
    let wrong_town = list(&json!("other"), "ann").await;
    assert_eq!(wrong_town.error(403), "Token townId does not match route");
    list(&town["id"], "bob").await.error(403);
}
