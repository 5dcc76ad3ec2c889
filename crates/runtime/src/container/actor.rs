//! The `ContainerActor`: takes a town's messages, runs one task per dispatch, and does only what the
//! town has granted durably.
//!
//! Owns who is on board. Each message that promises something is recorded durably before it is
//! acknowledged. Knows no rig's state; it answers to ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use actix::prelude::*;
use durable::Stub;
use rig::{
    DispatchId, Incarnation, RigId,
    town::{Ask, Stopping, Taken, TownInput, TownReply},
};
use tokio::sync::mpsc;

use super::{Aboard, Kit, Sight, checks};
use crate::{
    agent::{self, Agent, Order, StopOrder},
    messages::{
        BreakerClosed, BreakerTripped, CheckRig, CheckScope, Dispatch, NotTaken, NudgeAgent,
        OrderAgent, ResetScopes, RigPort, StopAgent,
    },
    news::{BreakerNews, Newsroom, Turned},
    town_actor::{TellTown, TownActor},
};

/// Orders to one agent that wait for its task; more than a few say nothing new.
const ORDERS_MAX: usize = 8;

/// A town's container.
pub(crate) struct ContainerActor {
    pub(crate) kit: Arc<Kit>,
    pub(crate) town: Stub<TownActor>,
    pub(crate) rigs: RigPort,
    pub(crate) incarnation: Incarnation,
    crew: BTreeMap<(RigId, DispatchId), mpsc::Sender<Order>>,
    /// What can be seen of each of the crew.
    sights: BTreeMap<(RigId, DispatchId), Sight>,
    /// Stops that came between the town's word and the task's start.
    early_stops: BTreeSet<(RigId, DispatchId)>,
    /// Who listens to breakers.
    news: Newsroom,
    /// Nothing is taken any more: the process ends.
    draining: bool,
}

impl ContainerActor {
    pub(crate) fn new(
        kit: Arc<Kit>,
        town: Stub<TownActor>,
        rigs: RigPort,
        incarnation: Incarnation,
        news: Newsroom,
    ) -> Self {
        Self {
            kit,
            town,
            rigs,
            incarnation,
            crew: BTreeMap::new(),
            sights: BTreeMap::new(),
            early_stops: BTreeSet::new(),
            news,
            draining: false,
        }
    }

    /// Starts the task of a dispatch that the town has granted.
    fn launch(&mut self, ctx: &mut Context<Self>, dispatch: Dispatch) {
        let (order_to, orders) = mpsc::channel(ORDERS_MAX);
        let Dispatch { rig, order } = dispatch;
        let key = (rig.clone(), order.dispatch.clone());
        if self.early_stops.remove(&key) {
            // A fresh channel has room for one.
            let _ = order_to.try_send(Order::Stop(StopOrder {
                grace_ms: 0,
                reason: "stopped early".to_owned(),
                is_drain: false,
            }));
        }
        self.crew.insert(key.clone(), order_to);
        let sight = Sight::new(rig.clone(), order.agent.clone(), order.dispatch.clone());
        self.sights.insert(key.clone(), sight.clone());
        let agent = Agent {
            kit: Arc::clone(&self.kit),
            town: self.town.clone(),
            rigs: self.rigs.clone(),
            incarnation: self.incarnation.clone(),
            rig,
            order,
            sight,
        };
        let town = self.town.clone();
        let me = ctx.address();
        actix::spawn(async move {
            let (rig, dispatch) = key.clone();
            // In a task of its own, so that even a panic in it ends in a report.
            let report = match actix::spawn(agent.run(orders)).await {
                Ok(report) => report,
                Err(error) => agent::broken(dispatch, &error.to_string()),
            };
            agent::repeat_until_stored(&town, rig, report).await;
            me.do_send(Stopped { key });
        });
    }
}

impl ContainerActor {
    fn tell_news(&self, rig: RigId, turned: Turned) {
        self.news.tell(BreakerNews {
            town: self.kit.town.clone(),
            rig,
            scope: None,
            turned,
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
            let refused = Err(NotTaken::Later("wellhead is ending".to_owned()));
            return Box::pin(actix::fut::ready(refused));
        }
        let (kit, town) = (Arc::clone(&self.kit), self.town.clone());
        let granted = async move {
            let order = &message.order;
            let ask = Ask {
                scopes: kit.scopes(&order.config).await,
                config: order.config.clone(),
                prompts: order.prompts,
            };
            let take = TownInput::Take {
                rig: message.rig.clone(),
                dispatch: order.dispatch.clone(),
                ask,
            };
            let granted = town.send(TellTown(take)).await;
            (message, granted)
        };
        Box::pin(
            granted
                .into_actor(self)
                .map(|(message, granted), actor, ctx| match granted {
                    Ok(TownReply::Taken(Taken::Fresh)) => {
                        actor.launch(ctx, message);
                        Ok(())
                    }
                    // Known, or refused: the report is on its way.
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.into()),
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
        let asked = self.town.send(TellTown(TownInput::AskStop {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
        }));
        Box::pin(
            asked
                .into_actor(self)
                .map(move |answer, actor, _ctx| match answer {
                    Ok(TownReply::Stopping(Stopping::Runs)) => {
                        let key = (rig, dispatch);
                        let order = StopOrder {
                            grace_ms,
                            reason,
                            is_drain: false,
                        };
                        if let Some(to) = actor.crew.get(&key) {
                            hand(to, Order::Stop(order))
                        } else {
                            actor.early_stops.insert(key);
                            Ok(())
                        }
                    }
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.into()),
                }),
        )
    }
}

/// A full channel is tried again by the sender's outbox; one whose task has ended needs nothing.
fn hand(to: &mpsc::Sender<Order>, order: Order) -> Result<(), NotTaken> {
    match to.try_send(order) {
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        Err(mpsc::error::TrySendError::Full(_)) => Err(NotTaken::Later(
            "the agent has not heeded its last orders yet".to_owned(),
        )),
    }
}

impl Handler<NudgeAgent> for ContainerActor {
    type Result = Result<(), NotTaken>;

    fn handle(&mut self, message: NudgeAgent, _ctx: &mut Self::Context) -> Self::Result {
        let NudgeAgent {
            rig,
            dispatch,
            no,
            text,
        } = message;
        let to = self.crew.get(&(rig, dispatch));
        to.map_or(Ok(()), |to| hand(to, Order::Nudge { no, text }))
    }
}

impl Handler<OrderAgent> for ContainerActor {
    type Result = Result<(), NotTaken>;

    fn handle(&mut self, message: OrderAgent, _ctx: &mut Self::Context) -> Self::Result {
        let OrderAgent { rig, dispatch, end } = message;
        let order = end.map_or(Order::RetryOffline, Order::End);
        let to = self.crew.get(&(rig, dispatch));
        to.map_or(Ok(()), |to| hand(to, order))
    }
}

impl Handler<ResetScopes> for ContainerActor {
    type Result = ResponseFuture<Result<(), NotTaken>>;

    fn handle(&mut self, message: ResetScopes, _ctx: &mut Self::Context) -> Self::Result {
        let (kit, town) = (Arc::clone(&self.kit), self.town.clone());
        Box::pin(async move {
            let ResetScopes { config, by } = message;
            let scopes = kit.scopes(&config).await;
            tracing::info!(%by, "shared breakers are looked at again");
            let reset = TownInput::Reset {
                scopes: Some(scopes),
                by,
            };
            let told = town.send(TellTown(reset)).await;
            told.map(drop).map_err(NotTaken::from)
        })
    }
}

impl Handler<CheckRig> for ContainerActor {
    type Result = Result<(), NotTaken>;

    fn handle(&mut self, message: CheckRig, _ctx: &mut Self::Context) -> Self::Result {
        let (kit, town) = (Arc::clone(&self.kit), self.town.clone());
        actix::spawn(checks::rig(kit, town, self.rigs.clone(), message));
        Ok(())
    }
}

impl Handler<CheckScope> for ContainerActor {
    type Result = Result<(), NotTaken>;

    fn handle(&mut self, message: CheckScope, _ctx: &mut Self::Context) -> Self::Result {
        let (kit, town) = (Arc::clone(&self.kit), self.town.clone());
        actix::spawn(checks::scope(kit, town, message));
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
        let turned = Turned::Tripped {
            failure,
            next_probe_at,
        };
        self.tell_news(rig, turned);
    }
}

impl Handler<BreakerClosed> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: BreakerClosed, _ctx: &mut Self::Context) {
        tracing::info!(rig = %message.rig, "breaker closed");
        self.tell_news(message.rig, Turned::Closed);
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
            // A full channel is emptied by its task; the drain's own deadline cuts what does not end.
            let _ = stop.try_send(Order::Stop(order));
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
