//! The `ContainerActor`: takes a town's messages, runs one task per dispatch, and remembers through
//! the ledger.
//!
//! Owns who is on board. Each message that promises something is recorded durably before it is
//! acknowledged. Knows no rig's state; it answers to ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use actix::prelude::*;
use durable::Stub;
use rig::{DispatchId, Incarnation, RigId};
use tokio::sync::mpsc;

use super::{
    Aboard, Kit, Sight,
    ledger::{AskStop, Finish, Ledger, Stopping, Take, Taken},
};
use crate::{
    agent::{self, Agent, StopOrder},
    messages::{
        BreakerClosed, BreakerTripped, CheckRig, Dispatch, NotTaken, RigChecked, RigPort, StopAgent,
    },
};

/// Orders to stop one agent that wait for its task; more than a few say nothing new.
const STOPS_MAX: usize = 8;

/// A town's container.
pub(crate) struct ContainerActor {
    pub(crate) kit: Arc<Kit>,
    pub(crate) ledger: Stub<Ledger>,
    pub(crate) rigs: RigPort,
    pub(crate) incarnation: Incarnation,
    crew: BTreeMap<(RigId, DispatchId), mpsc::Sender<StopOrder>>,
    /// What can be seen of each of the crew.
    sights: BTreeMap<(RigId, DispatchId), Sight>,
    /// Stops that came between the ledger's word and the task's start.
    early_stops: BTreeSet<(RigId, DispatchId)>,
    /// Rigs whose breaker is open, with the reason.
    tripped: BTreeMap<RigId, String>,
    /// Nothing is taken any more: the process ends.
    draining: bool,
}

impl ContainerActor {
    pub(crate) fn new(
        kit: Arc<Kit>,
        ledger: Stub<Ledger>,
        rigs: RigPort,
        incarnation: Incarnation,
    ) -> Self {
        Self {
            kit,
            ledger,
            rigs,
            incarnation,
            crew: BTreeMap::new(),
            sights: BTreeMap::new(),
            early_stops: BTreeSet::new(),
            tripped: BTreeMap::new(),
            draining: false,
        }
    }

    /// Starts the task of a dispatch that the ledger has recorded.
    fn launch(&mut self, ctx: &mut Context<Self>, dispatch: Dispatch) {
        let (stop, stops) = mpsc::channel(STOPS_MAX);
        let Dispatch { rig, order } = dispatch;
        let key = (rig.clone(), order.dispatch.clone());
        if self.early_stops.remove(&key) {
            // A fresh channel has room for one.
            let _ = stop.try_send(StopOrder {
                grace_ms: 0,
                reason: "stopped early".to_owned(),
                is_drain: false,
            });
        }
        self.crew.insert(key.clone(), stop);
        let sight = Sight::new(rig.clone(), order.agent.clone(), order.dispatch.clone());
        self.sights.insert(key.clone(), sight.clone());
        let agent = Agent {
            kit: Arc::clone(&self.kit),
            ledger: self.ledger.clone(),
            rigs: self.rigs.clone(),
            incarnation: self.incarnation.clone(),
            rig,
            order,
            sight,
        };
        let ledger = self.ledger.clone();
        let me = ctx.address();
        actix::spawn(async move {
            let (rig, dispatch) = key.clone();
            // In a task of its own, so that even a panic in it ends in a report.
            let report = match actix::spawn(agent.run(stops)).await {
                Ok(report) => report,
                Err(error) => agent::broken(dispatch, &error.to_string()),
            };
            agent::repeat_until_stored(&ledger, Finish { rig, report }).await;
            me.do_send(Stopped { key });
        });
    }
}

impl Actor for ContainerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Lifecycle messages wait for a place; this bounds bursts, not work.
        ctx.set_mailbox_capacity(1_024);
    }
}

/// A task has ended and its report is stored.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stopped {
    key: (RigId, DispatchId),
}

/// Nothing more is taken, and everything on board ends: within the grace if it can.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain {
    pub(crate) grace_ms: i64,
}

/// Who is on board?
#[derive(Message)]
#[rtype(result = "Vec<Aboard>")]
pub(crate) struct Aboards;

/// How many agents are on board?
#[derive(Message)]
#[rtype(result = "usize")]
pub(crate) struct Crew;

impl Handler<Dispatch> for ContainerActor {
    type Result = ResponseActFuture<Self, Result<(), NotTaken>>;

    fn handle(&mut self, message: Dispatch, _ctx: &mut Self::Context) -> Self::Result {
        if self.draining {
            // It stays in the rig's outbox, for the next life of the container.
            let refused = Err(NotTaken("wellhead is ending".to_owned()));
            return Box::pin(actix::fut::ready(refused));
        }
        let take = Take {
            rig: message.rig.clone(),
            dispatch: message.order.dispatch.clone(),
        };
        let taken = self.ledger.send(take);
        Box::pin(
            taken
                .into_actor(self)
                .map(move |taken, actor, ctx| match taken {
                    Ok(Taken::Fresh) => {
                        actor.launch(ctx, message);
                        Ok(())
                    }
                    Ok(Taken::Known) => Ok(()),
                    Err(error) => Err(NotTaken(error.to_string())),
                }),
        )
    }
}

impl Handler<StopAgent> for ContainerActor {
    type Result = ResponseActFuture<Self, Result<(), NotTaken>>;

    fn handle(&mut self, message: StopAgent, _ctx: &mut Self::Context) -> Self::Result {
        let StopAgent {
            rig,
            dispatch,
            grace_ms,
            reason,
        } = message;
        let asked = self.ledger.send(AskStop {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
        });
        Box::pin(
            asked
                .into_actor(self)
                .map(move |answer, actor, _ctx| match answer {
                    Ok(Stopping::Over) => Ok(()),
                    Ok(Stopping::Runs) => {
                        let key = (rig, dispatch);
                        match actor.crew.get(&key) {
                            // A full channel already holds orders to stop.
                            Some(stop) => {
                                let is_drain = false;
                                drop(stop.try_send(StopOrder {
                                    grace_ms,
                                    reason,
                                    is_drain,
                                }));
                            }
                            None => drop(actor.early_stops.insert(key)),
                        }
                        Ok(())
                    }
                    Err(error) => Err(NotTaken(error.to_string())),
                }),
        )
    }
}

impl Handler<CheckRig> for ContainerActor {
    type Result = Result<(), NotTaken>;

    fn handle(&mut self, message: CheckRig, _ctx: &mut Self::Context) -> Self::Result {
        let (kit, rigs) = (Arc::clone(&self.kit), self.rigs.clone());
        actix::spawn(async move {
            let CheckRig { rig, no, config } = message;
            let result = kit.check(&config).await;
            // A lost answer is the rig's deadline's business.
            if let Ok(Err(error)) = rigs.checked.send(RigChecked { rig, no, result }).await {
                tracing::warn!(%error, "the result of a check was not taken");
            }
        });
        Ok(())
    }
}

impl Handler<BreakerTripped> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: BreakerTripped, _ctx: &mut Self::Context) {
        let BreakerTripped {
            rig,
            failure,
            next_probe_at,
        } = message;
        tracing::warn!(%rig, class = %failure.class, text = failure.text,
            next_probe_at = next_probe_at.0, "breaker opened");
        self.tripped.insert(rig, failure.text);
    }
}

impl Handler<BreakerClosed> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: BreakerClosed, _ctx: &mut Self::Context) {
        if self.tripped.remove(&message.rig).is_some() {
            tracing::info!(rig = %message.rig, "breaker closed");
        }
    }
}

impl Handler<Stopped> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: Stopped, _ctx: &mut Self::Context) {
        self.crew.remove(&message.key);
        self.sights.remove(&message.key);
        self.early_stops.remove(&message.key);
    }
}

impl Handler<Drain> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: Drain, _ctx: &mut Self::Context) {
        self.draining = true;
        for stop in self.crew.values() {
            let order = StopOrder {
                grace_ms: message.grace_ms,
                reason: "wellhead ends".to_owned(),
                is_drain: true,
            };
            // A full channel already holds orders to stop.
            let _ = stop.try_send(order);
        }
    }
}

impl Handler<Aboards> for ContainerActor {
    type Result = Vec<Aboard>;

    fn handle(&mut self, _message: Aboards, _ctx: &mut Self::Context) -> Self::Result {
        self.sights.values().map(Sight::see).collect()
    }
}

impl Handler<Crew> for ContainerActor {
    type Result = usize;

    fn handle(&mut self, _message: Crew, _ctx: &mut Self::Context) -> Self::Result {
        self.crew.len()
    }
}
