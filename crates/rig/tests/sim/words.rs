//! The container's words: how it puts what it has to report.
//!
//! Owns the shape of reports that need no state. Knows neither sessions nor records.

use wellhead_rig::{
    AgentId, Class, Completion, CredentialSource, DispatchId, Failure, Incarnation, Input, Outcome,
    Preflight, Report, RigConfig, Stage, Usage,
};

use super::container::{Key, Out, Scene};

pub(crate) fn external(id: &DispatchId, agent: &AgentId, ok: bool) -> Vec<Out> {
    let completion = if ok {
        Completion::Completed
    } else {
        let reason = Some("said so".to_owned());
        Completion::Failed { reason }
    };
    let (agent, dispatch) = (agent.clone(), Some(id.clone()));
    let input = Input::Completed {
        agent,
        dispatch,
        completion,
    };
    vec![Out::Report(Key::External(id.clone()), input)]
}

/// What the checks of a configuration find.
pub(crate) fn checked(config: &RigConfig, scene: &mut Scene<'_>) -> Preflight {
    let fail = |class| Preflight::Failed(Failure::new(class, Stage::Preflight, "x"));
    if config.credentials == CredentialSource::None {
        fail(Class::Credentials)
    } else if scene.rng.chance(scene.weather.preflight_fails) {
        // Only what a check can see.
        let classes = Class::ALL.get(..7).unwrap_or(&[]);
        fail(scene.rng.pick(classes).unwrap_or(Class::Git))
    } else {
        Preflight::Passed
    }
}

pub(crate) fn report(id: &DispatchId, outcome: Outcome) -> Report {
    Report {
        dispatch: id.clone(),
        outcome,
        session: None,
        output: false,
        usage: Usage::default(),
        phases: Vec::new(),
        last_output: None,
    }
}

pub(crate) fn incarnation(no: u64) -> Incarnation {
    Incarnation::new(format!("life-{no}")).expect("a valid id")
}

pub(crate) fn no_one() -> AgentId {
    AgentId::new("no-one").expect("a valid id")
}
