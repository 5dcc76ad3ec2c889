//! The network of the simulation: effects on their way are late, lost or doubled, and outlive the
//! process that has sent them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use durable::{BoxFuture, Deliver, Envelope, Error, Namespace, NotDelivered, ObjectId};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};

use super::lab::Lab;
use super::objects::{Node, Note, Sink, Take};

pub type Dice = Rc<RefCell<StdRng>>;

/// One attempt, and where its answer goes.
#[derive(Debug)]
pub struct Packet(Envelope<Note>, oneshot::Sender<Verdict>);

/// What a receiver says. Nothing, if it has not heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    Refused,
}

/// The sender's side, which ends with its process.
#[derive(Debug)]
pub struct Outlet {
    pub lab: Arc<Lab>,
    pub cable: mpsc::UnboundedSender<Packet>,
}

impl Deliver<Note> for Outlet {
    fn deliver(&self, envelope: Envelope<Note>) -> BoxFuture<'static, Result<(), NotDelivered>> {
        let from = envelope.from.to_string();
        let note = envelope.effect.clone();
        self.lab.leaves(&from, envelope.seq, &note);
        let (answer, answered) = oneshot::channel();
        let _ = self.cable.send(Packet(envelope, answer));
        let breaks = note.breaks();
        Box::pin(async move {
            match answered.await {
                Ok(Verdict::Taken) => Ok(()),
                Ok(Verdict::Refused) if breaks => panic!("as told"),
                Ok(Verdict::Refused) => Err(NotDelivered::poison("no use for it")),
                Err(_) => Err(NotDelivered::new("lost")),
            }
        })
    }
}

/// Where packets arrive, while a host is up.
pub type Targets = Rc<RefCell<Option<(Namespace<Node>, Namespace<Sink>)>>>;

/// Carries packets for ever.
pub async fn carry(
    mut packets: mpsc::UnboundedReceiver<Packet>,
    lab: Arc<Lab>,
    dice: Dice,
    targets: Targets,
) {
    while let Some(Packet(envelope, answer)) = packets.recv().await {
        let calm = lab.notes().calm;
        let (copies, late, fate) = {
            let mut dice = dice.borrow_mut();
            let copies = if dice.random_ratio(1, 8) { 2 } else { 1 };
            let late: Vec<u64> = (0..copies).map(|_| dice.random_range(0..300)).collect();
            (copies, late, dice.random_range(0..16))
        };
        let (lab, targets) = (Arc::clone(&lab), Rc::clone(&targets));
        tokio::task::spawn_local(async move {
            if fate == 0 && !calm {
                return; // lost, and noticed
            }
            if fate == 1 && !calm {
                // Lost, and not noticed: the sender has to give it up.
                tokio::time::sleep(Duration::from_secs(40)).await;
                return;
            }
            let (mut said, moody) = (None, fate % 2 == 0);
            for ms in late.into_iter().take(copies) {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                let heard = arrive(&lab, &targets, envelope.clone(), moody).await;
                said = heard
                    .filter(|heard| *heard == Verdict::Taken)
                    .or(said)
                    .or(heard);
            }
            if let Some(verdict) = said.filter(|_| fate != 2 || calm) {
                let _ = answer.send(verdict);
            }
        });
    }
}

async fn arrive(
    lab: &Lab,
    targets: &Targets,
    envelope: Envelope<Note>,
    moody: bool,
) -> Option<Verdict> {
    let effect = (envelope.from.to_string(), envelope.seq);
    let note = &envelope.effect;
    let id = ObjectId::from_name(&note.to).unwrap();
    let up = targets.borrow().clone();
    // What has been taken is known again, whatever the mood.
    let known = lab.notes().taken.contains(&effect);
    let refuses = note.is_curable() && moody && !known && !lab.notes().cured;
    if up.is_some() && (note.is_poison() || refuses) {
        lab.say(format_args!("{} #{} is refused", effect.0, effect.1));
        return Some(Verdict::Refused);
    }
    let taken = match up {
        Some((_, sinks)) if id.as_str().starts_with("sink") => {
            sinks.stub(&id).send(Take(envelope)).await
        }
        Some((nodes, _)) => nodes.stub(&id).send(Take(envelope)).await,
        None => Err(Error::Stopped),
    };
    lab.say(format_args!(
        "{} #{} arrives: {taken:?}",
        effect.0, effect.1
    ));
    if taken.is_ok() {
        lab.notes().taken.insert(effect);
    }
    taken.ok().map(|()| Verdict::Taken)
}
