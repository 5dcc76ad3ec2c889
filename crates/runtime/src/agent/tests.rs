//! A report over a disk that is full for a while.

use std::sync::Arc;

use durable::{
    BoxFuture, Deliver, Envelope, Host, NotDelivered, ObjectId, Pace, Settings, Storage, Store,
    TokioClock, storage::FaultyStorage,
};
use rig::{BeadId, RigConfig, Scopes, TownId, town::Ask};
use tokio::task::LocalSet;

use super::*;
use crate::town_actor::{LookTown, TownEnv, TownMail};

struct Nowhere;

impl Deliver<TownMail> for Nowhere {
    fn deliver(&self, _: Envelope<TownMail>) -> BoxFuture<'static, Result<(), NotDelivered>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn take(rig: &RigId, dispatch: &DispatchId) -> TownInput {
    let config = RigConfig {
        town_id: TownId::new("town").unwrap(),
        name: "rig".to_owned(),
        git_url: "/repo".to_owned(),
        default_branch: "main".to_owned(),
        model: None,
        review: rig::ReviewMode::Off,
        credentials: rig::CredentialSource::Environment,
    };
    TownInput::Take {
        rig: rig.clone(),
        dispatch: dispatch.clone(),
        ask: Ask {
            scopes: Scopes::default(),
            config,
            prompts: 1,
        },
    }
}

async fn taken(town: &Stub<TownActor>) -> usize {
    let count = |town: &rig::town::Town, _| town.taken_count();
    town.send(LookTown(Box::new(count))).await.unwrap()
}

async fn outlives_a_full_disk() {
    let disk = Arc::new(FaultyStorage::new(1));
    let storage: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&disk);
    let settings = Settings {
        clock: Arc::new(TokioClock::new(0)),
        seed: Some(1),
        ..Settings::default()
    };
    let host = Host::inline(Store::new(storage).unwrap(), settings, Pace::default()).unwrap();
    let towns = host.namespace::<TownActor>(TownEnv::default(), Arc::new(Nowhere));
    let town = towns.stub(&ObjectId::from_name("town").unwrap());
    let rig = RigId::new("rig").unwrap();
    let bead = BeadId::new("bead").unwrap();
    let dispatch = DispatchId { bead, no: 1 };
    town.send(TellTown(take(&rig, &dispatch))).await.unwrap();
    assert_eq!(taken(&town).await, 1);
    disk.fill(true);
    let report = broken(dispatch, "as if");
    let stored = {
        let town = town.clone();
        tokio::task::spawn_local(async move { repeat_until_stored(&town, rig, report).await })
    };
    tokio::time::sleep(LATER * 100).await;
    assert!(!stored.is_finished(), "it is given up");
    disk.fill(false);
    stored.await.unwrap();
    assert_eq!(taken(&town).await, 0, "its slot is free");
    host.stop().await;
}

/// D1: without its report a slot would stay taken, and its bead would wait for its end.
#[test]
fn a_report_is_repeated_until_a_full_disk_has_room() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, outlives_a_full_disk());
}
