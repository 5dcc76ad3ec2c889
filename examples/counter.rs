//! A durable object of one's own: it counts, sets its alarm, and both outlive the host.
//!
//! Run it: `cargo run --example counter`. It ends by itself.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;

use durable::{Alarm, AlarmFailed, Error, Handle, Host, Message, NoEffects, Object, ObjectId};
use durable::{Records, Settings, Store, Turn};
use tokio::sync::Notify;

struct Visits(u64, Arc<Notify>);
struct Add(u64);

impl Message for Add {
    type Reply = u64;
}

impl Object for Visits {
    const NAMESPACE: &'static str = "visits";
    type Env = Arc<Notify>;
    type Effect = ();
    fn load(_: &ObjectId, records: &Records<'_>, bell: &Self::Env) -> Result<Self, Error> {
        Ok(Self(records.get("count")?.unwrap_or(0), Arc::clone(bell)))
    }
    fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        println!("the alarm rings at {} visits", self.0);
        self.1.notify_one();
        Ok(())
    }
}

impl Handle<Add> for Visits {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, Add(n): Add) -> u64 {
        self.0 += n;
        turn.put("count", &self.0);
        turn.set_alarm(turn.alarm().unwrap_or(turn.now() + 1_000));
        self.0 // leaves when count and alarm are on disk
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (dir, bell) = (tempfile::tempdir()?, Arc::new(Notify::new()));
    for life in 1..=2 {
        let host = Host::start(Store::open(dir.path().join("data"))?, Settings::default())?;
        let all = host.namespace::<Visits>(Arc::clone(&bell), Arc::new(NoEffects));
        let page = all.stub(&ObjectId::from_name("front-page")?);
        println!("life {life} counts {} visits", page.send(Add(2)).await?);
        if life == 2 {
            bell.notified().await;
        }
        host.stop().await;
    }
    Ok(())
}
