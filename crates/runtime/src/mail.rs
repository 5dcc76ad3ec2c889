//! Carries durable effects to their receivers: orders of rigs to containers, what towns tell rigs
//! and their own containers, configurations of the directory to rigs.
//!
//! Owns what counts as delivered: the receiver has taken it durably. Keeps nothing; the outboxes do.

use std::sync::{Arc, OnceLock};

use durable::{BoxFuture, Deliver, Envelope, Namespace, NotDelivered, ObjectId};
use rig::{
    Effect, Notice, Report, RigId, TownId,
    town::{TownEffect, TownInput},
};

use crate::{
    containers::Containers,
    directory::{Configured, Directory},
    messages::{
        AgentDone, BreakerClosed, BreakerTripped, CheckRig, CheckScope, Dispatch, NotTaken,
        Noticed, NudgeAgent, OrderAgent, ResetScopes, RigPort, SlotOffered, StopAgent, Unheard,
    },
    news::{BreakerNews, Newsroom, Turned},
    town_actor::{TellTown, TownActor, TownMail},
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
    let port = containers
        .port(town_of(&effect))
        .await
        .map_err(|e| NotDelivered::new(e.to_string()))?;
    match effect {
        Effect::Dispatch(order) => taken(port.dispatch.send(Dispatch { rig, order }).await),
        Effect::StopAgent {
            dispatch,
            grace_ms,
            reason,
            ..
        } => {
            let stop = StopAgent {
                rig,
                dispatch,
                grace_ms,
                reason,
            };
            taken(port.stop.send(stop).await)
        }
        Effect::Nudge {
            dispatch, no, text, ..
        } => {
            let nudge = NudgeAgent {
                rig,
                dispatch,
                no,
                text,
            };
            taken(port.nudge.send(nudge).await)
        }
        Effect::Preflight { no, config } => {
            taken(port.check.send(CheckRig { rig, no, config }).await)
        }
        Effect::ResetScopes { config, by } => {
            taken(port.reset.send(ResetScopes { config, by }).await)
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
            noted(port.tripped.send(message).await)
        }
        Effect::BreakerClosed { .. } => noted(port.closed.send(BreakerClosed { rig }).await),
    }
}

fn town_of(effect: &Effect) -> &TownId {
    match effect {
        Effect::Dispatch(order) => &order.config.town_id,
        Effect::Preflight { config, .. } | Effect::ResetScopes { config, .. } => &config.town_id,
        Effect::StopAgent { town, .. }
        | Effect::Nudge { town, .. }
        | Effect::BreakerTripped { town, .. }
        | Effect::BreakerClosed { town } => town,
    }
}

fn noted(sent: Result<(), actix::MailboxError>) -> Result<(), NotDelivered> {
    sent.map_err(|error| NotDelivered::new(error.to_string()))
}

fn taken(answer: Result<Result<(), NotTaken>, actix::MailboxError>) -> Result<(), NotDelivered> {
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(not_taken(&error)),
        Err(error) => Err(NotDelivered::new(error.to_string())),
    }
}

fn not_taken(error: &NotTaken) -> NotDelivered {
    match error {
        NotTaken::Later(_) => NotDelivered::new(error.to_string()),
        NotTaken::Broken(_) => NotDelivered::poison(error.to_string()),
    }
}

/// From towns to their rigs, and to their own containers.
pub(crate) struct TownPost {
    /// Set once the desk exists.
    pub(crate) rigs: Arc<OnceLock<RigPort>>,
    /// To note what was told; set once the namespace exists.
    pub(crate) towns: Arc<OnceLock<Namespace<TownActor>>>,
    /// Set once the containers exist.
    pub(crate) containers: Arc<OnceLock<Containers>>,
    /// Who listens to breakers.
    pub(crate) news: Newsroom,
}

impl Deliver<TownMail> for TownPost {
    fn deliver(&self, envelope: Envelope<TownMail>) -> Delivered {
        let (rigs, towns) = (self.rigs.get().cloned(), self.towns.get().cloned());
        let (containers, news) = (self.containers.get().cloned(), self.news.clone());
        Box::pin(async move {
            let starting = || NotDelivered::new("still starting");
            let rigs = rigs.ok_or_else(starting)?;
            let (from, effect) = (envelope.from, TownEffect::from(envelope.effect));
            match effect {
                TownEffect::Report { rig, report } => {
                    let dispatch = report.dispatch.clone();
                    report_to(&rigs, rig.clone(), *report).await?;
                    if let Some(towns) = towns {
                        let told = TownInput::Told { rig, dispatch };
                        // Told again until the town has it: a drain waits for that.
                        let noted = towns.stub(&from).send(TellTown(told)).await;
                        noted.map_err(|error| NotDelivered::new(error.to_string()))?;
                    }
                    Ok(())
                }
                TownEffect::Offer { rig } => heard(rigs.offered.send(SlotOffered { rig }).await),
                TownEffect::Notify { rig, no, notice } => {
                    tell_news(&news, &from, &rig, &notice);
                    heard(rigs.noticed.send(Noticed { rig, no, notice }).await)
                }
                own => to_own_container(containers.ok_or_else(starting)?, &from, own).await,
            }
        })
    }
}

async fn report_to(rigs: &RigPort, rig: RigId, report: Report) -> Result<(), NotDelivered> {
    heard(rigs.done.send(AgentDone { rig, report }).await)
}

/// A stale one is settled as well: nobody waits for it any more.
fn heard(answer: Result<Result<(), Unheard>, actix::MailboxError>) -> Result<(), NotDelivered> {
    match answer {
        Ok(Ok(()) | Err(Unheard::Stale)) => Ok(()),
        Ok(Err(error @ Unheard::Broken(_))) => Err(NotDelivered::poison(error.to_string())),
        Ok(Err(error)) => Err(NotDelivered::new(error.to_string())),
        Err(error) => Err(NotDelivered::new(error.to_string())),
    }
}

fn tell_news(news: &Newsroom, town: &ObjectId, rig: &RigId, notice: &Notice) {
    let (scope, turned) = match notice {
        Notice::Tripped {
            scope,
            failure,
            next_probe_at,
        } => {
            let (failure, next_probe_at) = (failure.clone(), *next_probe_at);
            let turned = Turned::Tripped {
                failure,
                next_probe_at,
            };
            (scope.clone(), turned)
        }
        Notice::Closed { scope } => (scope.clone(), Turned::Closed),
        Notice::BudgetWarned { .. } | Notice::BudgetStopped { .. } | Notice::BudgetFree => return,
    };
    if let Ok(town) = TownId::new(town.as_str()) {
        let (rig, scope) = (rig.clone(), Some(scope));
        news.tell(BreakerNews {
            town,
            rig,
            scope,
            turned,
        });
    }
}

/// What a town wants of the container beside it.
async fn to_own_container(
    containers: Containers,
    town: &ObjectId,
    effect: TownEffect,
) -> Result<(), NotDelivered> {
    let town = TownId::new(town.as_str()).map_err(|e| NotDelivered::poison(e.to_string()))?;
    let sent = match effect {
        TownEffect::CheckScope { no, scope, config } => {
            let check = CheckScope { no, scope, config };
            containers.order(&town, check).await
        }
        TownEffect::AnswerOffline { rig, dispatch } => {
            let end = None;
            let order = OrderAgent { rig, dispatch, end };
            containers.order(&town, order).await
        }
        TownEffect::EndSession {
            rig,
            dispatch,
            failure,
        } => {
            let end = Some(failure);
            let order = OrderAgent { rig, dispatch, end };
            containers.order(&town, order).await
        }
        TownEffect::Report { .. } | TownEffect::Offer { .. } | TownEffect::Notify { .. } => {
            return Ok(());
        }
    };
    sent.map_err(|error| not_taken(&error))
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
