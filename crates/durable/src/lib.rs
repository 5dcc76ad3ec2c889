//! Durable Objects on actix and sled.
//!
//! One instance per id, one step at a time, state on disk, one alarm and one outbox per object.
//! A step's writes are one atomic batch; its reply and its effects leave after the fsync. The
//! crate knows no application: what an object is, its own program says.
//!
//! A counter that survives `kill -9`:
//!
//! ```
//! use std::sync::Arc;
//! use durable::{Alarm, AlarmFailed, Error, Handle, Host, Message, NoEffects, Object, ObjectId};
//! use durable::{Records, Settings, Store, Turn};
//!
//! struct Counter(u64);
//! struct Add(u64);
//!
//! impl Message for Add {
//!     type Reply = u64;
//! }
//!
//! impl Object for Counter {
//!     const NAMESPACE: &'static str = "counter";
//!     type Env = ();
//!     type Effect = ();
//!
//!     fn load(_: &ObjectId, records: &Records<'_>, _: &()) -> Result<Self, Error> {
//!         Ok(Self(records.get("value")?.unwrap_or(0)))
//!     }
//!
//!     fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
//!         Ok(())
//!     }
//! }
//!
//! impl Handle<Add> for Counter {
//!     fn handle(&mut self, turn: &mut Turn<'_, ()>, Add(n): Add) -> u64 {
//!         self.0 += n;
//!         turn.put("value", &self.0);
//!         self.0 // leaves when the new value is on disk
//!     }
//! }
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let dir = dir.path().join("data");
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let host = Host::start(Store::open(dir)?, Settings::default())?;
//! let counters = host.namespace::<Counter>((), Arc::new(NoEffects));
//! let visits = counters.stub(&ObjectId::from_name("visits")?);
//! assert_eq!(visits.send(Add(2)).await?, 2);
//! assert_eq!(visits.send(Add(1)).await?, 3);
//! host.stop().await;
//! # Ok::<(), Error>(()) }).unwrap();
//! ```
//!
//! # Testing what is built on it
//!
//! [`TestTurn`] steps one object, without a host. [`Host::inline`] runs a whole host on the test's
//! own thread, in virtual time and from a seed, and ends it at any moment; with
//! [`storage::FaultyStorage`] below it, a test sees what a crash leaves. [`InlineHost`] has an
//! example that runs.
pub mod backup;
mod clock;
mod commit;
mod error;
mod host;
mod id;
mod journal;
mod keys;
mod letters;
mod meta;
mod object;
mod outbox;
mod projection;
mod record;
mod room;
pub mod storage;
mod store;
pub mod testing;
mod timers;
mod turn;

pub use clock::{BoxFuture, Clock, ManualClock, SystemClock, TokioClock};
pub use error::Error;
pub use host::{Host, InlineHost, Namespace, Pace, Quarantined, Settings, Stub, View};
pub use id::ObjectId;
pub use journal::Verified;
pub use letters::DeadLetter;
pub use object::{
    Alarm, AlarmFailed, ClockJump, Deliver, Envelope, Handle, Message, NoEffects, NotDelivered,
    Object,
};
pub use projection::{AlarmIs, Change, Projection, Rows};
pub use record::Records;
pub use storage::{MemoryStorage, Order, SledStorage, Storage};
pub use store::Store;
pub use testing::TestTurn;
pub use turn::Turn;

/// Unix milliseconds, everywhere in this crate.
pub type Millis = i64;
