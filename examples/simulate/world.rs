//! One run: a process that is started, used, hurt and ended again and again on one disk, until in
//! its last life nothing fails any more.
//!
//! Owns the order of lives, and how each begins and ends. What has to be true in the end is in
//! `ends`.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use durable::{
    Clock, Error, Host, Pace, Settings, Storage, Store, TokioClock,
    storage::{Fault, FaultyStorage, Left},
};
use rig::{
    Incarnation, Input, RigId, TownId,
    town::{Found, TownInput, TownReply},
};
use runtime::objects::{RigActor, RigEnv, TownActor, TownEnv};
use tokio::{sync::mpsc, task::LocalSet};

use crate::{
    book::Book,
    container::Container,
    ends,
    kinds::{OfRig, OfTown},
    lab::{Faults, Lab, Up},
    net::{self, Outlet, Packet},
    people,
    rng::Rng,
    stats::Stats,
    weather::Weather,
    witness::Eye,
};

/// A Monday noon, UTC.
pub(crate) const START: i64 = 1_700_481_600_000;

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    pub(crate) broken: Vec<String>,
    pub(crate) trace: Vec<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, traced: bool) -> Outcome {
    in_virtual_time(async move {
        let mut world = World::new(seed);
        world.lab.book.notes().traced = traced;
        world.chaos().await;
        let outcome = ends::calm(&mut world).await;
        if let Err(words) = outcome {
            world.lab.book.broke(words);
        }
        world.outcome()
    })
}

/// One thread, whose time passes at once whenever nobody has anything to do.
pub(crate) fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    match built {
        Ok(runtime) => LocalSet::new().block_on(&runtime, work),
        Err(error) => {
            // Without a runtime there is nothing to simulate.
            std::panic::panic_any(format!("no runtime: {error}"));
        }
    }
}

pub(crate) struct World {
    pub(crate) lab: Rc<Lab>,
    seed: u64,
    disk: Arc<FaultyStorage>,
    cable: mpsc::UnboundedSender<Packet>,
    crashes: u64,
    /// A fault is planned on this disk.
    is_faulty: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let towns = if rng.chance(300) { 2 } else { 1 };
        let rigs = rng.below(4) + 1;
        let weather = Weather::draw(&mut rng);
        Self::with(seed, rng, (rigs, towns), weather)
    }

    /// So many rigs and towns, under that weather.
    pub(crate) fn with(
        seed: u64,
        rng: Rng,
        (rigs, towns): (usize, usize),
        weather: Weather,
    ) -> Self {
        let rigs = (0..rigs).filter_map(|n| RigId::new(format!("rig-{n}")).ok());
        let towns = (0..towns).filter_map(|n| TownId::new(format!("town-{n}")).ok());
        let lab = Rc::new(Lab {
            book: Book::default(),
            rng: RefCell::new(rng),
            weather: RefCell::new(weather),
            faults: Cell::new(Faults::none()),
            clock: RefCell::new(Arc::new(TokioClock::new(START))),
            up: RefCell::default(),
            trees: RefCell::default(),
            rigs: rigs.collect(),
            towns: towns.collect(),
        });
        let (cable, packets) = mpsc::unbounded_channel();
        tokio::task::spawn_local(net::carry(Rc::clone(&lab), packets));
        Self {
            lab,
            seed,
            disk: Arc::new(FaultyStorage::new(seed)),
            cable,
            crashes: 0,
            is_faulty: false,
        }
    }

    async fn chaos(&mut self) {
        let lives = self.lab.between(1, 4);
        for life in 0..lives {
            let faults = self.draw_faults();
            self.lab.faults.set(faults);
            self.is_faulty |= self.plan_faults();
            self.lab.book.notes().may_lose = self.is_faulty;
            if self.lab.chance(300) {
                self.lab.weather.borrow_mut().environment += 1;
            }
            let Ok(up) = self.begin() else {
                self.crash();
                continue;
            };
            if life == 0 {
                self.set_up(&up).await;
            }
            self.live(&up).await;
            self.end(up).await;
        }
    }

    fn draw_faults(&self) -> Faults {
        let mut rng = self.lab.rng.borrow_mut();
        Faults {
            lost: rng.pick(&[0, 20, 100]).unwrap_or(0),
            doubled: rng.pick(&[0, 50, 200]).unwrap_or(0),
            again: rng.pick(&[0, 30, 100]).unwrap_or(0),
            late_ms: rng.pick(&[20, 500, 20_000]).unwrap_or(20),
        }
    }

    /// Whether anything of this life may be taken back.
    fn plan_faults(&self) -> bool {
        let mut rng = self.lab.rng.borrow_mut();
        let point = self.disk.points() + rng.below(1_200) as u64;
        match rng.below(10) {
            0 => self.disk.fail_at(point, Fault::Io),
            1 => self.disk.fail_at(point, Fault::NoSpace),
            2 | 3 => self.disk.fail_at(point, Fault::Crash),
            4 => {}
            _ => return false,
        }
        true
    }

    /// A process starts: its objects are there, then each town's container tells its rigs.
    pub(crate) fn begin(&mut self) -> Result<Rc<Up>, Error> {
        let lab = &self.lab;
        // A new process believes the machine's clock, wherever that has been turned to.
        let clock = Arc::new(TokioClock::new(lab.clock.borrow().wall()));
        *lab.clock.borrow_mut() = Arc::clone(&clock);
        let life = lab.book.begin_life(Arc::<TokioClock>::clone(&clock));
        let settings = Settings {
            clock,
            seed: Some(self.seed),
            idle_ms: self.idle_ms(),
            ..Settings::default()
        };
        let pace = Pace {
            flush_ms: 0..=u64::try_from(lab.between(0, 30)).unwrap_or(0),
            read_ms: 0..=u64::try_from(lab.between(0, 10)).unwrap_or(0),
        };
        let storage: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&self.disk);
        let host = Host::inline(Store::new(storage)?, settings, pace)?;
        let outlet = Arc::new(Outlet {
            book: lab.book.clone(),
            cable: self.cable.clone(),
        });
        let eye = Arc::new(Eye::<OfRig>::new(lab.book.clone()));
        let rigs =
            host.namespace::<RigActor>(RigEnv::alone().seen_by(eye), Arc::<Outlet>::clone(&outlet));
        let eye = Arc::new(Eye::<OfTown>::new(lab.book.clone()));
        let towns = host.namespace::<TownActor>(TownEnv::seen_by(eye), outlet);
        let containers = RefCell::default();
        let up = Rc::new(Up {
            host,
            rigs,
            towns,
            containers,
        });
        *lab.up.borrow_mut() = Some(Rc::clone(&up));
        for town in &lab.towns {
            up.host
                .spawn(boot(Rc::clone(lab), Rc::clone(&up), town.clone(), life));
        }
        Ok(up)
    }

    /// Objects that sleep between two messages are read again and again, which takes its time:
    /// some lives are like that.
    fn idle_ms(&self) -> u64 {
        let longest = if self.lab.chance(200) {
            20_000
        } else {
            900_000
        };
        u64::try_from(self.lab.between(longest / 10, longest)).unwrap_or(2_000)
    }

    async fn set_up(&self, up: &Rc<Up>) {
        let lab = &self.lab;
        for town in &lab.towns {
            let policy = people::town_policy(&mut lab.rng.borrow_mut());
            let _ = lab
                .tell_town(
                    up,
                    town,
                    TownInput::SetPolicy {
                        policy,
                        by: rig::Who::named("somebody"),
                    },
                )
                .await;
        }
        for (n, rig) in lab.rigs.iter().enumerate() {
            let policy = people::policy(&mut lab.rng.borrow_mut());
            let _ = lab.tell(up, rig, Input::SetPolicy(policy)).await;
            let _ = lab.tell(up, rig, people::first_agent()).await;
            if lab.chance(900) {
                let town = lab.town_of(n);
                let fair = lab.chance(700);
                let config = people::config(&mut lab.rng.borrow_mut(), &town, rig, fair);
                let _ = lab.tell(up, rig, Input::Configure(config)).await;
            }
        }
    }

    /// People and troubles, until enough time has passed or the disk has failed.
    async fn live(&self, up: &Rc<Up>) {
        let lab = &self.lab;
        let pace_ms = lab
            .rng
            .borrow_mut()
            .pick(&[5_000, 20_000, 60_000])
            .unwrap_or(20_000);
        let longest = pace_ms * 60;
        let mut fatal = up.host.fatal();
        tokio::select! {
            biased;
            _ = fatal.wait_for(Option::is_some) => lab.book.say(|| "the store has failed".to_owned()),
            () = people::live(Rc::clone(lab), Rc::clone(up), pace_ms) => {}
            () = self.trouble(pace_ms) => {}
            () = lab.sleep(lab.between(pace_ms, longest)) => {}
        }
        self.disk.fill(false);
    }

    /// Weather, turned clocks, full disks.
    async fn trouble(&self, pace_ms: i64) {
        let lab = &self.lab;
        loop {
            lab.sleep(lab.between(1_000, pace_ms * 10)).await;
            let which = lab.rng.borrow_mut().below(12);
            match which {
                0 => {
                    let longest = lab.rng.borrow_mut().pick(&[60_000, 3_600_000, 90_000_000]);
                    let longest = longest.unwrap_or(60_000);
                    let ms = lab.between(-longest, longest);
                    if ms.abs() > 2_000 {
                        lab.book.saw(if ms > 0 {
                            "clock jumped forward"
                        } else {
                            "clock jumped back"
                        });
                    }
                    lab.book.say(|| format!("the wall clock goes {ms} ms"));
                    lab.clock.borrow().jump_wall(ms);
                }
                1 => {
                    let ms = u32::try_from(lab.between(31_000, 7_200_000)).unwrap_or(31_000);
                    lab.book.saw("suspended");
                    lab.book.say(|| format!("the machine sleeps {ms} ms"));
                    lab.clock.borrow().slept(ms);
                }
                2 if lab.book.notes().may_lose => {
                    lab.book.say(|| "the disk is full".to_owned());
                    self.disk.fill(true);
                    lab.sleep(lab.between(0, 10_000)).await;
                    self.disk.fill(false);
                }
                _ => {
                    let said = {
                        let (mut weather, mut rng) =
                            (lab.weather.borrow_mut(), lab.rng.borrow_mut());
                        weather.turn(&mut rng, &lab.rigs, &lab.towns)
                    };
                    lab.book.say(|| format!("weather: {said}"));
                }
            }
        }
    }

    /// The process ends: in order, or from one moment to the next.
    async fn end(&mut self, up: Rc<Up>) {
        let lab = Rc::clone(&self.lab);
        if lab.chance(250) && up.host.fatal().borrow().is_none() {
            lab.book.saw("clean restart");
            lab.book.say(|| "stops".to_owned());
            let containers: Vec<_> = up.containers.borrow().values().cloned().collect();
            for container in containers {
                container.drain(lab.between(0, 5_000)).await;
            }
            up.host.stop().await;
            self.over(&up);
            return;
        }
        if lab.book.notes().processes.count() > 0 {
            lab.book.saw("crash while a session ran");
        }
        self.over(&up);
        self.crash();
    }

    /// Nothing of the process is left but its children.
    pub(crate) fn over(&mut self, up: &Up) {
        *self.lab.up.borrow_mut() = None;
        up.containers.borrow_mut().clear();
        up.host.crash();
        let mut notes = self.lab.book.notes();
        notes.processes.are_orphaned();
        notes
            .rigs
            .values_mut()
            .for_each(crate::shadow::Shadow::dies);
        notes
            .towns
            .values_mut()
            .for_each(crate::shadow::Shadow::dies);
    }

    /// What a crash leaves of the disk.
    fn crash(&mut self) {
        self.crashes += 1;
        self.lab.book.say(|| "crashes".to_owned());
        let left = match self.lab.rng.borrow_mut().below(3) {
            0 => Left::Synced,
            1 => Left::First(1),
            _ => Left::Any,
        };
        self.replace_disk(left);
        if self.lab.chance(300) {
            self.lab.book.say(|| "the power goes".to_owned());
            self.lab.book.notes().processes.are_cut_off();
        }
    }

    /// The same disk, as it was left, and without a fault planned.
    pub(crate) fn replace_disk(&mut self, left: Left) {
        self.disk = Arc::new(self.disk.crash(left));
        self.is_faulty = false;
    }

    /// Whether everything on disk can be read.
    pub(crate) fn verify(&self) -> Result<(), String> {
        let storage: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&self.disk);
        let found = Store::new(storage).and_then(|store| store.verify());
        match found {
            Ok(found) if found.damage.is_empty() => Ok(()),
            other => Err(format!("the store: {other:?}")),
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let mut notes = self.lab.book.notes();
        notes.stats.seeds = 1;
        notes.stats.crashes = self.crashes;
        notes.stats.crashed_seeds = u64::from(self.crashes > 0);
        Outcome {
            stats: notes.stats.clone(),
            broken: std::mem::take(&mut notes.broken),
            trace: std::mem::take(&mut notes.trace),
        }
    }
}

/// A town's container begins a life, as the real one does: what an earlier life has left is ended,
/// then every rig hears of it before anything may be declared lost.
async fn boot(lab: Rc<Lab>, up: Rc<Up>, town: TownId, life: u64) {
    let Ok(incarnation) = Incarnation::new(format!("{town}-life-{life}")) else {
        return;
    };
    sweep(&lab, &town);
    let found = loop {
        match lab.tell_town(&up, &town, TownInput::Survey).await {
            Ok(TownReply::Found(found)) => break found,
            Ok(_) => break Found::default(),
            Err(Error::Stopped) => return,
            Err(_) => lab.sleep(1_000).await,
        }
    };
    let own = (0..lab.rigs.len()).filter(|n| lab.town_of(*n) == town);
    let mut rigs: Vec<RigId> = own.map(|n| lab.rigs[n].clone()).collect();
    rigs.extend(found.unreported.iter().map(|(rig, _)| rig.clone()));
    rigs.sort();
    rigs.dedup();
    for rig in rigs {
        let unreported = found.unreported.iter().filter(|(of, _)| *of == rig);
        let started = Input::ContainerStarted {
            incarnation: incarnation.clone(),
            live: Vec::new(),
            unreported: unreported.map(|(_, dispatch)| dispatch.clone()).collect(),
        };
        let _ = lab.tell(&up, &rig, started).await;
    }
    while let Err(error) = lab.tell_town(&up, &town, TownInput::Boot).await {
        if error == Error::Stopped {
            return;
        }
        lab.sleep(1_000).await;
    }
    let container = Container::new(Rc::clone(&lab), town.clone(), incarnation);
    up.containers.borrow_mut().insert(town, Rc::new(container));
}

/// Until they are ended, orphans work on: what they leave is in their trees, and nobody has heard
/// of it.
fn sweep(lab: &Lab, town: &TownId) {
    let swept = lab.book.notes().processes.sweep(town);
    for seat in swept {
        lab.book.saw("orphan swept");
        if lab.chance(300) {
            lab.trees.borrow_mut().change(&seat);
            if lab.chance(300) {
                lab.trees.borrow_mut().commit(&seat);
            }
            lab.book.saw("orphan left work");
        }
    }
}
