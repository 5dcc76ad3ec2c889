//! A host that kills itself in the middle of a dispatch, and what the next one makes of it.
//!
//! The first life runs in a process of its own and ends by SIGKILL while an agent works. The second
//! one opens the same directory: the session goes on, and the bead has its commit exactly once. A
//! stand-in for kilo is enough here. Run it: `cargo run --example crash_recovery`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{path::Path, process::Command, time::Duration};

use rig::{Bead, CredentialSource, NewBead, Phase, Policy, ReviewMode, Rig, RigConfig};
use runtime::{RigStub, Runtime, Settings};
use rustix::process::{Signal, getpid, kill_process};
use wellhead::{
    demo::sample::create_sample_repo,
    gateway::{Gateway, GatewaySettings, Script},
};

type Trouble = Box<dyn std::error::Error + Send + Sync>;

const KILO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake-kilo.mjs");
const TOKEN: &str = "an-example-token";
/// Begins and hangs at first; whoever goes on with it commits.
const TITLE: &str = "Write notes [[fake: sh test -e ../began || { touch ../began; sleep 60; }; \
                     echo notes > NOTES.md; git add . ; git commit -qm notes]]";

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [dir, gateway, origin] = &arguments[..] {
        return first_life(Path::new(dir), gateway, origin).await;
    }
    let dir = tempfile::tempdir()?;
    let gateway = GatewaySettings::new(TOKEN.to_owned().into());
    let gateway = Gateway::start(Script::default(), gateway).await?;
    let origin = create_sample_repo(dir.path().join("origin")).await?;
    let mut first = Command::new(std::env::current_exe()?);
    first
        .arg(dir.path().join("town"))
        .arg(gateway.url())
        .arg(&origin);
    let ended = tokio::task::spawn_blocking(move || first.status()).await??;
    println!("the first life ended: {ended}");
    second_life(&dir.path().join("town")).await?;
    gateway.stop().await;
    Ok(())
}

async fn first_life(dir: &Path, gateway: &str, origin: &str) -> Result<(), Trouble> {
    let town = start(dir).await?;
    let token = town
        .store_token(Some(gateway.to_owned()), TOKEN.to_owned().into())
        .await?;
    let config = RigConfig {
        town_id: town.directory().create_town("me", "Home").await?.id,
        name: "notes".to_owned(),
        git_url: origin.to_owned(),
        default_branch: "main".to_owned(),
        model: Some("scripted/auto".to_owned()),
        review: ReviewMode::Off,
        credentials: CredentialSource::Stored { id: token },
    };
    let rig = town.rig(&town.directory().create_rig("me", config).await?.id)?;
    let quick = Policy {
        idle_grace_ms: 100,
        end_grace_ms: 100,
        ..Policy::default()
    };
    rig.set_policy(quick).await?;
    rig.sling(NewBead::issue(TITLE)).await?;
    until(&town, &rig, |bead| {
        matches!(bead.phase, Phase::Working { .. })
    })
    .await?;
    println!("an agent works; this process kills itself");
    kill_process(getpid(), Signal::KILL)?;
    Ok(())
}

async fn second_life(dir: &Path) -> Result<(), Trouble> {
    let town = start(dir).await?;
    let id = town
        .rig_ids()
        .await?
        .into_iter()
        .next()
        .ok_or("no rig was stored")?;
    let bead = until(&town, &town.rig(&id)?, Bead::is_terminal).await?;
    println!(
        "the bead is {} after {} dispatches",
        bead.status().as_str(),
        bead.attempts.len()
    );
    let mut sessions: Vec<_> = bead
        .attempts
        .iter()
        .filter_map(|a| a.session.as_ref())
        .collect();
    sessions.dedup();
    println!("they worked in {} session", sessions.len());
    town.stop(Duration::from_secs(5)).await;
    Ok(())
}

async fn start(dir: &Path) -> Result<Runtime, Trouble> {
    let mut settings = Settings::new(dir);
    settings.kilo_program = Some(KILO.into());
    Ok(Runtime::start(settings).await?)
}

/// The rig's only bead, as soon as it fits.
async fn until(
    town: &Runtime,
    rig: &RigStub,
    fits: impl Fn(&Bead) -> bool,
) -> Result<Bead, Trouble> {
    let mut changes = town.changes();
    loop {
        changes.borrow_and_update();
        let first = rig.look(|rig: &Rig, _| rig.beads().next().cloned()).await?;
        match first.filter(&fits) {
            Some(bead) => return Ok(bead),
            None => changes.changed().await?,
        }
    }
}
