//! The network between rigs, towns and containers: messages on their way are late, lost, doubled,
//! overtaken, and come again long after their time. They outlive the process that has sent them.
//!
//! Owns what becomes of a message. Knows no rule of those who read it.

use std::rc::Rc;

use durable::{BoxFuture, Deliver, Envelope, NotDelivered};
use rig::{
    Effect, Input, RigId, TownId,
    town::{TownEffect, TownInput},
};
use runtime::objects::TownMail;
use tokio::sync::{mpsc, oneshot};

use crate::{book::Book, lab::Lab};

/// What is on its way.
#[derive(Clone, Debug)]
pub(crate) enum Letter {
    /// From a rig.
    Rig(RigId, Effect),
    /// From a town, with the life in which it was decided.
    Town(TownId, TownEffect, u64),
}

/// One attempt, and where its answer goes.
pub(crate) struct Packet(Letter, oneshot::Sender<()>);

/// The sender's side, which ends with its process.
pub(crate) struct Outlet {
    pub(crate) book: Book,
    pub(crate) cable: mpsc::UnboundedSender<Packet>,
}

impl Outlet {
    fn post(&self, letter: Letter) -> BoxFuture<'static, Result<(), NotDelivered>> {
        let (answer, answered) = oneshot::channel();
        let _ = self.cable.send(Packet(letter, answer));
        Box::pin(async move { answered.await.map_err(|_| NotDelivered::new("lost")) })
    }
}

fn undelivered() -> BoxFuture<'static, Result<(), NotDelivered>> {
    Box::pin(std::future::ready(Err(NotDelivered::new("no such name"))))
}

impl Deliver<Effect> for Outlet {
    fn deliver(&self, envelope: Envelope<Effect>) -> BoxFuture<'static, Result<(), NotDelivered>> {
        let Envelope {
            from, seq, effect, ..
        } = envelope;
        let mut notes = self.book.notes();
        let shadow = notes.rigs.entry(from.to_string()).or_default();
        if let Err(broken) = shadow.leaves(seq, &effect) {
            notes.broke(format!("{from}: {broken}"));
        }
        drop(notes);
        if breaks_its_receiver(seq, &effect) {
            let poison = NotDelivered::poison("its receiver breaks on it");
            return Box::pin(std::future::ready(Err(poison)));
        }
        match RigId::new(from.as_str()) {
            Ok(rig) => self.post(Letter::Rig(rig, effect)),
            Err(_) => undelivered(),
        }
    }
}

impl Deliver<TownMail> for Outlet {
    fn deliver(
        &self,
        envelope: Envelope<TownMail>,
    ) -> BoxFuture<'static, Result<(), NotDelivered>> {
        let Envelope {
            from, seq, effect, ..
        } = envelope;
        let effect = TownEffect::from(effect);
        let mut notes = self.book.notes();
        let shadow = notes.towns.entry(from.to_string()).or_default();
        let life = match shadow.leaves(seq, &effect) {
            Ok(life) => life,
            Err(broken) => {
                notes.broke(format!("{from}: {broken}"));
                0
            }
        };
        drop(notes);
        match TownId::new(from.as_str()) {
            Ok(town) => self.post(Letter::Town(town, effect, life)),
            Err(_) => undelivered(),
        }
    }
}

/// Some messages of which nothing depends break whoever gets them, and always the same ones.
fn breaks_its_receiver(seq: u64, effect: &Effect) -> bool {
    let is_news = matches!(
        effect,
        Effect::BreakerTripped { .. } | Effect::BreakerClosed { .. } | Effect::ResetScopes { .. }
    );
    is_news && seq % 5 == 3
}

/// Carries packets for ever.
pub(crate) async fn carry(lab: Rc<Lab>, mut packets: mpsc::UnboundedReceiver<Packet>) {
    while let Some(Packet(letter, answer)) = packets.recv().await {
        tokio::task::spawn_local(deliver(Rc::clone(&lab), letter, answer));
    }
}

async fn deliver(lab: Rc<Lab>, letter: Letter, answer: oneshot::Sender<()>) {
    let faults = lab.faults.get();
    lab.sleep(lab.between(0, faults.late_ms)).await;
    if lab.chance(faults.lost) {
        if lab.chance(200) {
            // Nobody notices: the sender has to give it up.
            lab.sleep(40_000).await;
        }
        return;
    }
    if lab.chance(faults.doubled) {
        arrive(&lab, letter.clone()).await;
        lab.sleep(lab.between(0, 3_000)).await;
    }
    let again = lab.chance(faults.again).then(|| letter.clone());
    if arrive(&lab, letter).await && !lab.chance(faults.lost) {
        let _ = answer.send(());
    }
    if let Some(letter) = again {
        lab.sleep(lab.between(5_000, 3_600_000)).await;
        lab.book.say(|| format!("comes again: {letter:?}"));
        arrive(&lab, letter).await;
    }
}

/// Whether its receiver has taken it durably.
async fn arrive(lab: &Rc<Lab>, letter: Letter) -> bool {
    let Some(up) = lab.up() else { return false };
    match letter {
        Letter::Rig(rig, effect) => {
            let container = up.containers.borrow().get(town_of(&effect)).cloned();
            match container {
                Some(container) => container.take(&up, rig, effect).await,
                None => false,
            }
        }
        Letter::Town(town, TownEffect::Report { rig, report }, life) => {
            let dispatch = report.dispatch.clone();
            let heard = lab.tell(&up, &rig, Input::AgentDone(*report)).await;
            let Ok(reply) = heard else { return false };
            if reply.is_ok() && life != lab.book.notes().life {
                lab.book.saw("report repeated after a crash");
            }
            let told = TownInput::Told { rig, dispatch };
            lab.tell_town(&up, &town, told).await.is_ok()
        }
        Letter::Town(_, TownEffect::Offer { rig }, _) => {
            lab.tell(&up, &rig, Input::Offered).await.is_ok()
        }
        Letter::Town(_, TownEffect::Notify { rig, no, notice }, _) => lab
            .tell(&up, &rig, Input::Noticed { no, notice })
            .await
            .is_ok(),
        Letter::Town(town, own, _) => {
            let container = up.containers.borrow().get(&town).cloned();
            container.is_some_and(|container| container.heed(&up, own))
        }
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
