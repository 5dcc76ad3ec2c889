//! The objects of the simulation. A node counts its turns and writes each of them down twice, in
//! one batch with its own copy of its alarm, so that half a batch shows. A sink remembers what it
//! was sent.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use durable::{
    Alarm, AlarmFailed, AlarmIs, Change, ClockJump, DeadLetter, Envelope, Error, Handle, Message,
    Object, ObjectId, Projection, Records, Rows, Turn,
};
use serde::{Deserialize, Serialize};

use super::lab::{Instance, Lab};

/// What nodes send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub to: String,
    pub text: u64,
}

impl Note {
    /// No receiver ever takes it.
    pub fn is_poison(&self) -> bool {
        self.text.is_multiple_of(8)
    }

    /// A receiver may refuse it until it has been mended.
    pub fn is_curable(&self) -> bool {
        self.text % 8 == 1
    }

    /// A delivery of it does not even come to an answer.
    pub fn breaks(&self) -> bool {
        self.text.is_multiple_of(16)
    }
}

#[derive(Debug)]
pub struct Node {
    id: String,
    n: u64,
    /// How often it was told of each dead letter.
    told: BTreeMap<u64, u64>,
    due: Option<i64>,
    lab: Arc<Lab>,
    instance: Instance,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lab.dies(&self.instance);
    }
}

/// What becomes of a node's alarm.
#[derive(Debug, Clone, Copy, Default)]
pub enum OwnAlarm {
    #[default]
    Stays,
    In(i64),
    Gone,
}

/// One operation of a client.
#[derive(Debug, Clone, Default)]
pub struct Do {
    pub op: u64,
    pub alarm: OwnAlarm,
    pub sends: Vec<Note>,
    pub wipe: bool,
    pub panic: bool,
}

impl Message for Do {
    type Reply = (u64, Vec<u64>);
}

/// An effect that has arrived.
#[derive(Debug)]
pub struct Take(pub Envelope<Note>);

impl Message for Take {
    type Reply = ();
}

type NodeTurn<'a> = Turn<'a, Note>;

impl Node {
    /// What each turn begins with.
    fn begin(&mut self, turn: &NodeTurn<'_>, what: impl Display) {
        let (id, now) = (&self.id, turn.now());
        self.lab.notes().steps += 1;
        self.lab.say(format_args!("{id} at {now}: {what}"));
    }

    /// What each turn ends with.
    fn end(&mut self, turn: &mut NodeTurn<'_>, label: &str) {
        self.n += 1;
        turn.put(&format!("op/{label}"), &self.n);
        turn.put(&format!("twin/{label}"), &self.n);
        turn.put("n", &self.n);
        turn.put("due", &self.due);
    }

    fn set(&mut self, turn: &mut NodeTurn<'_>, at: Option<i64>) {
        match at {
            Some(at) => turn.set_alarm(at),
            None => turn.delete_alarm(),
        }
        self.due = at;
    }

    fn check_due(&self, turn: &NodeTurn<'_>) {
        let (id, due, alarm) = (&self.id, self.due, turn.alarm());
        self.lab.check(due == alarm, || {
            format!("{id}: alarm {alarm:?}, not {due:?}")
        });
    }
}

impl Object for Node {
    const NAMESPACE: &'static str = "node";
    type Env = Arc<Lab>;
    type Effect = Note;

    fn load(id: &ObjectId, records: &Records<'_>, lab: &Arc<Lab>) -> Result<Self, Error> {
        let (n, due) = (records.get("n")?, records.get("due")?);
        let number = |key: &str| key.trim_start_matches("told-").parse().unwrap_or_default();
        let told = records.all("told-")?.into_iter();
        lab.say(format_args!("{id} loads {n:?} {due:?}"));
        Ok(Self {
            id: id.to_string(),
            n: n.unwrap_or(0),
            due: due.unwrap_or(None),
            told: told.map(|(key, count)| (number(&key), count)).collect(),
            lab: Arc::clone(lab),
            instance: lab.lives(Self::NAMESPACE, id.as_str()),
        })
    }

    fn alarm(&mut self, turn: &mut NodeTurn<'_>, alarm: Alarm) -> Result<(), AlarmFailed> {
        self.begin(turn, format_args!("{alarm:?}"));
        let (at, now, due) = (alarm.scheduled_at, turn.now(), self.due);
        let id = self.id.clone();
        self.lab
            .check(now >= at, || format!("{id}: alarm of {at} at {now}"));
        self.lab.check(due == Some(at), || {
            format!("{id}: alarm of {at}, not {due:?}")
        });
        self.due = None;
        let calm = self.lab.notes().calm;
        match turn.nonce() % 8 {
            0 if !calm => return Err(AlarmFailed::new("as told")),
            1 if !calm => panic!("as told"),
            2 if !calm => self.set(turn, Some(now + 5_000)),
            3 => drop(turn.send(Note {
                to: "sink-0".to_owned(),
                text: self.n,
            })),
            _ => {}
        }
        self.end(turn, &format!("alarm-{:06}", self.n));
        Ok(())
    }

    fn dead_letter(&mut self, turn: &mut NodeTurn<'_>, letter: DeadLetter<Note>) {
        self.begin(turn, format_args!("told of {letter:?}"));
        self.check_due(turn);
        let (calm, nonce, seq) = (self.lab.notes().calm, turn.nonce() % 16, letter.seq);
        assert!(nonce != 0 || calm, "as told");
        let told = self.told.entry(seq).or_default();
        *told += 1;
        turn.put(&format!("told-{seq}"), told);
        let (id, told) = (&self.id, *told);
        let retried = self.lab.retries(id, seq);
        self.lab.check(told <= 1 + retried, || {
            format!("{id} is told {told} times of #{seq}, retried {retried} times")
        });
        if nonce % 4 == 1 {
            turn.send(Note {
                to: "sink-1".to_owned(),
                text: 7,
            });
        }
        self.end(turn, &format!("dead-{:06}", self.n));
    }

    fn clock_jumped(&mut self, turn: &mut NodeTurn<'_>, jump: ClockJump) {
        self.begin(turn, format_args!("{jump:?}"));
        self.end(turn, &format!("jump-{:06}", self.n));
    }
}

impl Handle<Do> for Node {
    fn handle(&mut self, turn: &mut NodeTurn<'_>, what: Do) -> (u64, Vec<u64>) {
        self.begin(turn, format_args!("{what:?} {:x}", turn.nonce()));
        self.check_due(turn);
        if what.wipe {
            turn.delete_all();
            self.due = None;
            self.told.clear();
            turn.put("wiped", &(self.n + 1));
        }
        match what.alarm {
            OwnAlarm::Stays => {}
            OwnAlarm::In(ms) => self.set(turn, Some(turn.now() + ms)),
            OwnAlarm::Gone => self.set(turn, None),
        }
        let sent = what.sends.into_iter().map(|note| turn.send(note)).collect();
        self.end(turn, &format!("do-{}", what.op));
        assert!(!what.panic, "as told");
        (self.n, sent)
    }
}

impl Handle<Take> for Node {
    fn handle(&mut self, turn: &mut NodeTurn<'_>, Take(envelope): Take) {
        let (from, seq) = (envelope.from, envelope.seq);
        self.begin(turn, format_args!("takes {from} #{seq}"));
        self.check_due(turn);
        self.end(turn, &format!("take-{:06}", self.n));
    }
}

/// Another kind of object, which sends nothing and has no alarm.
#[derive(Debug)]
pub struct Sink(Arc<Lab>, Instance);

impl Drop for Sink {
    fn drop(&mut self) {
        self.0.dies(&self.1);
    }
}

impl Object for Sink {
    const NAMESPACE: &'static str = "sink";
    type Env = Arc<Lab>;
    type Effect = ();

    fn load(id: &ObjectId, _: &Records<'_>, lab: &Arc<Lab>) -> Result<Self, Error> {
        let instance = lab.lives(Self::NAMESPACE, id.as_str());
        Ok(Self(Arc::clone(lab), instance))
    }

    fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        Ok(())
    }
}

impl Handle<Take> for Sink {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, Take(envelope): Take) {
        let (id, from, seq) = (turn.id().to_string(), envelope.from, envelope.seq);
        self.0.notes().steps += 1;
        self.0.say(format_args!("{id} takes {from} #{seq}"));
        turn.put(&format!("{from}/{seq:06}"), &envelope.effect);
    }
}

/// What every node has counted and set, as far as it is stored.
#[derive(Debug)]
pub struct Counts;

impl Projection for Counts {
    const NAME: &'static str = "counts";
    const VERSION: u32 = 1;
    const NAMESPACES: &'static [&'static str] = &[Node::NAMESPACE];

    fn fold(&self, change: &Change<'_>, rows: &mut Rows<'_>) -> Result<(), Error> {
        if let Some(n) = change.get::<u64>("n")? {
            rows.put(&format!("n/{}", change.id()), &n)?;
        }
        match change.alarm() {
            Some(AlarmIs::Set(_)) => rows.put(&format!("alarm/{}", change.id()), &())?,
            Some(AlarmIs::Unset) => rows.delete(&format!("alarm/{}", change.id())),
            None => {}
        }
        Ok(())
    }
}
