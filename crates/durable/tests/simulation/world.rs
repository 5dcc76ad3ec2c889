//! One run of the simulation: a host that is started, used, hurt and ended again and again on one
//! disk, by clients that never give up, until in its last life nothing fails any more.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use durable::storage::{Fault, FaultyStorage, Left, Read as _};
use durable::{
    Clock, Error, Host, InlineHost, Namespace, Order, Pace, Settings, Storage, Store, TokioClock,
    View,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::checks;
use super::client::Client;
use super::disk::Disk;
use super::lab::Lab;
use super::net::{Dice, Outlet, Targets, carry};
use super::objects::{Counts, Node, Sink};

const START: i64 = 1_700_000_000_000;
const CLIENTS: usize = 4;
/// Longer than the longest rest of an object, any alarm that is set, and all jumps of the clock.
const CALM: Duration = Duration::from_secs(20_000);

/// What happens in a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    /// Lives that end badly; the last one comes on top.
    pub lives: u64,
    /// The first life ends at this write, if it gets that far, and leaves that.
    pub crash_at: Option<(u64, Left)>,
    /// Other faults than crashes.
    pub faults: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub trace: Vec<String>,
    pub broken: Vec<String>,
    pub steps: u64,
    pub crashes: u64,
    pub acked: usize,
    pub effects: usize,
    pub letters: usize,
    pub retries: usize,
    /// Writes of the first life.
    pub points: u64,
}

pub fn run(plan: Plan, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut world = World::new(plan);
        world.lab.notes().traced = traced;
        world.run().await;
        world.outcome()
    })
}

struct World {
    plan: Plan,
    lab: Arc<Lab>,
    dice: Dice,
    clock: Arc<TokioClock>,
    disk: Arc<Disk>,
    targets: Targets,
    cable: mpsc::UnboundedSender<super::net::Packet>,
    next_op: Rc<RefCell<u64>>,
    crashes: u64,
    points: u64,
}

/// A host that is up, with its objects.
pub struct Up {
    pub host: InlineHost,
    pub nodes: Namespace<Node>,
    pub sinks: Namespace<Sink>,
    pub counts: Option<View<Counts>>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let lab = Arc::<Lab>::default();
        let dice = Rc::new(RefCell::new(StdRng::seed_from_u64(plan.seed)));
        let (cable, packets) = mpsc::unbounded_channel();
        let targets = Targets::default();
        let carrying = carry(
            packets,
            Arc::clone(&lab),
            Rc::clone(&dice),
            Rc::clone(&targets),
        );
        tokio::task::spawn_local(carrying);
        let disk = Disk {
            inner: FaultyStorage::new(plan.seed),
            lab: Arc::clone(&lab),
        };
        Self {
            plan,
            lab,
            dice,
            clock: Arc::new(TokioClock::new(START)),
            disk: Arc::new(disk),
            targets,
            cable,
            next_op: Rc::default(),
            crashes: 0,
            points: 0,
        }
    }

    fn roll(&self, range: std::ops::Range<u64>) -> u64 {
        self.dice.borrow_mut().random_range(range)
    }

    async fn run(&mut self) {
        for life in 0..self.plan.lives {
            self.plan_faults(life);
            let begun = self.begin().await;
            if let Ok(up) = begun {
                self.live(&up).await;
                if self.roll(0..5) == 0 && self.plan.crash_at.is_none() {
                    self.lab.say("stops");
                    up.host.stop().await;
                }
                self.end(up);
            }
            if life == 0 {
                self.points = self.disk.inner.points();
            }
            self.crash(life);
        }
        self.lab.notes().calm = true;
        match self.begin().await {
            Ok(up) => self.calm(up).await,
            Err(error) => self.lab.check(false, || format!("the last start: {error}")),
        }
    }

    fn plan_faults(&self, life: u64) {
        let disk = &self.disk.inner;
        if let (0, Some((point, _))) = (life, self.plan.crash_at) {
            disk.fail_at(point, Fault::Crash);
        } else if self.plan.faults {
            let point = disk.points() + self.roll(0..150);
            match self.roll(0..8) {
                0 => disk.fail_at(point, Fault::Io),
                1 | 2 => disk.fail_at(point, Fault::NoSpace),
                3..=5 => disk.fail_at(point, Fault::Crash),
                _ => {}
            }
        }
    }

    async fn begin(&mut self) -> Result<Up, Error> {
        // A new process believes the machine's clock, wherever that has been turned to.
        self.clock = Arc::new(TokioClock::new(self.clock.wall()));
        let clock: Arc<dyn Clock> = Arc::<TokioClock>::clone(&self.clock);
        self.lab.begin_life(Arc::clone(&clock));
        let settings = Settings {
            clock,
            seed: Some(self.plan.seed),
            idle_ms: self.roll(200..20_000),
            deliveries_max: 4,
            poison_tries_max: u32::try_from(self.roll(1..5)).unwrap(),
            ..Settings::default()
        };
        let pace = Pace {
            flush_ms: 0..=self.roll(0..30),
            read_ms: 0..=self.roll(0..10),
        };
        let storage: Arc<dyn Storage> = Arc::<Disk>::clone(&self.disk);
        let host = Host::inline(Store::new(storage)?, settings, pace)?;
        let outlet = Arc::new(Outlet {
            lab: Arc::clone(&self.lab),
            cable: self.cable.clone(),
        });
        let nodes = host.namespace::<Node>(Arc::clone(&self.lab), outlet);
        let sinks = host.namespace::<Sink>(Arc::clone(&self.lab), Arc::new(durable::NoEffects));
        let counts = host.project(Counts).await.ok();
        let up = Up {
            host,
            nodes,
            sinks,
            counts,
        };
        checks::stored(&self.lab, &up).await;
        *self.targets.borrow_mut() = Some((up.nodes.clone(), up.sinks.clone()));
        Ok(up)
    }

    /// Clients and troubles, until enough time has passed or the disk has failed.
    async fn live(&self, up: &Up) {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let client = Client {
                nodes: up.nodes.clone(),
                lab: Arc::clone(&self.lab),
                dice: Rc::clone(&self.dice),
                next_op: Rc::clone(&self.next_op),
            };
            clients.push(tokio::task::spawn_local(client.run()));
        }
        let end = tokio::time::sleep(Duration::from_millis(self.roll(500..90_000)));
        let mut fatal = up.host.fatal();
        tokio::select! {
            biased;
            _ = fatal.wait_for(Option::is_some) => self.lab.say("the store has failed"),
            () = self.trouble() => {}
            () = end => {}
        }
        self.disk.inner.fill(false);
        for client in clients {
            client.abort();
            // It may be in the middle of a read, which holds the disk until it is gone.
            let _ = client.await;
        }
    }

    /// Turned clocks and full disks.
    async fn trouble(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.roll(100..20_000))).await;
            if !self.plan.faults {
                continue;
            }
            match self.roll(0..6) {
                0 => {
                    let ms = i64::try_from(self.roll(0..2_000_000)).unwrap() - 1_000_000;
                    self.lab.say(format_args!("the wall clock goes {ms} ms"));
                    self.clock.jump_wall(ms);
                }
                1 => {
                    self.lab.say("the machine sleeps");
                    self.clock
                        .slept(u32::try_from(self.roll(0..720_000)).unwrap());
                }
                2 => {
                    self.disk.inner.fill(true);
                    tokio::time::sleep(Duration::from_millis(self.roll(0..3_000))).await;
                    self.disk.inner.fill(false);
                }
                _ => {}
            }
        }
    }

    /// Ends the process from one moment to the next. Nothing of it may be left.
    fn end(&self, up: Up) {
        self.lab.say("crashes");
        *self.targets.borrow_mut() = None;
        let Up { host, .. } = up;
        host.crash();
        let left = Arc::strong_count(&self.disk);
        self.lab
            .check(left == 1, || format!("{left} hold the disk after a crash"));
        let alive = self.lab.notes().alive.values().sum::<u32>();
        self.lab
            .check(alive == 0, || format!("{alive} objects live after a crash"));
    }

    fn crash(&mut self, life: u64) {
        self.crashes += 1;
        let left = match (life, self.plan.crash_at) {
            (0, Some((_, left))) => left,
            _ => match self.roll(0..3) {
                0 => Left::Synced,
                1 => Left::First(1),
                _ => Left::Any,
            },
        };
        self.disk = Arc::new(Disk {
            inner: self.disk.inner.crash(left),
            lab: Arc::clone(&self.lab),
        });
    }

    /// Waits until nothing is left to be done.
    async fn settle(&self, up: &Up) {
        let until = tokio::time::Instant::now() + CALM;
        loop {
            tokio::time::sleep(Duration::from_mins(5)).await;
            let (alarms, effects) = (
                up.host.alarms_pending().await,
                up.host.effects_pending().await,
            );
            if alarms == Ok(Vec::new()) && effects == Ok(0) {
                break;
            }
            if tokio::time::Instant::now() > until {
                self.lab
                    .check(false, || format!("left over: {alarms:?}, {effects:?}"));
                break;
            }
        }
    }

    /// Waits until everything that was promised has come true.
    async fn calm(&mut self, up: Up) {
        self.settle(&up).await;
        checks::cure(&self.lab, &up).await;
        self.settle(&up).await;
        checks::stored(&self.lab, &up).await;
        checks::delivered(&self.lab, &up).await;
        up.host.stop().await;
        let alive = self.lab.notes().alive.values().sum::<u32>();
        self.lab
            .check(alive == 0, || format!("{alive} objects live after the end"));
        let storage: Arc<dyn Storage> = Arc::<Disk>::clone(&self.disk);
        let found = Store::new(storage).and_then(|store| store.verify());
        let letters = u64::try_from(self.lab.notes().letters).unwrap();
        let sound =
            matches!(&found, Ok(found) if found.damage.is_empty() && found.dead_letters == letters);
        self.lab.check(sound, || format!("the store: {found:?}"));
        let counts = self.disk.scan(b"t/", b"t0", Order::Ascending, 9);
        self.lab.check(counts == Ok(Vec::new()), || {
            format!("counts of effects that are gone: {counts:?}")
        });
    }

    fn outcome(&self) -> Outcome {
        let mut notes = self.lab.notes();
        Outcome {
            trace: std::mem::take(&mut notes.trace),
            broken: std::mem::take(&mut notes.broken),
            steps: notes.steps,
            crashes: self.crashes,
            acked: notes.acked.len(),
            effects: notes.taken.len(),
            letters: notes.letters,
            retries: notes.retried.len(),
            points: self.points,
        }
    }
}
