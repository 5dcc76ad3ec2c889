//! What people do to rigs and towns, at random: every command of the API, sensible or not.
//!
//! Owns the choice of the command. Knows a rig only by what its API shows.

use std::rc::Rc;

use rig::{
    AgentId, BeadId, BeadType, Budget, CredentialSource, DoneReport, Input, Limit, NewBead,
    NewMail, PauseMode, Phase, Policy, Priority, ReviewId, ReviewMode, ReviewVerdict, Rig,
    RigConfig, RigId, Role, Status, TextOnly, TownId, Who,
    town::{TownInput, TownPolicy},
};

use crate::{
    lab::{Lab, Up},
    rng::Rng,
    weather::{CREDENTIALS, MODELS},
};

/// More unfinished beads than this are not made: rare things need beads that meet each other.
const BEADS_MAX: usize = 8;

/// What the API shows of a rig.
struct Seen {
    beads: Vec<BeadId>,
    unfinished: Vec<BeadId>,
    hooked: Vec<AgentId>,
    idle: Vec<BeadId>,
    failed: Vec<BeadId>,
    agents: Vec<AgentId>,
    reviews: Vec<ReviewId>,
    escalations: Vec<BeadId>,
    spent: u64,
}

impl Seen {
    fn of(rig: &Rig) -> Self {
        let ids = |beads: &mut dyn Iterator<Item = &rig::Bead>| {
            beads.map(|bead| bead.id.clone()).collect::<Vec<_>>()
        };
        let on_hook = rig.unfinished().filter_map(rig::Bead::hooked_to).cloned();
        Self {
            beads: ids(&mut rig.beads()),
            unfinished: ids(&mut rig.unfinished()),
            hooked: on_hook.collect(),
            idle: ids(&mut rig.unfinished().filter(|bead| bead.hooked_to().is_none())),
            failed: ids(&mut rig
                .beads()
                .filter(|bead| matches!(bead.phase, Phase::Failed { .. }))),
            agents: rig.agents().map(|agent| agent.id.clone()).collect(),
            reviews: rig.open_reviews().map(|entry| entry.id.clone()).collect(),
            escalations: ids(&mut rig.open_escalations()),
            spent: rig.record().spent.today.tokens(),
        }
    }
}

/// A configuration; `fair` gives one with which everything can work.
pub(crate) fn config(rng: &mut Rng, town: &TownId, rig: &RigId, fair: bool) -> RigConfig {
    let stored = |id: &str| CredentialSource::Stored { id: id.to_owned() };
    let credentials = if !fair && rng.chance(60) {
        CredentialSource::None
    } else {
        let id = rng.pick(&CREDENTIALS).unwrap_or_default();
        rng.pick(&[
            CredentialSource::Environment,
            stored(id),
            stored(CREDENTIALS[0]),
        ])
        .unwrap_or_default()
    };
    let model = rng.pick(&MODELS).unwrap_or_default().to_owned();
    let reviews = [ReviewMode::Off, ReviewMode::Off, ReviewMode::Manual];
    RigConfig {
        town_id: town.clone(),
        name: rig.to_string(),
        git_url: "https://git.example/it".to_owned(),
        default_branch: "main".to_owned(),
        model: rng.chance(400).then_some(model),
        review: rng.pick(&reviews).unwrap_or_default(),
        credentials,
    }
}

/// A policy with short limits, so that a seed reaches them.
pub(crate) fn policy(rng: &mut Rng) -> Policy {
    let text_only = if rng.chance(200) {
        TextOnly::Fail
    } else {
        TextOnly::Close
    };
    let progress_ms = rng.between(240_000, 1_200_000);
    Policy {
        attempts_max: rng.count(1, 5),
        prompts_max: rng.count(2, 14),
        agents_max: rng.count(1, 4),
        backoff_ms: vec![rng.between(100, 20_000), 20_000, 60_000],
        start_deadline_ms: rng.between(20_000, 180_000),
        lease_ms: rng.between(60_000, 240_000),
        nudge_ms: rng.between(90_000, progress_ms),
        progress_ms,
        tool_ms: rng.between(200_000, 1_200_000),
        repeats_max: rng.count(2, 10),
        total_ms: rng.between(600_000, 4_000_000),
        end_grace_ms: rng.between(0, 5_000),
        preflight_ms: rng.between(5_000, 60_000),
        cooldown_ms: rng.between(5_000, 60_000),
        cooldown_max_ms: 1_800_000,
        text_only,
        ..Policy::default()
    }
}

pub(crate) fn town_policy(rng: &mut Rng) -> TownPolicy {
    let tight = rng.chance(500);
    TownPolicy {
        slots_max: if tight {
            rng.count(1, 2)
        } else {
            rng.count(3, 8)
        },
        day: Limit {
            usd: None,
            tokens: rng.chance(200).then(|| u64::from(rng.count(1_000, 20_000))),
        },
        cooldown_ms: rng.between(5_000, 60_000),
        check_ms: rng.between(5_000, 60_000),
        probe_ms: rng.between(30_000, 240_000),
        offline_ms: rng.between(60_000, 600_000),
        ..TownPolicy::default()
    }
}

/// Does things until the process ends.
pub(crate) async fn live(lab: Rc<Lab>, up: Rc<Up>, pace_ms: i64) {
    loop {
        let pause = match lab.rng.borrow_mut().below(4) {
            0 => 0,
            1 => pace_ms * 3,
            _ => pace_ms,
        };
        lab.sleep(lab.between(0, pause)).await;
        if lab.chance(120) {
            to_a_town(&lab, &up).await;
        } else {
            to_a_rig(&lab, &up).await;
        }
    }
}

async fn to_a_town(lab: &Rc<Lab>, up: &Rc<Up>) {
    let Some(town) = lab.rng.borrow_mut().pick(&lab.towns) else {
        return;
    };
    let paused = lab
        .look_town(up, &town, |town| town.record().pause.is_some())
        .await;
    let input = {
        let rng = &mut *lab.rng.borrow_mut();
        match rng.below(4) {
            _ if paused == Some(true) && rng.chance(700) => TownInput::Resume {
                by: rig::Who::named("somebody"),
            },
            0 if rng.chance(500) => TownInput::Pause {
                mode: mode(rng),
                by: who(),
                reason: None,
            },
            1 if rng.chance(300) => TownInput::Reset {
                scopes: None,
                by: rig::Who::named("somebody"),
            },
            _ => TownInput::SetPolicy {
                policy: town_policy(rng),
                by: rig::Who::named("somebody"),
            },
        }
    };
    let _ = lab.tell_town(up, &town, input).await;
}

async fn to_a_rig(lab: &Rc<Lab>, up: &Rc<Up>) {
    let Some(at) = (!lab.rigs.is_empty()).then(|| lab.rng.borrow_mut().below(lab.rigs.len()))
    else {
        return;
    };
    let rig = lab.rigs[at].clone();
    let Some((seen, paused, settled)) = lab
        .look(up, &rig, |rig| {
            let record = rig.record();
            (
                Seen::of(rig),
                record.pause.is_some(),
                record.config.is_some(),
            )
        })
        .await
    else {
        return;
    };
    // A rig that is in a town stays there, whatever people try.
    let elsewhere = settled && lab.chance(100);
    let town = lab.town_of(if elsewhere { at + 1 } else { at });
    let input = {
        let rng = &mut *lab.rng.borrow_mut();
        if paused && rng.chance(250) {
            Some(Input::Resume { by: who() })
        } else {
            command(rng, &town, &rig, &seen)
        }
    };
    if let Some(input) = input {
        let twice = lab.chance(50).then(|| input.clone());
        let _ = lab.tell(up, &rig, input).await;
        if let Some(again) = twice {
            let _ = lab.tell(up, &rig, again).await;
        }
    }
}

fn who() -> Who {
    Who::named("ann")
}

fn mode(rng: &mut Rng) -> PauseMode {
    rng.pick(&[PauseMode::Pause, PauseMode::Stop])
        .unwrap_or(PauseMode::Pause)
}

fn command(rng: &mut Rng, town: &TownId, rig: &RigId, seen: &Seen) -> Option<Input> {
    let bead = rng.pick(&seen.beads);
    let agent = rng.pick(&seen.agents);
    let by = || who();
    Some(match rng.below(100) {
        0..35 if seen.unfinished.len() < BEADS_MAX => Input::Sling(new_bead(rng)),
        25..37 => Input::Hook {
            agent: agent?,
            bead: rng.pick(&seen.idle).or(bead)?,
        },
        37..42 => Input::Retry {
            bead: rng.pick(&seen.failed)?,
            by: by(),
        },
        42..46 => Input::Cancel {
            bead: bead?,
            by: by(),
        },
        46..50 => Input::Close {
            bead: bead?,
            by: agent,
        },
        50..52 => Input::DeleteBead { bead: bead? },
        52..55 => Input::SetStatus {
            bead: bead?,
            status: any_status(rng),
            by: None,
        },
        55..58 => Input::Unhook { agent: agent? },
        58..63 => Input::Configure(config(rng, town, rig, false)),
        63..67 => Input::SetPolicy(policy(rng)),
        67..72 => Input::SetBudget {
            budget: budget(rng, seen.spent),
            by: by(),
        },
        72..75 => Input::Pause {
            mode: mode(rng),
            by: by(),
            reason: None,
        },
        75..78 => Input::Acknowledge {
            bead: rng.pick(&seen.escalations)?,
            by: by(),
        },
        78..80 => Input::ResetBreaker { by: by() },
        80..84 => Input::CompleteReview {
            review: rng.pick(&seen.reviews)?,
            verdict: rng
                .pick(&[ReviewVerdict::Merged, ReviewVerdict::Conflict])
                .unwrap_or(ReviewVerdict::Merged),
            message: "looked at".to_owned(),
            commit: None,
        },
        84..86 => Input::SubmitReview {
            agent: agent?,
            bead: bead?,
            report: DoneReport {
                branch: "by-the-way".to_owned(),
                ..DoneReport::default()
            },
        },
        86..89 => Input::StartAgent {
            agent: agent?,
            new: Box::new(new_bead(rng)),
        },
        0..25 | 89..92 => Input::Message {
            agent: rng.pick(&seen.hooked)?,
            prompt: "how far are you?".to_owned(),
        },
        92..94 => Input::Escalate(NewBead {
            kind: BeadType::Escalation,
            ..NewBead::issue("look at this")
        }),
        94 => mail(rng, agent?),
        95 => Input::DeleteAgent { agent: agent? },
        96 => Input::Done {
            agent: agent?,
            dispatch: None,
            report: DoneReport::default(),
        },
        97 if rng.chance(60) => Input::DeleteRig,
        _ => Input::CreateBead(new_bead(rng)),
    })
}

fn budget(rng: &mut Rng, spent: u64) -> Budget {
    let mut limit = |low: u64| {
        let more = u64::from(rng.count(0, 2_000));
        let tokens = rng.chance(500).then_some(low + more);
        Limit { usd: None, tokens }
    };
    let (bead, day) = (limit(50), limit(spent));
    Budget { bead, day }
}

fn mail(rng: &mut Rng, agent: AgentId) -> Input {
    if rng.chance(300) {
        return Input::ReadMail { agent };
    }
    Input::SendMail(NewMail {
        from: agent.clone(),
        to: agent,
        subject: "hello".to_owned(),
        body: String::new(),
    })
}

fn new_bead(rng: &mut Rng) -> NewBead {
    let priorities = [Priority::Low, Priority::Medium, Priority::Critical];
    let mut new = NewBead {
        priority: rng.pick(&priorities).unwrap_or(Priority::Medium),
        ..NewBead::issue(format!("work {}", rng.draw() % 10_000))
    };
    if rng.chance(100) {
        new.metadata.insert("expects".to_owned(), "text".into());
    }
    new
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

/// An agent for a rig that has none yet.
pub(crate) fn first_agent() -> Input {
    Input::GetOrCreateAgent {
        role: Role::Polecat,
    }
}
