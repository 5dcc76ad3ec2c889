//! A breaker at work: a gateway refuses a rig's token, and nothing is tried in vain. The model is
//! scripted and a stand-in plays kilo, so it costs nothing; it needs git and Node.
//! Run it: `cargo run --example breaker`. It ends by itself.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod stage;
mod watch;

use rig::{NewBead, Who, town::TownPolicy};
use runtime::RigPatch;
use stage::{Stage, Trouble};
use watch::watch;

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    let stage = Stage::build("the-right-token").await?;
    let (runtime, id) = (&stage.town, stage.rig("an-old-token").await?);
    let (rig, town) = (runtime.rig(&id)?, runtime.town(&stage.town_id)?);
    let (cooldown_ms, usual) = (1_000, TownPolicy::default());
    let policy = TownPolicy {
        cooldown_ms,
        ..usual
    };
    town.set_policy(policy, Who::named("me")).await?;
    rig.sling(NewBead::issue("Say hello")).await?;
    // Open at the first 401; at each cooldown, which doubles, a check without a session is all.
    watch(runtime, &rig, &town, |seen| seen.trips == 3).await?;

    println!("new credentials");
    let (credentials, usual) = (
        stage.credentials("the-right-token").await?,
        RigPatch::default(),
    );
    let patch = RigPatch {
        credentials: Some(credentials),
        ..usual
    };
    runtime.directory().update_rig("me", &id, patch).await?;
    watch(runtime, &rig, &town, |seen| seen.is_closed).await?;
    stage.stop().await;
    Ok(())
}
