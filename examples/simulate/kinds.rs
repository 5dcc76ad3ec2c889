//! Rigs and towns: what they are made of, and how their steps are judged.
//!
//! Owns everything in which the two differ for whoever looks on.

use std::{collections::BTreeMap, fmt::Debug};

use durable::ObjectId;
use rig::{
    Change, Effect, Input, Refused, Rig, Step, Timestamp, TownId,
    invariants::{self, Look, RigAccount, TownAccount},
    town::{Town, TownChange, TownEffect, TownInput, TownStep},
};

use crate::{
    book::Notes,
    plan::TURN_TOKENS_MAX,
    rig_sights,
    shadow::{RigShadow, Shadow, TownShadow},
    town_sights,
};

/// What a step writes, and what it sends.
pub(crate) type Parts<'s, K> = (&'s [<K as Kind>::Change], &'s [<K as Kind>::Effect]);

/// A kind of object.
pub(crate) trait Kind: Sized + Send + Sync + 'static {
    type State: Clone + PartialEq + Debug + Default;
    type Input: PartialEq + Debug;
    type Decision;
    type Change: Clone + Send;
    type Effect: Clone + PartialEq + Debug + Send;
    /// What the checks remember of the past, as of one step.
    type Account: Clone + Default + Send;

    fn apply(state: &mut Self::State, changes: Vec<Self::Change>);
    fn shadows(notes: &mut Notes) -> &mut BTreeMap<String, Shadow<Self>>;
    fn is_alarm(input: &Self::Input) -> bool;
    /// What it writes and sends, unless it is a refusal.
    fn parts(decision: &Self::Decision) -> Option<Parts<'_, Self>>;
    fn story(decision: &Self::Decision) -> String;
    fn judge(
        state: &Self::State,
        input: &Self::Input,
        decision: &Self::Decision,
        now: Timestamp,
        account: &mut Self::Account,
    ) -> Result<(), String>;
    fn judge_state(
        notes: &Notes,
        id: &ObjectId,
        state: &Self::State,
        look: Look,
        account: &Self::Account,
    ) -> Result<(), String>;
    /// Counts what is rare.
    fn see(notes: &mut Notes, state: &Self::State, input: &Self::Input, decision: &Self::Decision);
}

/// Rigs.
pub(crate) struct OfRig;

impl Kind for OfRig {
    type State = Rig;
    type Input = Input;
    type Decision = Result<Step, Refused>;
    type Change = Change;
    type Effect = Effect;
    type Account = RigAccount;

    fn apply(state: &mut Rig, changes: Vec<Change>) {
        state.apply(changes);
    }

    fn shadows(notes: &mut Notes) -> &mut BTreeMap<String, RigShadow> {
        &mut notes.rigs
    }

    fn is_alarm(input: &Input) -> bool {
        matches!(input, Input::Alarm)
    }

    fn parts(decision: &Self::Decision) -> Option<Parts<'_, Self>> {
        let step = decision.as_ref().ok()?;
        Some((&step.changes, &step.effects))
    }

    fn story(decision: &Self::Decision) -> String {
        match decision {
            Ok(step) => format!("{:?} {:?}", step.effects, step.reply),
            Err(refused) => format!("refused: {refused}"),
        }
    }

    fn judge(
        state: &Rig,
        input: &Input,
        decision: &Self::Decision,
        now: Timestamp,
        account: &mut RigAccount,
    ) -> Result<(), String> {
        match decision {
            Ok(step) => invariants::rig_step(state, input, step, now, TURN_TOKENS_MAX, account),
            Err(_) => invariants::rig_refusal(state, input),
        }
    }

    fn judge_state(
        _notes: &Notes,
        _id: &ObjectId,
        state: &Rig,
        look: Look,
        account: &RigAccount,
    ) -> Result<(), String> {
        invariants::rig_state(state, look, account)
    }

    fn see(notes: &mut Notes, state: &Rig, input: &Input, decision: &Self::Decision) {
        let step = match decision {
            Ok(step) => step,
            Err(Refused::Stale(_)) => return notes.stats.saw("stale refused"),
            Err(_) => return,
        };
        rig_sights::see(state, input, step, &mut notes.stats);
        let sent = step.dispatches().count();
        if sent > 0 {
            notes.dispatched_at = notes.now();
            notes.dispatched += sent as u64;
        }
    }
}

/// Towns.
pub(crate) struct OfTown;

impl Kind for OfTown {
    type State = Town;
    type Input = TownInput;
    type Decision = TownStep;
    type Change = TownChange;
    type Effect = TownEffect;
    type Account = TownAccount;

    fn apply(state: &mut Town, changes: Vec<TownChange>) {
        state.apply(changes);
    }

    fn shadows(notes: &mut Notes) -> &mut BTreeMap<String, TownShadow> {
        &mut notes.towns
    }

    fn is_alarm(input: &TownInput) -> bool {
        matches!(input, TownInput::Alarm)
    }

    fn parts(step: &TownStep) -> Option<Parts<'_, Self>> {
        Some((&step.changes, &step.effects))
    }

    fn story(step: &TownStep) -> String {
        format!("{:?} {:?}", step.effects, step.reply)
    }

    fn judge(
        state: &Town,
        input: &TownInput,
        step: &TownStep,
        now: Timestamp,
        account: &mut TownAccount,
    ) -> Result<(), String> {
        invariants::town_step(state, input, step, now, TURN_TOKENS_MAX, account)
    }

    fn judge_state(
        notes: &Notes,
        id: &ObjectId,
        state: &Town,
        look: Look,
        account: &TownAccount,
    ) -> Result<(), String> {
        invariants::town_state(state, look, account)?;
        let town = TownId::new(id.as_str()).map_err(|error| error.to_string())?;
        notes.processes.are_recorded(&town, state)
    }

    fn see(notes: &mut Notes, state: &Town, input: &TownInput, step: &TownStep) {
        town_sights::see(state, input, step, &mut notes.stats);
    }
}
