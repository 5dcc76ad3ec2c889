//! Who plays in the demo: a town, four rigs on one sample repository, a bead each.
//!
//! Owns what each bead has to come to. Knows nothing of how it gets there.

use std::path::PathBuf;

use rig::{BeadId, CredentialSource, NewBead, Policy, ReviewMode, RigConfig, RigId, TownId};
use runtime::RigStub;

use super::{Trouble, sample::create_sample_repo, stage::Stage};

const OWNER: &str = "demo";
/// Follows a `[[script: …]]` line in the task, and commits without one.
const SCRIPTED_MODEL: &str = "scripted/auto";

/// What a bead has to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Closed, with a commit on its branch.
    Worked,
    /// Waiting without ever being dispatched, one escalation.
    NeverDispatched,
    /// Failed after five charged dispatches, one escalation, silence.
    FailedAfterFive,
}

/// One bead of the demo.
pub(super) struct Part {
    pub(super) rig: RigStub,
    pub(super) rig_id: RigId,
    pub(super) rig_name: &'static str,
    pub(super) bead: BeadId,
    pub(super) expected: Expected,
    /// The clone that holds its commit.
    pub(super) repo: PathBuf,
}

/// All beads of the demo.
pub(super) struct Cast {
    pub(super) parts: Vec<Part>,
}

/// One rig and the bead that is slung to it.
struct Role {
    name: &'static str,
    credentials: CredentialSource,
    model: Option<&'static str>,
    bead: NewBead,
    expected: Expected,
}

impl Cast {
    /// Makes the town, its rigs and their beads.
    pub(super) async fn call(stage: &Stage) -> Result<Self, Trouble> {
        let repos = stage.data_dir.join("sample-repositories");
        let directory = stage.runtime.directory();
        let town = directory.create_town(OWNER, "Demo").await?.id;
        // One repository for each run: the data directory may have been used before.
        let origin = create_sample_repo(repos.join(town.as_str())).await?;
        let mut parts = Vec::new();
        for role in roles(stage).await? {
            parts.push(play(stage, &town, &origin, role).await?);
        }
        Ok(Self { parts })
    }
}

async fn roles(stage: &Stage) -> Result<Vec<Role>, Trouble> {
    let url = Some(stage.gateway.url());
    let id = stage.runtime.store_token(url, stage.token.clone()).await?;
    let scripted = CredentialSource::Stored { id };
    let (own, model) = if stage.real_gateway {
        stage.say("KILO_API_URL and a token are set: the first bead goes to that gateway");
        (CredentialSource::Environment, None)
    } else {
        (scripted.clone(), Some(SCRIPTED_MODEL))
    };
    Ok(vec![
        Role {
            name: "worker",
            credentials: own,
            model,
            bead: bead(
                "Write a short note about this repository",
                "Commit it on your branch.",
            ),
            expected: Expected::Worked,
        },
        Role {
            name: "keyless",
            credentials: CredentialSource::None,
            model: Some(SCRIPTED_MODEL),
            bead: bead(
                "Work without credentials",
                "Nothing can be done before they are set.",
            ),
            expected: Expected::NeverDispatched,
        },
        // A rig each: what one bead waits for must not move the other one's gaps.
        Role {
            name: "malformed",
            credentials: scripted.clone(),
            model: Some(SCRIPTED_MODEL),
            bead: bead(
                "Meet a malformed answer every time",
                "[[script: malformed]]",
            ),
            expected: Expected::FailedAfterFive,
        },
        Role {
            name: "empty",
            credentials: scripted,
            model: Some(SCRIPTED_MODEL),
            bead: bead("Meet an empty answer every time", "[[script: empty]]"),
            expected: Expected::FailedAfterFive,
        },
    ])
}

fn bead(title: &str, body: &str) -> NewBead {
    NewBead {
        body: Some(body.to_owned()),
        ..NewBead::issue(title)
    }
}

async fn play(
    stage: &Stage,
    town: &TownId,
    origin: &std::path::Path,
    role: Role,
) -> Result<Part, Trouble> {
    let config = RigConfig {
        town_id: town.clone(),
        name: role.name.to_owned(),
        git_url: origin.display().to_string(),
        default_branch: "main".to_owned(),
        model: role.model.map(str::to_owned),
        review: ReviewMode::Off,
        credentials: role.credentials,
    };
    let row = stage.runtime.directory().create_rig(OWNER, config).await?;
    let rig = stage.runtime.rig(&row.id)?;
    rig.set_policy(quick()).await?;
    let (bead, agent) = rig.sling(role.bead).await?;
    stage.say(&format!(
        "{}: slung \"{}\" to {}",
        role.name, bead.title, agent.name
    ));
    Ok(Part {
        rig,
        rig_id: row.id.clone(),
        rig_name: role.name,
        bead: bead.id,
        expected: role.expected,
        repo: stage.runtime.rig_dir(town, &row.id).join("repo.git"),
    })
}

/// The default rules with short steps, so that five attempts fit into a demo. Each step is more
/// than a quarter longer than the one before, so that the gaps grow whatever the jitter.
fn quick() -> Policy {
    Policy {
        backoff_ms: vec![1_000, 1_600, 2_600, 4_200],
        idle_grace_ms: 500,
        end_grace_ms: 200,
        ..Policy::default()
    }
}
