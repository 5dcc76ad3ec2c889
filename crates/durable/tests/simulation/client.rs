//! Who uses the host of the simulation: sends operations and writes down what was promised.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use durable::{Error, Namespace, ObjectId};
use rand::Rng;

use super::lab::Lab;
use super::net::Dice;
use super::objects::{Do, Node, Note, OwnAlarm};

pub const NODES: usize = 5;
/// Bursts of a client in one life, at most.
const OPS: u64 = 8;

pub struct Client {
    pub nodes: Namespace<Node>,
    pub lab: Arc<Lab>,
    pub dice: Dice,
    pub next_op: Rc<RefCell<u64>>,
}

impl Client {
    pub async fn run(self) {
        let ops = self.dice.borrow_mut().random_range(0..OPS);
        for _ in 0..ops {
            // Some follow each other without a pause, so that they share a flush.
            let pause = match self.dice.borrow_mut().random_range(0..4) {
                0 => 0,
                1 => 20_000,
                _ => 200,
            };
            let pause = self.dice.borrow_mut().random_range(0..=pause);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.send().await;
            if self.dice.borrow_mut().random_ratio(1, 4) {
                self.retry_some().await;
            }
        }
    }

    /// An operator who hopes that some dead letters are none any more.
    async fn retry_some(&self) {
        let id = node(self.dice.borrow_mut().random_range(0..NODES));
        let stub = self.nodes.stub(&id);
        let Ok(letters) = stub.dead_letters().await else {
            return;
        };
        for letter in letters {
            if self.dice.borrow_mut().random_ratio(1, 2) {
                self.lab.retries_now(id.as_str(), letter.seq);
                let found = stub.retry_dead_letter(letter.seq).await;
                let seq = letter.seq;
                self.lab
                    .say(format_args!("retry of {id} #{seq}: {found:?}"));
            }
        }
    }

    /// Sometimes several at once to one node, so that they wait for different flushes.
    async fn send(&self) {
        let id = node(self.dice.borrow_mut().random_range(0..NODES));
        let count = match self.dice.borrow_mut().random_range(0..4) {
            0 => 4,
            _ => 1,
        };
        let mut asked = Vec::new();
        for n in 0..count {
            // Behind the flush of the one before has begun, perhaps.
            let pause = self.dice.borrow_mut().random_range(0..=n * 5);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let op = {
                let mut next = self.next_op.borrow_mut();
                *next += 1;
                *next
            };
            let answer = self.nodes.stub(&id).send(random_op(op, &self.dice));
            asked.push(tokio::task::spawn_local(hear(
                Arc::clone(&self.lab),
                id.clone(),
                op,
                answer,
            )));
        }
        for answer in asked {
            let _ = answer.await;
        }
    }
}

/// Writes down what becomes of an operation.
async fn hear(
    lab: Arc<Lab>,
    id: ObjectId,
    op: u64,
    answer: impl Future<Output = Result<(u64, Vec<u64>), Error>>,
) {
    let answer = answer.await;
    let mut notes = lab.notes();
    notes.say(format_args!("op {op} on {id}: {answer:?}"));
    match answer {
        Ok((n, sent)) => drop(notes.acked.insert(op, (id.to_string(), n, sent))),
        Err(Error::OutcomeUnknown) => {}
        Err(_) => drop(notes.refused.insert(op, id.to_string())),
    }
}

pub fn node(n: usize) -> ObjectId {
    ObjectId::from_name(&format!("node-{n}")).unwrap()
}

fn random_op(op: u64, dice: &Dice) -> Do {
    let mut dice = dice.borrow_mut();
    let alarm = match dice.random_range(0..4) {
        0 => OwnAlarm::In(dice.random_range(-10..2_000)),
        1 => OwnAlarm::In(dice.random_range(1_000..600_000)),
        2 => OwnAlarm::Gone,
        _ => OwnAlarm::Stays,
    };
    let count = dice.random_range(0..3_u32);
    let mut note = || Note {
        to: match dice.random_range(0..3) {
            0 => format!("sink-{}", dice.random_range(0..2)),
            _ => format!("node-{}", dice.random_range(0..NODES)),
        },
        text: dice.random(),
    };
    let sends = (0..count).map(|_| note()).collect();
    Do {
        op,
        alarm,
        sends,
        wipe: dice.random_ratio(1, 24),
        panic: dice.random_ratio(1, 16),
    }
}
