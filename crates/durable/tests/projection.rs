//! Projections on a running host: in step with every commit, and nobody else's problem.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use durable::{AlarmIs, Change, Error, Order, Projection, Rows};
use support::{Add, Fill, SetAlarm, World, soon};

/// The value of every cell and its alarm.
#[derive(Default)]
struct Values {
    folds: Arc<AtomicUsize>,
}

impl Projection for Values {
    const NAME: &'static str = "values";
    const VERSION: u32 = 1;
    const NAMESPACES: &'static [&'static str] = &["cell"];

    fn fold(&self, change: &Change<'_>, rows: &mut Rows<'_>) -> Result<(), Error> {
        self.folds.fetch_add(1, Ordering::SeqCst);
        let id = change.id().as_str();
        if let Some(value) = change.get::<u64>("value")? {
            assert_ne!(value, 13, "panics as told");
            rows.put(&format!("value/{id}"), &value)?;
        }
        match change.alarm() {
            Some(AlarmIs::Set(at)) => rows.put(&format!("alarm/{id}"), &at)?,
            Some(AlarmIs::Unset) => rows.delete(&format!("alarm/{id}")),
            None => {}
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_follow_each_commit_and_wake_no_object() {
    let world = World::new();
    soon(world.cell("old").send(Add(5))).await.unwrap();
    let world = world.restart().await;
    let values = soon(world.host.project(Values::default())).await.unwrap();
    assert_eq!(soon(values.get("value/old")).await, Ok(Some(5_u64)));
    assert_eq!(
        world.lab.loads.load(Ordering::SeqCst),
        0,
        "an object was woken"
    );

    soon(world.cell("a").send(Add(1))).await.unwrap();
    assert_eq!(soon(values.get("value/a")).await, Ok(Some(1_u64)));
    soon(world.cell("a").send(SetAlarm(Some(9_999_999))))
        .await
        .unwrap();
    assert_eq!(soon(values.get("alarm/a")).await, Ok(Some(9_999_999_i64)));
    soon(world.cell("a").send(SetAlarm(None))).await.unwrap();
    assert_eq!(soon(values.get::<i64>("alarm/a")).await, Ok(None));
    let all = soon(values.scan::<u64>("value/", None, 9, Order::Descending)).await;
    assert_eq!(
        all,
        Ok(vec![("value/old".to_owned(), 5), ("value/a".to_owned(), 1)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_durable_with_their_commit_and_not_before() {
    let world = World::new();
    let values = soon(world.host.project(Values::default())).await.unwrap();
    world.storage.hold();
    let before = world.storage.syncs();
    let write = world.cell("a").send(Add(1));
    world.storage.sync_after(before).await;
    assert_eq!(soon(values.get::<u64>("value/a")).await, Ok(None));
    world.storage.release();
    soon(write).await.unwrap();
    let world = world.restart().await;
    let folds = Arc::default();
    let again = Values {
        folds: Arc::clone(&folds),
    };
    let values = soon(world.host.project(again)).await.unwrap();
    assert_eq!(soon(values.get("value/a")).await, Ok(Some(1_u64)));
    assert_eq!(folds.load(Ordering::SeqCst), 0, "made anew for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_that_panics_stops_alone_and_is_made_anew_when_registered_again() {
    let world = World::new();
    let values = soon(world.host.project(Values::default())).await.unwrap();
    soon(world.cell("b").send(Add(2))).await.unwrap();
    assert_eq!(soon(world.cell("a").send(Add(13))).await, Ok(13));
    let refused = soon(values.get::<u64>("value/b")).await;
    assert!(matches!(refused, Err(Error::Stale { .. })), "{refused:?}");
    // What is stored still makes it fail.
    let refused = soon(world.host.project(Values::default())).await;
    assert!(matches!(refused, Err(Error::Stale { .. })), "{refused:?}");
    assert_eq!(soon(world.cell("a").send(Add(1))).await, Ok(14));
    assert_eq!(*world.host.fatal().borrow(), None);
    let values = soon(world.host.project(Values::default())).await.unwrap();
    assert_eq!(soon(values.get("value/a")).await, Ok(Some(14_u64)));
    assert_eq!(soon(values.get("value/b")).await, Ok(Some(2_u64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_many_records_is_given_in_several_changes() {
    let world = World::new();
    soon(world.cell("a").send(Fill(2_500))).await.unwrap();
    soon(world.cell("a").send(Add(7))).await.unwrap();
    let folds = Arc::default();
    let values = Values {
        folds: Arc::clone(&folds),
    };
    let values = soon(world.host.project(values)).await.unwrap();
    assert_eq!(soon(values.get("value/a")).await, Ok(Some(7_u64)));
    assert_eq!(folds.load(Ordering::SeqCst), 3);
}
