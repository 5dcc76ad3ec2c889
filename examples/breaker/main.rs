//! A breaker at work: a gateway refuses a rig's token, and nothing is tried in vain. The model is
//! scripted and a stand-in plays kilo, so it costs nothing; it needs git and Node.
//! Run it: `cargo run --example breaker`. It ends by itself.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod stage;
mod watch;

use rig::{NewBead, Policy};
use runtime::RigPatch;
use stage::{Stage, Trouble};
use watch::watch;

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    let stage = Stage::build("the-right-token").await?;
    let (town, id) = (&stage.town, stage.rig("an-old-token").await?);
    let rig = town.rig(&id)?;
    let (cooldown_ms, usual) = (1_000, Policy::default());
    rig.set_policy(Policy {
        cooldown_ms,
        ..usual
    })
    .await?;
    rig.sling(NewBead::issue("Say hello")).await?;
    // Open at the first 401; at each cooldown, which doubles, a check without a session is all.
    watch(town, &rig, |rig| rig.record().breaker.trips == 2).await?;

    println!("new credentials");
    let (credentials, usual) = (
        stage.credentials("the-right-token").await?,
        RigPatch::default(),
    );
    let patch = RigPatch {
        credentials: Some(credentials),
        ..usual
    };
    town.directory().update_rig("me", &id, patch).await?;
    watch(town, &rig, |rig| rig.record().breaker.is_closed()).await?;
    stage.stop().await;
    Ok(())
}
