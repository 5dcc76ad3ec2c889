//! Carries durable effects to their receivers: orders of rigs to containers, reports of containers
//! to rigs, configurations of the directory to rigs.
//!
//! Owns what counts as delivered: the receiver has taken it durably. Keeps nothing; the outboxes do.

use std::sync::{Arc, OnceLock};

use durable::{BoxFuture, Deliver, Envelope, Namespace, NotDelivered};
use rig::{Effect, RigId};

use crate::{
    container::{Ledger, LedgerEffect, Told},
    containers::Containers,
    directory::{Configured, Directory},
    messages::{
        AgentDone, BreakerClosed, BreakerTripped, CheckRig, Dispatch, NotTaken, RigPort, StopAgent,
        Unheard,
    },
};

type Delivered = BoxFuture<'static, Result<(), NotDelivered>>;

/// From rigs to the container of their town.
pub(crate) struct RigMail {
    /// Set once the containers exist; until then everything waits in the outbox.
    pub(crate) containers: Arc<OnceLock<Containers>>,
}

impl Deliver<Effect> for RigMail {
    fn deliver(&self, envelope: Envelope<Effect>) -> Delivered {
        let containers = self.containers.get().cloned();
        Box::pin(async move {
            let containers = containers.ok_or_else(|| NotDelivered::new("still starting"))?;
            let rig = RigId::new(envelope.from.as_str())
                .map_err(|error| NotDelivered::new(error.to_string()))?;
            to_container(&containers, rig, envelope.effect).await
        })
    }
}

async fn to_container(
    containers: &Containers,
    rig: RigId,
    effect: Effect,
) -> Result<(), NotDelivered> {
    let town = match &effect {
        Effect::Dispatch(order) => &order.config.town_id,
        Effect::Preflight { config, .. } => &config.town_id,
        Effect::StopAgent { town, .. }
        | Effect::BreakerTripped { town, .. }
        | Effect::BreakerClosed { town } => town,
    };
    let port = containers
        .port(town)
        .await
        .map_err(|e| NotDelivered::new(e.to_string()))?;
    match effect {
        Effect::Dispatch(order) => taken(port.dispatch.send(Dispatch { rig, order }).await),
        Effect::StopAgent {
            dispatch,
            grace_ms,
            reason,
            ..
        } => taken(
            port.stop
                .send(StopAgent {
                    rig,
                    dispatch,
                    grace_ms,
                    reason,
                })
                .await,
        ),
        Effect::Preflight { no, config } => {
            taken(port.check.send(CheckRig { rig, no, config }).await)
        }
        Effect::BreakerTripped {
            failure,
            next_probe_at,
            ..
        } => {
            let message = BreakerTripped {
                rig,
                failure,
                next_probe_at,
            };
            port.tripped
                .send(message)
                .await
                .map_err(|e| NotDelivered::new(e.to_string()))
        }
        Effect::BreakerClosed { .. } => {
            let sent = port.closed.send(BreakerClosed { rig }).await;
            sent.map_err(|e| NotDelivered::new(e.to_string()))
        }
    }
}

fn taken(answer: Result<Result<(), NotTaken>, actix::MailboxError>) -> Result<(), NotDelivered> {
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(NotDelivered::new(error.to_string())),
        Err(error) => Err(NotDelivered::new(error.to_string())),
    }
}

/// From containers to the rigs of their dispatches.
pub(crate) struct LedgerMail {
    /// Set once the desk exists.
    pub(crate) rigs: Arc<OnceLock<RigPort>>,
    /// To note what was told; set once the namespace exists.
    pub(crate) ledgers: Arc<OnceLock<Namespace<Ledger>>>,
}

impl Deliver<LedgerEffect> for LedgerMail {
    fn deliver(&self, envelope: Envelope<LedgerEffect>) -> Delivered {
        let (rigs, ledgers) = (self.rigs.get().cloned(), self.ledgers.get().cloned());
        Box::pin(async move {
            let rigs = rigs.ok_or_else(|| NotDelivered::new("still starting"))?;
            let LedgerEffect { rig, report } = envelope.effect;
            let dispatch = report.dispatch.clone();
            match rigs
                .done
                .send(AgentDone {
                    rig: rig.clone(),
                    report,
                })
                .await
            {
                // A stale report is settled as well: nobody waits for it any more.
                Ok(Ok(()) | Err(Unheard::Stale)) => {}
                Ok(Err(error)) => return Err(NotDelivered::new(error.to_string())),
                Err(error) => return Err(NotDelivered::new(error.to_string())),
            }
            if let Some(ledgers) = ledgers {
                // Only bookkeeping: without it the report is repeated once more after a restart.
                let _ = ledgers
                    .stub(&envelope.from)
                    .send(Told { rig, dispatch })
                    .await;
            }
            Ok(())
        })
    }
}

/// From the directory to the rigs that it configures.
pub(crate) struct DirectoryMail {
    /// Set once the directory exists.
    pub(crate) directory: Arc<OnceLock<Directory>>,
}

impl Deliver<Configured> for DirectoryMail {
    fn deliver(&self, envelope: Envelope<Configured>) -> Delivered {
        let directory = self.directory.get().cloned();
        Box::pin(async move {
            let directory = directory.ok_or_else(|| NotDelivered::new("still starting"))?;
            let brought = directory.bring(&envelope.effect.rig).await;
            brought.map_err(|error| NotDelivered::new(error.to_string()))
        })
    }
}
