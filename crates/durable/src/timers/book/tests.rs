//! The book against a model: objects, their commits and a scan, in any order of their parts.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const OBJECTS: u8 = 8;
const LIMITS: Limits = Limits {
    ahead_ms: 100,
    fill: 3,
    keep: 3,
    flight: 2,
};

/// One part of what goes on at once in a host.
#[derive(Debug, Clone)]
enum Part {
    /// An object wants that alarm; its commit is on its way.
    Want(u8, Option<i64>),
    /// The oldest commit on its way is on disk.
    Commit,
    /// The oldest commit on disk that was not told is told.
    Tell,
    BeginScan,
    /// The scan that has begun reads the disk.
    Read,
    /// What was read is offered.
    EndScan,
    FailScan,
    Fire,
    /// Everything fired is lost on its way.
    FireLost,
    Advance(i64),
    Register,
}

fn part() -> impl Strategy<Value = Part> {
    let time = prop_oneof![3 => (0i64..600).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        6 => (0..OBJECTS, time).prop_map(|(object, at)| Part::Want(object, at)),
        6 => Just(Part::Commit),
        6 => Just(Part::Tell),
        4 => Just(Part::BeginScan),
        4 => Just(Part::Read),
        3 => Just(Part::EndScan),
        1 => Just(Part::FailScan),
        3 => Just(Part::Fire),
        1 => Just(Part::FireLost),
        3 => (1i64..60).prop_map(Part::Advance),
        1 => Just(Part::Register),
    ]
}

/// A host without threads: what the objects want, what is on disk, what the book was told.
struct World {
    book: Book,
    now: i64,
    memory: BTreeMap<u8, Option<i64>>,
    disk: BTreeMap<u8, Option<i64>>,
    commits: VecDeque<(u8, Option<i64>)>,
    tells: VecDeque<(u8, Option<i64>)>,
    scan: Option<Scan>,
    found: Option<Found>,
}

/// Odd objects are of a kind that is registered later.
fn target(object: u8) -> Target {
    let id = ObjectId::from_name(&format!("{object}")).unwrap();
    let kind = Kind::Alarm;
    Target {
        namespace: if object.is_multiple_of(2) {
            "model"
        } else {
            "late"
        },
        id,
        kind,
    }
}

fn object(target: &Target) -> u8 {
    target.id.as_str().parse().unwrap()
}

impl World {
    fn new() -> Self {
        let mut book = Book::new(LIMITS);
        book.register("model");
        Self {
            book,
            now: 0,
            memory: BTreeMap::new(),
            disk: BTreeMap::new(),
            commits: VecDeque::new(),
            tells: VecDeque::new(),
            scan: None,
            found: None,
        }
    }

    fn play(&mut self, part: &Part) {
        match *part {
            Part::Want(object, at) => self.want(object, at),
            Part::Commit => self.commit(),
            Part::Tell => self.tell(),
            Part::BeginScan => {
                if self.scan.is_none() {
                    self.scan = self.book.begin_scan(self.now);
                }
            }
            Part::Read => self.read(),
            Part::EndScan => self.end_scan(),
            Part::FailScan => {
                if self.scan.take().is_some() {
                    self.found = None;
                    self.book.end_scan(None, self.now);
                }
            }
            Part::Fire => self.fire(),
            Part::FireLost => drop(self.book.fire(self.now, 3)),
            Part::Advance(ms) => self.now += ms,
            Part::Register => self.register(),
        }
        self.check();
    }

    fn register(&mut self) {
        if !self.book.namespaces.contains(&"late") {
            self.book.register("late");
        }
    }

    fn want(&mut self, object: u8, at: Option<i64>) {
        self.memory.insert(object, at);
        self.commits.push_back((object, at));
    }

    fn commit(&mut self) {
        if let Some((object, at)) = self.commits.pop_front() {
            self.disk.insert(object, at);
            self.tells.push_back((object, at));
        }
    }

    fn tell(&mut self) {
        match self.tells.pop_front() {
            Some((object, Some(at))) => self.book.set(target(object), at),
            Some((object, None)) => self.book.remove(&target(object)),
            None => {}
        }
    }

    fn read(&mut self) {
        let Some(scan) = self.scan.as_ref().filter(|_| self.found.is_none()) else {
            return;
        };
        let entry = |(object, at): (&u8, &Option<i64>)| {
            let target = target(*object);
            at.map(|at| {
                (
                    ObjectKeys::new(target.namespace, &target.id).alarm(at),
                    at,
                    target,
                )
            })
        };
        let mut index: Vec<_> = self.disk.iter().filter_map(entry).collect();
        index.sort();
        index.retain(|(key, ..)| scan.from.key <= *key && *key < scan.to.key);
        let reached = match index.get(scan.room) {
            Some((key, at, _)) => {
                let (at, key) = (*at, key.clone());
                Edge { at, key }
            }
            None => scan.to.clone(),
        };
        index.truncate(scan.room);
        index.retain(|(.., target)| scan.namespaces.contains(&target.namespace));
        let alarms = index.into_iter().map(|(_, at, t)| (t.namespace, t.id, at));
        let alarms = alarms.collect();
        self.found = Some(Found { alarms, reached });
    }

    fn end_scan(&mut self) {
        let Some(Found { alarms, reached }) = self.found.take() else {
            return;
        };
        self.scan = None;
        for (_, id, at) in alarms {
            self.book.offer(target(id.as_str().parse().unwrap()), at);
        }
        self.book.end_scan(Some(reached), self.now);
    }

    /// What an object does when it is woken.
    fn fire(&mut self) {
        for fired in self.book.fire(self.now, 3) {
            let object = object(&fired);
            match self.memory.get(&object).copied().flatten() {
                Some(at) if at <= self.now => self.want(object, None),
                Some(at) => self.book.set(fired, at),
                None => self.book.remove(&fired),
            }
        }
    }

    /// The rule of the edge, for every object that nothing is under way for.
    fn check(&self) {
        for (object, at) in &self.disk {
            let under_way = self.commits.iter().chain(&self.tells);
            if under_way.clone().any(|(other, _)| other == object) {
                continue;
            }
            let Some(at) = *at else { continue };
            if !self.book.namespaces.contains(&target(*object).namespace) {
                continue;
            }
            let below = self.book.edge.covers(&target(*object), at);
            let known = self.book.entries.contains_key(&target(*object));
            assert!(
                known || !below,
                "{object} at {at} is below the edge and not in the book"
            );
        }
        let indexed = self.book.entries.values();
        let indexed = indexed.filter(|(_, state)| *state == State::Indexed);
        assert_eq!(indexed.count(), self.book.indexed);
    }

    /// Everything goes its way until nothing is left to do.
    fn settle(&mut self) {
        self.register();
        for _ in 0..10_000 {
            self.read();
            self.end_scan();
            self.commit();
            self.tell();
            self.fire();
            self.check();
            if self.scan.is_none() {
                self.scan = self.book.begin_scan(self.now);
            }
            let idle = self.commits.is_empty() && self.tells.is_empty() && self.scan.is_none();
            if idle && self.disk.values().all(Option::is_none) {
                return;
            }
            if let Next::At(at) = self.book.next(self.now)
                && idle
            {
                self.now = at;
            }
        }
        panic!("lost: {:?}", self.disk);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_alarm_is_lost_at_the_edge(parts in proptest::collection::vec(part(), 0..120)) {
        let mut world = World::new();
        for part in &parts {
            world.play(part);
        }
        world.settle();
    }
}

#[test]
fn the_book_is_bounded_however_many_alarms_there_are() {
    let mut world = World::new();
    world.register();
    for n in 0..200 {
        world.disk.insert(n, Some(i64::from(n) % 7));
    }
    let mut most = 0;
    while world.disk.values().any(Option::is_some) {
        world.play(&Part::BeginScan);
        for part in [
            Part::Read,
            Part::EndScan,
            Part::Fire,
            Part::Commit,
            Part::Tell,
        ] {
            // Objects that are woken read their alarm from the disk.
            world.memory.clone_from(&world.disk);
            world.play(&part);
            most = most.max(world.book.len());
        }
        world.now += 1;
    }
    assert!(most <= LIMITS.keep + LIMITS.flight, "{most} entries");
}

#[test]
fn what_is_due_is_fired_as_far_as_there_is_room() {
    let mut book = Book::new(LIMITS);
    for n in 0..4 {
        book.hold(target(n), i64::from(n));
    }
    assert_eq!(book.next(10), Next::Now);
    let fired = book.fire(10, 9);
    assert_eq!(fired, [target(0), target(1)]);
    assert!(book.fire(10, 9).is_empty());
    assert_eq!(book.next(10), Next::At(10 + RECHECK_MS));
    book.remove(&fired[0]);
    assert_eq!(book.fire(10, 9), [target(2)]);
    assert_eq!(
        book.fire(10 + RECHECK_MS, 1),
        [target(1)],
        "not settled: once more"
    );
}
