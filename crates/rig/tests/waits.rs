//! Waits end by themselves: over a jump of the clock, and when nobody wants their end any more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use wellhead_rig::{
    Beat, Class, CredentialSource, Effect, Env, Failure, Incarnation, Input, NewBead, Outcome,
    Preflight, Refusal, Report, ReviewMode, Rig, RigConfig, RigId, Scopes, Stage, Timestamp,
    TownId, Usage,
    town::{Ask, Town, TownEffect, TownInput, TownReply},
};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const NOW: Timestamp = Timestamp(20_000 * DAY_MS);

fn config() -> RigConfig {
    RigConfig {
        town_id: TownId::new("town").unwrap(),
        name: "rig".to_owned(),
        git_url: "https://git.example/it".to_owned(),
        default_branch: "main".to_owned(),
        model: None,
        review: ReviewMode::Off,
        credentials: CredentialSource::Environment,
    }
}

fn step(rig: &mut Rig, input: Input, now: Timestamp) -> Vec<Effect> {
    let nonce = u128::try_from(now.0).unwrap();
    let step = rig.step(input, Env { now, nonce }).unwrap();
    rig.apply(step.changes);
    step.effects
}

fn town_step(town: &mut Town, input: TownInput, now: Timestamp) -> (Vec<TownEffect>, TownReply) {
    let step = town.step(input, Env { now, nonce: 7 });
    town.apply(step.changes);
    (step.effects, step.reply)
}

#[test]
fn a_refused_bead_does_not_wait_a_day_when_the_clock_goes_back_a_day() {
    let mut rig = Rig::new();
    step(&mut rig, Input::Configure(config()), NOW);
    step(&mut rig, Input::Sling(NewBead::issue("work")), NOW);
    let result = Preflight::Passed;
    let sent = step(&mut rig, Input::PreflightDone { no: 1, result }, NOW);
    let [Effect::Dispatch(order)] = sent.as_slice() else {
        panic!("no dispatch: {sent:?}")
    };
    let refused = NOW.plus_ms(60_000);
    let report = Report {
        dispatch: order.dispatch.clone(),
        outcome: Outcome::Refused {
            refusal: Refusal::Full { slots: 1 },
            until: refused.plus_ms(30_000),
        },
        session: None,
        output: false,
        usage: Usage::default(),
        phases: Vec::new(),
        last_output: None,
    };
    step(&mut rig, Input::AgentDone(report), refused);
    let back = refused.plus_ms(-DAY_MS);
    let started = Input::ContainerStarted {
        incarnation: Incarnation::new("next").unwrap(),
        live: Vec::new(),
        unreported: Vec::new(),
    };
    step(&mut rig, started, back);
    let alarm = rig.next_alarm(back).expect("the bead waits");
    assert!(alarm <= back.plus_ms(1_000), "asleep until {alarm:?}");
    let sent = step(&mut rig, Input::Alarm, alarm);
    let asks = matches!(sent.as_slice(), [Effect::Preflight { .. }]);
    assert!(asks, "it does not go on: {sent:?}");
}

#[test]
fn a_scope_that_nobody_asks_for_any_more_is_not_checked_for_ever() {
    let (mut town, rig) = (Town::new(), RigId::new("rig").unwrap());
    let ask = Ask {
        scopes: Scopes {
            credential: "gone".to_owned(),
            ..Scopes::default()
        },
        config: config(),
        prompts: 0,
    };
    let missing = || Some(Failure::new(Class::Credentials, Stage::Preflight, "none"));
    let failure = missing();
    let checked = TownInput::Checked { rig, ask, failure };
    town_step(&mut town, checked, NOW);
    let (mut now, mut checks) = (NOW, 0);
    while let Some(alarm) = town.next_alarm(now) {
        now = alarm;
        assert!(now < NOW.plus_ms(DAY_MS), "{checks} checks and no end");
        let (effects, _) = town_step(&mut town, TownInput::Alarm, now);
        for effect in effects {
            if let TownEffect::CheckScope { no, .. } = effect {
                checks += 1;
                let failure = missing();
                town_step(&mut town, TownInput::ScopeChecked { no, failure }, now);
            }
        }
    }
    assert!((1..=6).contains(&checks), "{checks} checks");
}

#[test]
fn after_a_jump_back_the_shortest_clock_of_a_session_wakes_the_rig() {
    let mut rig = Rig::new();
    step(&mut rig, Input::Configure(config()), NOW);
    step(&mut rig, Input::Sling(NewBead::issue("work")), NOW);
    let result = Preflight::Passed;
    let sent = step(&mut rig, Input::PreflightDone { no: 1, result }, NOW);
    let [Effect::Dispatch(order)] = sent.as_slice() else {
        panic!("no dispatch: {sent:?}")
    };
    let incarnation = Incarnation::new("one").unwrap();
    let started = Input::AgentStarted {
        dispatch: order.dispatch.clone(),
        incarnation: incarnation.clone(),
        session: "ses".to_owned(),
    };
    step(&mut rig, started, NOW);
    // Nothing has moved for a while: the nudge comes before the end of the lease.
    let policy = rig.policy().clone();
    let late = NOW.plus_ms(policy.nudge_ms - 1_000);
    let beat = Beat {
        dispatch: order.dispatch.clone(),
        incarnation,
        progress_at: None,
        tool_since: None,
        repeats: 0,
        output: false,
        usage: Usage::default(),
    };
    step(&mut rig, Input::Heartbeat(beat), late);
    let back = late.plus_ms(-DAY_MS);
    let alarm = rig.next_alarm(back).expect("a session runs");
    assert_eq!(alarm, back.plus_ms(policy.lease_ms));
}
