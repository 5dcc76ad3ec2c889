//! Towns and rigs that are deleted: what is refused, what is gone, what stays gone.

use serde_json::{Value, json};

use crate::house::{House, jwt_of, send, text};

/// A town of ann with one rig, and the paths of both.
async fn settled(house: &House) -> (Value, Value, String, String) {
    let town = house
        .post("/api/users/ann/towns", &json!({"name": "t"}))
        .await;
    let town = town.data(201);
    let body = json!({"town_id": town["id"], "name": "r", "git_url": "/nowhere"});
    let rig = house.post("/api/users/ann/rigs", &body).await.data(201);
    let town_path = format!("/api/users/ann/towns/{}", text(&town["id"]));
    let rig_path = format!("/api/users/ann/rigs/{}", text(&rig["id"]));
    (town, rig, town_path, rig_path)
}

async fn delete(house: &House, path: &str) -> crate::house::Answer {
    send(house.admin("DELETE", path)).await
}

#[tokio::test]
async fn a_town_goes_when_it_has_no_rigs() {
    let house = House::new().await;
    let (_, rig, town_path, rig_path) = settled(&house).await;
    let refused = delete(&house, &town_path).await;
    assert!(
        refused.error(409).contains(text(&rig["id"])),
        "{}",
        refused.text
    );
    let others = town_path.replace("ann", "bob");
    delete(&house, &others).await.error(404);
    delete(&house, &rig_path.replace("ann", "bob"))
        .await
        .error(404);
    assert_eq!(
        delete(&house, &rig_path).await.data(200),
        json!({"deleted": true})
    );
    assert_eq!(
        delete(&house, &town_path).await.data(200),
        json!({"deleted": true})
    );
    for path in [&town_path, &rig_path] {
        house.get(path).await.error(404);
        delete(&house, path).await.error(404);
    }
    assert_eq!(house.get("/api/users/ann/towns").await.data(200), json!([]));
}

#[tokio::test]
async fn a_deleted_rig_is_not_found_by_anybody_also_after_a_restart() {
    let mut house = House::new().await;
    let (town, rig, _, rig_path) = settled(&house).await;
    let id = text(&rig["id"]);
    let slung = house
        .post(&format!("/api/rigs/{id}/sling"), &json!({"title": "x"}))
        .await
        .data(201);
    let (bead, agent) = (text(&slung["bead"]["id"]), text(&slung["agent"]["id"]));
    delete(&house, &rig_path).await.data(200);
    for restart in [false, true] {
        if restart {
            house = house.restarted().await;
        }
        for path in ["beads", "agents", "events", "breaker", "policy"] {
            let answer = house.get(&format!("/api/rigs/{id}/{path}")).await;
            assert_eq!(answer.error(404), "Rig not found", "{path}");
        }
        for (path, body) in [
            ("beads".to_owned(), json!({"type": "issue", "title": "x"})),
            ("sling".to_owned(), json!({"title": "x"})),
            ("escalations".to_owned(), json!({"title": "x"})),
            (format!("beads/{bead}/close"), json!({"agent_id": null})),
            (format!("agents/{agent}/hook"), json!({"bead_id": bead})),
            ("breaker/reset".to_owned(), json!({})),
        ] {
            let answer = house.post(&format!("/api/rigs/{id}/{path}"), &body).await;
            assert_eq!(answer.error(404), "Rig not found", "{path}");
        }
        let claims = json!({"rigId": id, "agentId": agent, "townId": town["id"], "userId": "ann"});
        let shown = format!("/api/rigs/{id}/agents/{agent}");
        send(house.with_token(&jwt_of(&claims), "GET", &shown))
            .await
            .error(404);
        let snapshot = house.get("/api/snapshot").await.data(200);
        assert_eq!(snapshot["rigs"], json!([]));
        assert_eq!(house.get("/api/escalations").await.data(200), json!([]));
        let alarms = house.runtime.alarms_pending().await.unwrap();
        let own = alarms
            .iter()
            .filter(|(kind, of, _)| kind == "rig" && of == id);
        assert_eq!(own.count(), 0, "{alarms:?}");
    }
}
