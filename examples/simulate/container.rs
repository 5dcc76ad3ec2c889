//! A model of a town's container: it does what the town has granted durably, as the real one does.
//!
//! Owns who is on board in this life. Sessions are in `session`; checks need none.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use durable::Error;
use rig::{
    DispatchId, DispatchOrder, Effect, Failure, Incarnation, Input, Preflight, RigConfig, RigId,
    Scope, TownId,
    town::{Ask, Stopping, Taken, TownEffect, TownInput, TownReply},
};
use tokio::sync::mpsc;

use crate::{
    lab::{Lab, Up},
    session::{self, Order},
};

/// Orders to one session that wait for it.
const ORDERS_MAX: usize = 8;

type Key = (RigId, DispatchId);

/// See the file's head.
pub(crate) struct Container {
    pub(crate) lab: Rc<Lab>,
    pub(crate) town: TownId,
    pub(crate) incarnation: Incarnation,
    crew: RefCell<BTreeMap<Key, mpsc::Sender<Order>>>,
    early_stops: RefCell<BTreeSet<Key>>,
    is_draining: Cell<bool>,
}

impl Container {
    pub(crate) fn new(lab: Rc<Lab>, town: TownId, incarnation: Incarnation) -> Self {
        Self {
            lab,
            town,
            incarnation,
            crew: RefCell::default(),
            early_stops: RefCell::default(),
            is_draining: Cell::new(false),
        }
    }

    /// Takes a rig's message; whether that is durable.
    pub(crate) async fn take(self: &Rc<Self>, up: &Rc<Up>, rig: RigId, effect: Effect) -> bool {
        match effect {
            Effect::Dispatch(order) => self.dispatch(up, rig, order).await,
            Effect::StopAgent {
                dispatch, grace_ms, ..
            } => self.stop(up, rig, dispatch, grace_ms).await,
            Effect::Nudge { dispatch, no, .. } => self.hand(&(rig, dispatch), Order::Nudge(no)),
            Effect::Preflight { no, config } => {
                up.host
                    .spawn(check_rig(Rc::clone(self), Rc::clone(up), rig, no, config));
                true
            }
            Effect::ResetScopes { config, .. } => {
                let scopes = Some(self.lab.weather.borrow().scopes(&config));
                let reset = TownInput::Reset {
                    scopes,
                    by: rig::Who::named("somebody"),
                };
                self.lab.tell_town(up, &self.town, reset).await.is_ok()
            }
            Effect::BreakerTripped { .. } | Effect::BreakerClosed { .. } => true,
        }
    }

    async fn dispatch(self: &Rc<Self>, up: &Rc<Up>, rig: RigId, order: Box<DispatchOrder>) -> bool {
        if self.is_draining.get() {
            return false;
        }
        let ask = Ask {
            scopes: self.lab.weather.borrow().scopes(&order.config),
            config: order.config.clone(),
            prompts: order.prompts,
        };
        let take = TownInput::Take {
            rig: rig.clone(),
            dispatch: order.dispatch.clone(),
            ask,
        };
        match self.lab.tell_town(up, &self.town, take).await {
            Ok(TownReply::Taken(Taken::Fresh)) => {
                self.launch(up, rig, order);
                true
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    fn launch(self: &Rc<Self>, up: &Rc<Up>, rig: RigId, order: Box<DispatchOrder>) {
        let (to, orders) = mpsc::channel(ORDERS_MAX);
        let key = (rig.clone(), order.dispatch.clone());
        if self.early_stops.borrow_mut().remove(&key) {
            // A fresh channel has room for one.
            let _ = to.try_send(Order::stop(0));
        }
        self.crew.borrow_mut().insert(key.clone(), to);
        let (me, at) = (Rc::clone(self), Rc::clone(up));
        up.host.spawn(async move {
            let report = session::run(&me, &at, rig, order, orders).await;
            me.finish(&at, &key, report).await;
        });
    }

    /// Stores the report; a store that can not now is asked again.
    async fn finish(&self, up: &Up, key: &Key, report: rig::Report) {
        loop {
            let finish = TownInput::Finish {
                rig: key.0.clone(),
                report: report.clone(),
            };
            match self.lab.tell_town(up, &self.town, finish).await {
                Ok(_) | Err(Error::Stopped) => break,
                Err(_) => self.lab.sleep(1_000).await,
            }
        }
        self.crew.borrow_mut().remove(key);
        self.early_stops.borrow_mut().remove(key);
    }

    async fn stop(&self, up: &Up, rig: RigId, dispatch: DispatchId, grace_ms: i64) -> bool {
        let ask = TownInput::AskStop {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
        };
        match self.lab.tell_town(up, &self.town, ask).await {
            Ok(TownReply::Stopping(Stopping::Runs)) => {
                let key = (rig, dispatch);
                if self.crew.borrow().contains_key(&key) {
                    return self.hand(&key, Order::stop(grace_ms));
                }
                self.early_stops.borrow_mut().insert(key);
                true
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    /// A full channel is tried again by the sender; one whose session has ended needs nothing.
    fn hand(&self, key: &Key, order: Order) -> bool {
        let crew = self.crew.borrow();
        let Some(to) = crew.get(key) else { return true };
        !matches!(to.try_send(order), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Does what its own town wants of it.
    pub(crate) fn heed(self: &Rc<Self>, up: &Rc<Up>, effect: TownEffect) -> bool {
        match effect {
            TownEffect::CheckScope { no, scope, config } => {
                up.host.spawn(check_scope(
                    Rc::clone(self),
                    Rc::clone(up),
                    no,
                    scope,
                    config,
                ));
                true
            }
            TownEffect::AnswerOffline { rig, dispatch } => {
                self.hand(&(rig, dispatch), Order::RetryOffline)
            }
            TownEffect::EndSession {
                rig,
                dispatch,
                failure,
            } => self.hand(&(rig, dispatch), Order::End(failure)),
            TownEffect::Report { .. } | TownEffect::Offer { .. } | TownEffect::Notify { .. } => {
                true
            }
        }
    }

    /// Takes nothing more; everybody ends within the grace.
    pub(crate) async fn drain(&self, grace_ms: i64) {
        self.is_draining.set(true);
        for to in self.crew.borrow().values() {
            let _ = to.try_send(Order::Stop {
                grace_ms,
                is_drain: true,
            });
        }
        for _ in 0..100 {
            if self.crew.borrow().is_empty() {
                return;
            }
            self.lab.sleep(500).await;
        }
    }
}

/// Checks a rig and tells it, as the real container does. A lost answer is the rig's deadline's
/// business.
async fn check_rig(me: Rc<Container>, up: Rc<Up>, rig: RigId, no: u64, config: RigConfig) {
    let lab = &me.lab;
    let Some(result) = result_of(&me, &up, &rig, &config).await else {
        return;
    };
    if lab.chance(lab.weather.borrow().mute_checks) {
        return;
    }
    let _ = lab
        .tell(&up, &rig, Input::PreflightDone { no, result })
        .await;
}

async fn result_of(me: &Container, up: &Up, rig: &RigId, config: &RigConfig) -> Option<Preflight> {
    let lab = &me.lab;
    let scopes = lab.weather.borrow().scopes(config);
    let may = TownInput::AskCheck {
        rig: rig.clone(),
        scopes: scopes.clone(),
    };
    if let Some(held) = ask(me, up, may).await? {
        return Some(held);
    }
    lab.sleep(lab.between(10, 4_000)).await;
    let failure = {
        let (weather, mut rng) = (lab.weather.borrow(), lab.rng.borrow_mut());
        weather.check(&mut rng, &me.town, rig, config).err()
    };
    let own = failure
        .clone()
        .filter(|failure| scopes.against(failure.class).is_none());
    let checked = TownInput::Checked {
        rig: rig.clone(),
        ask: Ask {
            scopes,
            config: config.clone(),
            prompts: u32::MAX,
        },
        failure: failure.clone(),
    };
    let held = ask(me, up, checked).await?;
    Some(match (own, held, failure) {
        (Some(failure), _, _) | (None, None, Some(failure)) => Preflight::Failed(failure),
        (None, Some(held), _) => held,
        (None, None, None) => Preflight::Passed,
    })
}

/// The town's word; without one nothing is answered.
async fn ask(me: &Container, up: &Up, input: TownInput) -> Option<Option<Preflight>> {
    match me.lab.tell_town(up, &me.town, input).await {
        Ok(TownReply::Held(held)) => {
            Some(held.map(|(refusal, until)| Preflight::Held { refusal, until }))
        }
        Ok(_) => Some(None),
        Err(_) => None,
    }
}

async fn check_scope(me: Rc<Container>, up: Rc<Up>, no: u64, scope: Scope, config: RigConfig) {
    let lab = &me.lab;
    lab.book.notes().checked += 1;
    lab.sleep(lab.between(10, 4_000)).await;
    if lab.chance(lab.weather.borrow().mute_checks) {
        return;
    }
    let failure: Option<Failure> = {
        let (weather, mut rng) = (lab.weather.borrow(), lab.rng.borrow_mut());
        weather
            .check_scope(&mut rng, &me.town, &scope, &config)
            .err()
    };
    let _ = lab
        .tell_town(&up, &me.town, TownInput::ScopeChecked { no, failure })
        .await;
}
