//! What rigs share, on the real `kilo serve`: a gateway that goes away and comes back, budgets,
//! stops, tools that loop and turns that stand still.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod support;

use std::{path::Path, process::Command, time::Duration};

use rig::{
    Bead, Budget, Class, Input, Limit, NewBead, PauseMode, Phase, Policy, Rig, Scope, Status, Who,
    town::TownPolicy,
};
use runtime::{BreakerNews, Runtime, Settings, Turned};
use support::{OneRig, PATIENCE, Town, tiny::Tiny};

fn scripted(behaviour: &str) -> NewBead {
    NewBead::issue(format!("[[script: {behaviour}]] Do it"))
}

fn quick() -> Policy {
    Policy {
        backoff_ms: vec![200],
        idle_grace_ms: 300,
        end_grace_ms: 100,
        cooldown_ms: 1_000,
        ..Policy::default()
    }
}

async fn town() -> Town {
    town_in(tempfile::tempdir().unwrap()).await
}

async fn town_in(dir: tempfile::TempDir) -> Town {
    let town = Town::start_in(dir).await;
    let policy = TownPolicy {
        cooldown_ms: 1_000,
        ..TownPolicy::default()
    };
    let handle = town.runtime.town(&town.id).unwrap();
    handle.set_policy(policy, by()).await.unwrap();
    town
}

fn by() -> Who {
    Who::named("tester")
}

async fn until_bead(
    town: &Town,
    rig: &OneRig,
    bead: &Bead,
    what: &'static str,
    wanted: fn(&Rig, &Bead) -> bool,
) -> Bead {
    let id = bead.id.clone();
    let look = move |rig: &Rig| rig.bead(&id).filter(|bead| wanted(rig, bead)).cloned();
    town.until(&rig.rig, what, look).await
}

/// A session that can not reach its gateway keeps its place, opens the gateway's breaker for
/// everybody, and goes on by itself when a check of ours has found the gateway again.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_goes_away_and_comes_back_costs_nothing_but_time() {
    let town = town().await;
    let rig = town.working_rig(quick()).await;
    let (warm, _) = rig.rig.sling(scripted("commit")).await.unwrap();
    town.until_terminal(&rig.rig, &warm.id).await;
    let mut news = town.runtime.breaker_news();
    town.gateway.set_down(true).await.unwrap();
    let (first, _) = rig.rig.sling(scripted("commit")).await.unwrap();
    // It is told by the session's own wait; a further bead is not even tried.
    let told = |rig: &Rig| rig.open_escalations().next().map(|bead| bead.title.clone());
    let title = town.until(&rig.rig, "escalation", told).await;
    assert!(title.contains("gateway"), "{title}");
    let (second, _) = rig.rig.sling(scripted("commit")).await.unwrap();
    let held = until_bead(&town, &rig, &second, "refusal", |rig, _| {
        rig.shut_by() == Some(Class::Gateway)
    });
    assert_eq!(held.await.numbers.prompts, 0);
    let first_now = rig.rig.bead(&first.id).await.unwrap().unwrap();
    assert!(
        matches!(
            first_now.phase,
            Phase::Working { .. } | Phase::Dispatched { .. }
        ),
        "{first_now:?}"
    );
    town.gateway.set_down(false).await.unwrap();
    for id in [&first.id, &second.id] {
        let bead = town.until_terminal(&rig.rig, id).await;
        assert_eq!(bead.status(), Status::Closed, "{bead:?}");
        assert_eq!((bead.numbers.failures, bead.numbers.prompts), (0, 1));
    }
    let bead = rig.rig.bead(&first.id).await.unwrap().unwrap();
    assert_eq!(bead.numbers.dispatch_no, 1, "its session went on");
    let healed = |rig: &Rig| rig.open_escalations().next().is_none().then_some(());
    town.until(&rig.rig, "healed escalation", healed).await;
    // Subscribers heard of both.
    let gateway = |news: BreakerNews| {
        assert!(
            matches!(news.scope, Some(Scope::Gateway { .. })),
            "{news:?}"
        );
        assert_eq!((&news.town, &news.rig), (&town.id, &rig.id));
        news.turned
    };
    let turned = gateway(news.recv().await.unwrap());
    assert!(matches!(turned, Turned::Tripped { .. }), "{turned:?}");
    assert_eq!(gateway(news.recv().await.unwrap()), Turned::Closed);
    town.stop().await;
}

/// C10: what runs is ended when the budget is used up, and goes on when a person raises it.
#[tokio::test(flavor = "multi_thread")]
async fn a_used_budget_ends_what_runs_and_a_raised_one_lets_it_go_on() {
    let town = town().await;
    let rig = town.working_rig(quick()).await;
    let set = |tokens| Input::SetBudget {
        budget: Budget {
            day: Limit {
                usd: None,
                tokens: Some(tokens),
            },
            ..Budget::default()
        },
        by: by(),
    };
    rig.rig.tell(set(1)).await.unwrap();
    let (bead, _) = rig.rig.sling(scripted("commit")).await.unwrap();
    let stopped = until_bead(&town, &rig, &bead, "budget stop", |_, bead| {
        let last = bead.last_failure.as_ref();
        last.is_some_and(|last| last.failure.class == Class::BudgetStop) && bead.run().is_none()
    })
    .await;
    assert_eq!(stopped.status(), Status::InProgress);
    assert_eq!(
        (stopped.numbers.failures, stopped.numbers.dispatch_no),
        (0, 1)
    );
    assert!(stopped.usage.tokens() > 0, "{:?}", stopped.usage);
    let now = |rig: &Rig| rig.open_escalations().count();
    assert_eq!(rig.rig.look(move |rig, _| now(rig)).await.unwrap(), 1);
    rig.rig.tell(set(100_000_000)).await.unwrap();
    let bead = town.until_terminal(&rig.rig, &bead.id).await;
    assert_eq!(bead.status(), Status::Closed, "{bead:?}");
    assert_eq!(rig.rig.look(move |rig, _| now(rig)).await.unwrap(), 0);
    town.stop().await;
}

/// A stop ends what runs, stays, and the same session goes on after the resume.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_rig_stays_stopped_and_its_session_is_continued_after_the_resume() {
    let town = town().await;
    let rig = town.working_rig(quick()).await;
    let (bead, _) = rig.rig.sling(scripted("resumed-commit")).await.unwrap();
    let working = |_: &Rig, bead: &Bead| bead.run().is_some_and(|run| run.output);
    until_bead(&town, &rig, &bead, "output", working).await;
    let stop = Input::Pause {
        mode: PauseMode::Stop,
        by: by(),
        reason: Some("dinner".to_owned()),
    };
    rig.rig.tell(stop).await.unwrap();
    let stopped = until_bead(&town, &rig, &bead, "end", |_, bead| bead.run().is_none()).await;
    assert_eq!(
        (stopped.numbers.failures, stopped.numbers.dispatch_no),
        (0, 1)
    );
    let why = stopped.clone();
    let look = move |rig: &Rig, now| rig.explain(&why, now);
    let explained = rig.rig.look(look).await.unwrap();
    assert_eq!(explained.cause, "the rig was stopped by tester: dinner");
    rig.rig.tell(Input::Resume { by: by() }).await.unwrap();
    let bead = town.until_terminal(&rig.rig, &bead.id).await;
    assert_eq!(bead.status(), Status::Closed, "{bead:?}");
    assert_eq!(bead.numbers.dispatch_no, 2);
    let sessions: Vec<_> = bead.attempts.iter().map(|a| a.session.clone()).collect();
    assert_eq!(sessions[0], sessions[1], "one session");
    assert!(bead.attempts[0].phases.len() >= 5, "{:?}", bead.attempts[0]);
    town.stop().await;
}

/// The whole town as well: nothing of it is dispatched until the resume.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_town_refuses_without_cost_and_offers_its_slots_when_it_goes_on() {
    let town = town().await;
    let rig = town.working_rig(quick()).await;
    let handle = town.runtime.town(&town.id).unwrap();
    handle.pause(PauseMode::Pause, by(), None).await.unwrap();
    let (bead, _) = rig.rig.sling(scripted("commit")).await.unwrap();
    let held = until_bead(&town, &rig, &bead, "refusal", |rig, _| {
        rig.record().hold.is_some()
    });
    assert_eq!(held.await.numbers.prompts, 0);
    assert!(town.runtime.server_pids().await.is_empty());
    handle.resume(by()).await.unwrap();
    let bead = town.until_terminal(&rig.rig, &bead.id).await;
    assert_eq!(bead.status(), Status::Closed, "{bead:?}");
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_tool_call_again_and_again_is_a_loop_and_charged() {
    let town = town().await;
    let policy = Policy {
        repeats_max: 4,
        attempts_max: 1,
        ..quick()
    };
    let rig = town.working_rig(policy).await;
    let (bead, _) = rig.rig.sling(scripted("loop-tool")).await.unwrap();
    let bead = town.until_terminal(&rig.rig, &bead.id).await;
    assert_eq!(bead.status(), Status::Failed);
    let failure = bead.last_failure.unwrap().failure;
    assert_eq!(failure.class, Class::Stalled);
    assert!(failure.text.contains("the same tool call"), "{failure:?}");
    town.stop().await;
}

/// Nothing moves: the turn is stopped and the session is prompted once more, and that brings it.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_stands_still_is_stopped_and_its_session_prompted_once_more() {
    let town = town().await;
    // Longer than a step of honest work takes on a busy machine.
    let policy = Policy {
        nudge_ms: 8_000,
        lease_ms: 16_000,
        ..quick()
    };
    let rig = town.working_rig(policy).await;
    let (bead, _) = rig.rig.sling(scripted("hang-once")).await.unwrap();
    let bead = town.until_terminal(&rig.rig, &bead.id).await;
    assert_eq!(bead.status(), Status::Closed, "{bead:?}");
    assert_eq!((bead.numbers.dispatch_no, bead.numbers.failures), (1, 0));
    assert_eq!(bead.numbers.prompts, 2, "one dispatch, one nudge");
    town.stop().await;
}

/// C8: a gateway that asks for patience gets it; no breaker, no person, no charge.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_asks_for_patience_pauses_its_credential_and_needs_no_person() {
    let town = town().await;
    let rig = town.working_rig(quick()).await;
    let (bead, _) = rig.rig.sling(scripted("e429ra")).await.unwrap();
    let held = until_bead(&town, &rig, &bead, "pause", |rig, _| {
        rig.shut_by() == Some(Class::RateLimited)
    })
    .await;
    assert_eq!(held.status(), Status::InProgress);
    assert_eq!(held.numbers.failures, 0);
    assert_eq!(
        held.last_failure.map(|last| last.failure.class),
        Some(Class::RateLimited)
    );
    let calls = |rig: &Rig, _| rig.open_escalations().count();
    assert_eq!(rig.rig.look(calls).await.unwrap(), 0);
    town.stop().await;
}

/// What is shut for one model or one account is told once with its fix, and goes on with a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_offered_waits_for_another_one_and_an_empty_account_for_credit() {
    let town = town().await;
    let mut config = town.config(town.credentials().await);
    config.model = Some("scripted/no-such-model".to_owned());
    let rig = town.rig(config.clone(), quick()).await;
    let (bead, _) = rig.rig.sling(scripted("commit")).await.unwrap();
    let told = |rig: &Rig, _: &Bead| {
        rig.shut_by() == Some(Class::ModelNotFound) && rig.open_escalations().count() == 1
    };
    let held = until_bead(&town, &rig, &bead, "refusal", told).await;
    assert_eq!((held.numbers.prompts, held.numbers.failures), (0, 0));
    let text = |rig: &Rig, _| rig.open_escalations().next().and_then(|b| b.body.clone());
    let text = rig.rig.look(text).await.unwrap().unwrap();
    assert!(text.contains(Class::ModelNotFound.fix()), "{text}");
    let patch = runtime::RigPatch {
        model: Some("scripted/auto".to_owned()),
        ..runtime::RigPatch::default()
    };
    let directory = town.runtime.directory();
    directory
        .update_rig("tester", &rig.id, patch)
        .await
        .unwrap();
    let bead = town.until_terminal(&rig.rig, &bead.id).await;
    assert_eq!(bead.status(), Status::Closed, "{bead:?}");

    let (poor, _) = rig.rig.sling(scripted("e402")).await.unwrap();
    let shut = |rig: &Rig, _: &Bead| rig.shut_by() == Some(Class::Billing);
    let poor = until_bead(&town, &rig, &poor, "billing", shut).await;
    assert_eq!(
        (poor.numbers.failures, poor.status()),
        (0, Status::InProgress)
    );
    town.stop().await;
}

/// D1: a session that starts while the disk is full is heard of when there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn full_disk_keeps_no_start_from_being_told_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny_store(&dir.path().join("data")).await;
    let town = town_in(dir).await;
    let policy = Policy {
        lease_ms: 16_000,
        ..quick()
    };
    let rig = town.working_rig(policy).await;
    let (warm, _) = rig.rig.sling(scripted("commit")).await.unwrap();
    town.until_terminal(&rig.rig, &warm.id).await;
    let (bead, _) = rig.rig.sling(scripted("hang")).await.unwrap();
    until_aboard(&town, |_| true).await;
    tiny.fill();
    // Its turn is open, which the rig should have been told.
    until_aboard(&town, |agent| agent.last_activity_at.is_some()).await;
    let asked = |counters: &wellhead::gateway::Counters| counters.by_behaviour.contains_key("hang");
    town.gateway.wait_until(asked, PATIENCE).await.unwrap();
    let refused = rig.rig.sling(scripted("commit")).await.unwrap_err();
    assert!(
        matches!(&refused, runtime::Error::Store(error) if error.is_full()),
        "{refused}"
    );
    let phase = rig.rig.bead(&bead.id).await.unwrap().unwrap().phase;
    assert!(matches!(phase, Phase::Dispatched { .. }), "{phase:?}");
    tiny.free();
    let works = |_: &Rig, bead: &Bead| matches!(bead.phase, Phase::Working { .. });
    let bead = until_bead(&town, &rig, &bead, "start", works).await;
    assert_eq!(bead.numbers.dispatch_no, 1);
    town.stop().await;
}

/// A fresh data directory, whose store alone is on a small file system.
async fn tiny_store(data: &Path) -> Tiny {
    let fresh = Runtime::start(Settings::new(data.to_owned()));
    fresh.await.unwrap().stop(Duration::ZERO).await;
    let (store, kept) = (data.join("store"), data.join("kept"));
    std::fs::rename(&store, &kept).unwrap();
    std::fs::create_dir(&store).unwrap();
    let tiny = Tiny::over(&store);
    let copied = Command::new("cp")
        .arg("-a")
        .args([kept.join("."), store])
        .status();
    assert!(copied.unwrap().success());
    std::fs::remove_dir_all(&kept).unwrap();
    tiny
}

/// Asks until somebody is on board of whom that holds, which only time brings.
async fn until_aboard(town: &Town, wanted: fn(&runtime::Aboard) -> bool) {
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let aboard = town.runtime.container(&town.id).await.aboard;
            if aboard.iter().any(wanted) {
                return;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, wait).await;
    found.expect("somebody on board");
}
