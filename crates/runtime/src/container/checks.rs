//! What needs no session: whether a rig could be dispatched, and whether a shared scope works again.
//!
//! Owns the order of question and answer: the town is asked before anything is sent to a gateway,
//! and told what was found before the rig is. Spends nothing.

use std::sync::Arc;

use durable::Stub;
use rig::{
    Failure, Preflight, Scope,
    town::{Ask, TownInput, TownReply},
};

use super::Kit;
use crate::{
    messages::{CheckRig, CheckScope, RigChecked, RigPort},
    town_actor::{TellTown, TownActor},
};

/// Checks a rig and tells it. A lost answer is the rig's deadline's business.
pub(super) async fn rig(kit: Arc<Kit>, town: Stub<TownActor>, rigs: RigPort, check: CheckRig) {
    let no = check.no;
    let Some(result) = result_of(&kit, &town, &check).await else {
        return;
    };
    let rig = check.rig;
    if let Ok(Err(error)) = rigs.checked.send(RigChecked { rig, no, result }).await {
        tracing::warn!(%error, "the result of a check was not taken");
    }
}

async fn result_of(kit: &Kit, town: &Stub<TownActor>, check: &CheckRig) -> Option<Preflight> {
    let scopes = kit.scopes(&check.config).await;
    let may = TownInput::AskCheck {
        rig: check.rig.clone(),
        scopes: scopes.clone(),
    };
    if let Some(held) = ask(town, may).await? {
        return Some(held);
    }
    let failure = kit.check(&check.config).await.err();
    let own = failure
        .clone()
        .filter(|failure| scopes.against(failure.class).is_none());
    let checked = TownInput::Checked {
        rig: check.rig.clone(),
        ask: Ask {
            scopes,
            config: check.config.clone(),
            // It is not known which bead will be first: any dispatch comes before it.
            prompts: u32::MAX,
        },
        failure: failure.clone(),
    };
    let held = ask(town, checked).await?;
    Some(match (own, held, failure) {
        // The scope of a failure is shut by it; were it not, the rig would have to wait all the same.
        (Some(failure), _, _) | (None, None, Some(failure)) => Preflight::Failed(failure),
        (None, Some(held), _) => held,
        (None, None, None) => Preflight::Passed,
    })
}

/// The town's word; without one nothing is answered.
async fn ask(town: &Stub<TownActor>, input: TownInput) -> Option<Option<Preflight>> {
    match town.send(TellTown(input)).await {
        Ok(TownReply::Held(held)) => {
            Some(held.map(|(refusal, until)| Preflight::Held { refusal, until }))
        }
        Ok(_) => Some(None),
        Err(error) => {
            tracing::warn!(%error, "the town could not be asked; the check is not answered");
            None
        }
    }
}

/// Checks a shared scope and tells the town.
pub(super) async fn scope(kit: Arc<Kit>, town: Stub<TownActor>, check: CheckScope) {
    let CheckScope { no, scope, config } = check;
    let failure = found(&kit, &scope, &config).await.err();
    let told = town.send(TellTown(TownInput::ScopeChecked { no, failure }));
    if let Err(error) = told.await {
        // The check's own deadline counts it as failed.
        tracing::warn!(%error, "the result of a check was not stored");
    }
}

async fn found(kit: &Kit, scope: &Scope, config: &rig::RigConfig) -> Result<(), Failure> {
    match scope {
        Scope::Container => kit.check_program().await,
        Scope::Credential { .. } | Scope::Gateway { .. } => kit.check_gateway(config).await,
        Scope::Model { .. } => kit.check_model(config).await,
    }
}
