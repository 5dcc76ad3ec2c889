//! A rate limiter as a durable object: a bucket of tokens per client, exact over restarts.
//!
//! Run it: `cargo run -p wellhead-durable --example rate_limiter`. It ends by itself. One object
//! per client means no lock and no race; its alarm removes it when its bucket is full again.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;

use durable::{Alarm, AlarmFailed, Error, Handle, Host, Message, NoEffects, Object, ObjectId};
use durable::{Records, Settings, Store, Turn};

const BURST: i64 = 3;
const REFILL_MS: i64 = 60_000;

/// When the bucket will be full again: the one number that says everything.
struct Bucket(Option<i64>);

/// Takes a token; refused, it says after how many ms to come again.
struct Take;

impl Message for Take {
    type Reply = Result<(), i64>;
}

impl Object for Bucket {
    const NAMESPACE: &'static str = "bucket";
    type Env = ();
    type Effect = ();

    fn load(_: &ObjectId, records: &Records<'_>, (): &()) -> Result<Self, Error> {
        Ok(Self(records.get("full_at")?))
    }

    fn alarm(&mut self, turn: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        self.0 = None;
        turn.delete_all(); // a full bucket is no news: nothing of it stays on disk
        Ok(())
    }
}

impl Handle<Take> for Bucket {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, _: Take) -> Result<(), i64> {
        let full_at = self.0.unwrap_or(0).max(turn.now()) + REFILL_MS;
        let over_ms = full_at - (turn.now() + BURST * REFILL_MS);
        if over_ms > 0 {
            return Err(over_ms);
        }
        self.0 = Some(full_at);
        turn.put("full_at", &full_at);
        turn.set_alarm(full_at);
        Ok(()) // leaves when the token is taken on disk: a crash gives none back
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let dir = tempfile::tempdir()?;
    for life in 1..=2 {
        let host = Host::start(Store::open(dir.path().join("data"))?, Settings::default())?;
        let buckets = host.namespace::<Bucket>((), Arc::new(NoEffects));
        for client in ["anna", "anna", "ben"] {
            let answer = buckets
                .stub(&client.parse::<ObjectId>()?)
                .send(Take)
                .await?;
            let word = answer.map_or_else(|ms| format!("come again in {ms} ms"), |()| "yes".into());
            println!("life {life}, {client}: {word}");
        }
        host.stop().await;
    }
    Ok(())
}
