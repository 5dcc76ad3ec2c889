//! The desk where containers hand in their reports: it finds the rig and passes them on.
//!
//! Owns the mapping from the protocol's messages to the core's inputs. Knows no container and
//! keeps no state.

use actix::prelude::*;
use durable::Namespace;
use rig::{Input, Refused, Reply, RigId, Timestamp, TurnVerdict};

use crate::{
    messages::{
        AgentDone, AgentStarted, ContainerStarted, Heartbeat, Noticed, RigChecked, RigPort,
        SlotOffered, TurnEnded, Unheard,
    },
    rig_actor::{Pulse, RigActor, Tell},
};

/// The actor behind a [`RigPort`].
pub(crate) struct RigDesk {
    rigs: Namespace<RigActor>,
}

impl RigDesk {
    pub(crate) fn new(rigs: Namespace<RigActor>) -> Self {
        Self { rigs }
    }

    fn tell(&self, rig: &RigId, input: Input) -> ResponseFuture<Result<Reply, Unheard>> {
        let told = stub(&self.rigs, rig).map(|stub| stub.send(Tell(input)));
        Box::pin(async move { heard(told?.await) })
    }
}

fn stub(rigs: &Namespace<RigActor>, rig: &RigId) -> Result<durable::Stub<RigActor>, Unheard> {
    let id = durable::ObjectId::from_name(rig.as_str());
    id.map(|id| rigs.stub(&id))
        .map_err(|error| Unheard::Later(error.to_string()))
}

fn heard(answer: Result<Result<Reply, Refused>, durable::Error>) -> Result<Reply, Unheard> {
    match answer {
        Ok(Ok(reply)) => Ok(reply),
        // Whatever a rig refuses of a report, it will refuse again: the session has no place.
        Ok(Err(_refused)) => Err(Unheard::Stale),
        Err(error) => Err(error.into()),
    }
}

/// The port to a desk.
pub(crate) fn port(desk: &Addr<RigDesk>) -> RigPort {
    RigPort {
        started: desk.clone().recipient(),
        heartbeat: desk.clone().recipient(),
        turn: desk.clone().recipient(),
        done: desk.clone().recipient(),
        container: desk.clone().recipient(),
        checked: desk.clone().recipient(),
        offered: desk.clone().recipient(),
        noticed: desk.clone().recipient(),
    }
}

impl Actor for RigDesk {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1_024);
    }
}

impl Handler<AgentStarted> for RigDesk {
    type Result = ResponseFuture<Result<(), Unheard>>;

    fn handle(&mut self, message: AgentStarted, _ctx: &mut Self::Context) -> Self::Result {
        let AgentStarted {
            rig,
            dispatch,
            incarnation,
            session,
        } = message;
        let told = self.tell(
            &rig,
            Input::AgentStarted {
                dispatch,
                incarnation,
                session,
            },
        );
        Box::pin(async move { told.await.map(drop) })
    }
}

impl Handler<Heartbeat> for RigDesk {
    type Result = ResponseFuture<Result<(), Unheard>>;

    fn handle(&mut self, message: Heartbeat, _ctx: &mut Self::Context) -> Self::Result {
        let Heartbeat {
            rig,
            beat,
            progress_age_ms,
            tool_age_ms,
        } = message;
        let told = stub(&self.rigs, &rig).map(|stub| {
            stub.send(Pulse {
                beat,
                progress_age_ms,
                tool_age_ms,
            })
        });
        Box::pin(async move { heard(told?.await).map(drop) })
    }
}

impl Handler<TurnEnded> for RigDesk {
    type Result = ResponseFuture<Result<TurnVerdict, Unheard>>;

    fn handle(&mut self, message: TurnEnded, _ctx: &mut Self::Context) -> Self::Result {
        let TurnEnded {
            rig,
            dispatch,
            report,
        } = message;
        let told = self.tell(&rig, Input::TurnEnded { dispatch, report });
        Box::pin(async move {
            match told.await? {
                Reply::Turn(verdict) => Ok(verdict),
                other => Err(Unheard::Later(format!("not a verdict: {other:?}"))),
            }
        })
    }
}

impl Handler<AgentDone> for RigDesk {
    type Result = ResponseFuture<Result<(), Unheard>>;

    fn handle(&mut self, message: AgentDone, _ctx: &mut Self::Context) -> Self::Result {
        let told = self.tell(&message.rig, Input::AgentDone(message.report));
        Box::pin(async move { told.await.map(drop) })
    }
}

impl Handler<ContainerStarted> for RigDesk {
    type Result = ResponseFuture<Result<(), Unheard>>;

    fn handle(&mut self, message: ContainerStarted, _ctx: &mut Self::Context) -> Self::Result {
        let ContainerStarted {
            rig,
            incarnation,
            live,
            unreported,
        } = message;
        let input = Input::ContainerStarted {
            incarnation,
            live,
            unreported,
        };
        let told = self.tell(&rig, input);
        Box::pin(async move { told.await.map(drop) })
    }
}

impl Handler<SlotOffered> for RigDesk {
    type Result = ResponseFuture<Result<(), Unheard>>;

    fn handle(&mut self, message: SlotOffered, _ctx: &mut Self::Context) -> Self::Result {
        let told = self.tell(&message.rig, Input::Offered);
        Box::pin(async move { told.await.map(drop) })
    }
}

impl Handler<Noticed> for RigDesk {
    type Result = ResponseFuture<Result<(), Unheard>>;

    fn handle(&mut self, message: Noticed, _ctx: &mut Self::Context) -> Self::Result {
        let Noticed { rig, no, notice } = message;
        let told = self.tell(&rig, Input::Noticed { no, notice });
        Box::pin(async move { told.await.map(drop) })
    }
}

impl Handler<RigChecked> for RigDesk {
    type Result = ResponseFuture<Result<(), Unheard>>;

    fn handle(&mut self, message: RigChecked, _ctx: &mut Self::Context) -> Self::Result {
        let RigChecked { rig, no, result } = message;
        let told = self.tell(&rig, Input::PreflightDone { no, result });
        Box::pin(async move { told.await.map(drop) })
    }
}

/// Turns an age into a time of the rig's own clock.
pub(crate) fn time_of_age(now: Timestamp, age_ms: Option<i64>) -> Option<Timestamp> {
    age_ms.map(|age| now.plus_ms(age.max(0).saturating_neg()))
}
