//! What people do to a rig, at random: every command of the API, sensible or not.
//!
//! Owns the choice of the command. Knows the rig only by what its API shows.

use wellhead_rig::{
    AgentId, BeadId, BeadType, Budget, CredentialSource, DoneReport, Input, Limit, NewBead,
    NewMail, PauseMode, Policy, Priority, ReviewId, ReviewMode, ReviewVerdict, Rig, RigConfig,
    Role, Status, TextOnly, TownId, Who,
};

use super::rng::Rng;

/// More beads than this are not made: the rare things need beads that meet each other.
const BEADS_MAX: usize = 9;

/// A configuration; `fair` gives one with which everything can work.
pub(crate) fn config(rng: &mut Rng, fair: bool) -> RigConfig {
    let credentials = if !fair && rng.chance(150) {
        CredentialSource::None
    } else {
        let id = format!("credential-{}", rng.below(3));
        let stored = CredentialSource::Stored { id };
        rng.pick(&[CredentialSource::Environment, stored])
            .unwrap_or_default()
    };
    RigConfig {
        town_id: TownId::new("town").expect("a valid id"),
        name: "rig".to_owned(),
        git_url: "https://git.example/it".to_owned(),
        default_branch: "main".to_owned(),
        model: rng.chance(300).then(|| "some/model".to_owned()),
        review: rng
            .pick(&[ReviewMode::Off, ReviewMode::Off, ReviewMode::Manual])
            .unwrap_or_default(),
        credentials,
    }
}

/// A policy with short limits, so that a seed reaches them.
pub(crate) fn policy(rng: &mut Rng) -> Policy {
    let text_only = if rng.chance(300) {
        TextOnly::Fail
    } else {
        TextOnly::Close
    };
    let number = |low, high, rng: &mut Rng| u32::try_from(rng.between(low, high)).unwrap_or(1);
    Policy {
        attempts_max: number(1, 5, rng),
        prompts_max: number(1, 14, rng),
        agents_max: number(1, 4, rng),
        backoff_ms: vec![rng.between(100, 5_000), 10_000, 60_000],
        start_deadline_ms: rng.between(20_000, 180_000),
        lease_ms: rng.between(60_000, 120_000),
        progress_ms: rng.between(90_000, 600_000),
        nudge_ms: rng.between(30_000, 400_000),
        tool_ms: rng.between(90_000, 900_000),
        repeats_max: number(2, 12, rng),
        total_ms: rng.between(200_000, 1_500_000),
        end_grace_ms: rng.between(0, 5_000),
        preflight_ms: rng.between(1_000, 60_000),
        cooldown_ms: rng.between(1_000, 60_000),
        cooldown_max_ms: 1_800_000,
        text_only,
        ..Policy::default()
    }
}

fn new_bead(rng: &mut Rng, assignee: Option<AgentId>) -> NewBead {
    let kinds = [
        BeadType::Issue,
        BeadType::Issue,
        BeadType::Issue,
        BeadType::MergeRequest,
        BeadType::Message,
    ];
    let mut new = NewBead {
        kind: rng.pick(&kinds).unwrap_or(BeadType::Issue),
        priority: rng
            .pick(&[Priority::Low, Priority::Medium, Priority::Critical])
            .unwrap_or_default(),
        assignee,
        ..NewBead::issue("work")
    };
    if rng.chance(150) {
        new.metadata.insert("expects".into(), "text".into());
    }
    new
}

/// One command.
pub(crate) fn command(rng: &mut Rng, rig: &Rig) -> Input {
    let beads: Vec<BeadId> = rig.beads().map(|bead| bead.id.clone()).collect();
    let agents: Vec<AgentId> = rig.agents().map(|agent| agent.id.clone()).collect();
    let work = rig.beads().filter(|bead| bead.is_work()).count();
    let (Some(bead), Some(agent)) = (rng.pick(&beads), rng.pick(&agents)) else {
        return Input::Sling(NewBead::issue("first"));
    };
    let by = rng.chance(300).then(|| agent.clone());
    if rig.record().pause.is_some() && rng.chance(250) {
        return Input::Resume { by: person() };
    }
    match rng.below(46) {
        0..=5 if work < BEADS_MAX => Input::Sling(new_work(rng)),
        6 | 7 if work < BEADS_MAX => {
            let assignee = rng.chance(300).then_some(agent);
            Input::CreateBead(new_bead(rng, assignee))
        }
        0..=9 => Input::Hook { agent, bead },
        10 => Input::Unhook { agent },
        11 | 12 => Input::SetStatus {
            bead,
            status: any_status(rng),
            by,
        },
        13 => Input::Close { bead, by },
        14 => Input::DeleteBead { bead },
        15 => Input::Cancel { bead, by: person() },
        16..=19 => Input::Retry {
            bead: failed(rng, rig).unwrap_or(bead),
            by: person(),
        },
        20 => Input::ResetBreaker { by: person() },
        21 => Input::SetPolicy(policy(rng)),
        22 => Input::Configure(config(rng, false)),
        23 => Input::RegisterAgent {
            role: Role::Polecat,
            name: "by hand".to_owned(),
            identity: format!("polecats/by-hand-{}", rng.below(4)),
        },
        24 => Input::Touch { agent },
        25 => Input::Escalate(NewBead::issue("help")),
        26 => Input::Done {
            agent,
            dispatch: None,
            report: DoneReport::default(),
        },
        27 => Input::Alarm,
        28 => Input::PreflightDone {
            no: rig.record().preflight_no.saturating_sub(1),
            result: wellhead_rig::Preflight::Passed,
        },
        29 => Input::Retry { bead, by: person() },
        30..=32 => review(rng, rig, agent, bead),
        33 | 34 => mail(rng, &agents, agent),
        35 | 36 => Input::Message {
            agent,
            prompt: "mind the tests".to_owned(),
        },
        37 => pause(rng),
        38 => Input::Resume { by: person() },
        39 | 40 => set_budget(rng),
        41 | 42 => acknowledge(rng, rig, bead),
        43 => Input::Undeliverable {
            what: "preflight",
            reason: "nobody took it".to_owned(),
        },
        44 => Input::Offered,
        _ if agents.len() > 2 => Input::DeleteAgent { agent },
        _ => Input::GetOrCreateAgent {
            role: rng
                .pick(&[Role::Polecat, Role::Refinery])
                .unwrap_or(Role::Polecat),
        },
    }
}

pub(crate) fn person() -> Who {
    Who::named("somebody")
}

fn pause(rng: &mut Rng) -> Input {
    let modes = [PauseMode::Pause, PauseMode::Stop];
    Input::Pause {
        mode: rng.pick(&modes).unwrap_or(PauseMode::Pause),
        by: person(),
        reason: None,
    }
}

/// Mostly so little that a few sessions use it up.
fn set_budget(rng: &mut Rng) -> Input {
    let mut limit = |longest| Limit {
        tokens: rng
            .chance(600)
            .then(|| u64::try_from(rng.between(0, longest)).unwrap_or(0)),
        usd: None,
    };
    let (bead, day) = (limit(120), limit(600));
    Input::SetBudget {
        budget: Budget { bead, day },
        by: person(),
    }
}

fn acknowledge(rng: &mut Rng, rig: &Rig, bead: BeadId) -> Input {
    let open: Vec<BeadId> = rig.open_escalations().map(|b| b.id.clone()).collect();
    Input::Acknowledge {
        bead: rng.pick(&open).unwrap_or(bead),
        by: person(),
    }
}

fn review(rng: &mut Rng, rig: &Rig, agent: AgentId, bead: BeadId) -> Input {
    let reviews: Vec<ReviewId> = rig.reviews().map(|entry| entry.id.clone()).collect();
    let open: Vec<ReviewId> = rig.open_reviews().map(|entry| entry.id.clone()).collect();
    let any = rng.chance(100);
    let Some(review) = rng.pick(if any { &reviews } else { &open }) else {
        let branch = format!("branch-{}", rng.below(3));
        let report = DoneReport {
            branch,
            ..DoneReport::default()
        };
        return Input::SubmitReview {
            agent,
            bead,
            report,
        };
    };
    let verdicts = [ReviewVerdict::Merged, ReviewVerdict::Conflict];
    Input::CompleteReview {
        review,
        verdict: rng.pick(&verdicts).unwrap_or(ReviewVerdict::Merged),
        message: "looked at".to_owned(),
        commit: None,
    }
}

fn mail(rng: &mut Rng, agents: &[AgentId], agent: AgentId) -> Input {
    match rng.below(4) {
        0 => Input::ReadMail { agent },
        1 => Input::AppendAgentEvent {
            agent,
            event_type: "note".to_owned(),
            data: serde_json::Map::new(),
        },
        _ => Input::SendMail(NewMail {
            from: agent.clone(),
            to: rng.pick(agents).unwrap_or(agent),
            subject: "hello".to_owned(),
            body: String::new(),
        }),
    }
}

fn new_work(rng: &mut Rng) -> NewBead {
    NewBead {
        kind: BeadType::Issue,
        ..new_bead(rng, None)
    }
}

fn any_status(rng: &mut Rng) -> Status {
    let all = [
        Status::Open,
        Status::InProgress,
        Status::InReview,
        Status::Closed,
        Status::Failed,
    ];
    rng.pick(&all).unwrap_or(Status::Open)
}

fn failed(rng: &mut Rng, rig: &Rig) -> Option<BeadId> {
    let failed = rig.beads().filter(|bead| bead.status() == Status::Failed);
    let failed: Vec<BeadId> = failed.map(|bead| bead.id.clone()).collect();
    rng.pick(&failed)
}
