//! A model of one session: it follows its plan, tells its rig and its town what the real one
//! tells them, and heeds what they want.
//!
//! Owns the loop between order and report. It is also the witness for "one live session per bead".

mod words;

use std::{rc::Rc, time::Duration};

use rig::{
    BeadId, Class, DispatchId, DispatchOrder, Failure, Incarnation, Input, Refused, Reply, Report,
    RigId, Stage, TownId, Usage, town::TownInput,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    container::Container,
    lab::{Lab, Up},
    plan::{self, Act, Plan, TURN_TOKENS_MAX},
};

const NEVER: Duration = Duration::from_hours(30 * 24);
const RETRY: Duration = Duration::from_secs(1);

/// What the container wants of a session.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// End it.
    Stop { grace_ms: i64, is_drain: bool },
    /// End it for that reason.
    End(Failure),
    /// Stop the turn and prompt once more; each number once.
    Nudge(u32),
    /// Try the gateway again.
    RetryOffline,
}

impl Order {
    pub(crate) fn stop(grace_ms: i64) -> Self {
        Self::Stop {
            grace_ms,
            is_drain: false,
        }
    }
}

/// How it came to its end.
enum How {
    Completed,
    Failed(Failure),
}

type Over = Option<How>;

#[expect(
    clippy::struct_excessive_bools,
    reason = "what a session is are facts, not one state"
)]
struct Session {
    lab: Rc<Lab>,
    up: Rc<Up>,
    town: TownId,
    incarnation: Incarnation,
    rig: RigId,
    order: Box<DispatchOrder>,
    at: (RigId, BeadId),
    name: String,
    plan: Plan,
    /// The rig has heard of it.
    started: bool,
    output: bool,
    offline: bool,
    mute: bool,
    /// It hears no nudge.
    deaf: bool,
    usage: Usage,
    turn_no: u32,
    turn_tokens: u64,
    own_commit: Option<String>,
    progress_at: Option<i64>,
    tool_since: Option<i64>,
    repeats: u32,
    nudged: u32,
    is_quiet: bool,
    /// The grace of a stop, and whether the process ends.
    stopping: Option<bool>,
    stop_at: Instant,
    judge_at: Instant,
    act_at: Instant,
    beat_at: Instant,
}

/// Runs a dispatch to its end.
pub(crate) async fn run(
    container: &Rc<Container>,
    up: &Rc<Up>,
    rig: RigId,
    order: Box<DispatchOrder>,
    mut orders: mpsc::Receiver<Order>,
) -> Report {
    let mut session = Session::new(container, up, rig, order);
    session.begins();
    let started = tokio::select! {
        biased;
        failure = ended_early(&mut orders) => Err(failure),
        started = session.start() => started,
    };
    let how = match started {
        Ok(()) => session.watch(&mut orders).await,
        Err(failure) => How::Failed(failure),
    };
    session.finish(how).await
}

/// The first order that ends a session which has not begun. Others are about its turns.
async fn ended_early(orders: &mut mpsc::Receiver<Order>) -> Failure {
    loop {
        match orders.recv().await {
            Some(Order::Stop { .. }) => {
                return Failure::new(Class::Interrupted, Stage::Session, "stopped early");
            }
            Some(Order::End(failure)) => return failure,
            Some(Order::Nudge(_) | Order::RetryOffline) => {}
            None => std::future::pending().await,
        }
    }
}

impl Session {
    fn new(container: &Rc<Container>, up: &Rc<Up>, rig: RigId, order: Box<DispatchOrder>) -> Self {
        let lab = Rc::clone(&container.lab);
        let plan = {
            let (weather, mut rng) = (lab.weather.borrow(), lab.rng.borrow_mut());
            plan::draw(&mut rng, &weather)
        };
        let is_gone = lab.chance(100);
        let resume = order.resume.clone().filter(|_| !is_gone);
        let name = resume.unwrap_or_else(|| format!("ses-{}", order.dispatch));
        let never = Instant::now() + NEVER;
        Self {
            at: (rig.clone(), order.dispatch.bead.clone()),
            lab,
            up: Rc::clone(up),
            town: container.town.clone(),
            incarnation: container.incarnation.clone(),
            rig,
            order,
            name,
            plan,
            started: false,
            output: false,
            offline: false,
            mute: false,
            deaf: false,
            usage: Usage::default(),
            turn_no: 0,
            turn_tokens: 0,
            own_commit: None,
            progress_at: None,
            tool_since: None,
            repeats: 0,
            nudged: 0,
            is_quiet: false,
            stopping: None,
            stop_at: never,
            judge_at: never,
            act_at: never,
            beat_at: never,
        }
    }

    fn dispatch(&self) -> DispatchId {
        self.order.dispatch.clone()
    }

    /// I1: no other session of this bead lives, in any town.
    fn begins(&self) {
        let mut notes = self.lab.book.notes();
        notes.say(|| {
            format!(
                "{} {} begins: {:?}",
                self.rig, self.order.dispatch, self.plan
            )
        });
        let begun = notes
            .processes
            .begins(&self.at, &self.town, &self.order.dispatch);
        if let Err(broken) = begun {
            notes.broke(broken);
        }
    }

    async fn tell(&self, input: Input) -> Result<Result<Reply, Refused>, durable::Error> {
        self.lab.tell(&self.up, &self.rig, input).await
    }

    /// What gets lost is told again with the next word, or with the report.
    async fn tell_town(&self, input: TownInput) {
        let _ = self.lab.tell_town(&self.up, &self.town, input).await;
    }

    /// From worktree to the first event.
    async fn start(&mut self) -> Result<(), Failure> {
        if self.plan.hangs {
            std::future::pending::<()>().await;
        }
        self.lab.sleep(self.plan.start_ms).await;
        if let Some(class) = self.plan.start_fails {
            return Err(Failure::new(
                class,
                Stage::Session,
                "the start failed, as planned",
            ));
        }
        {
            let (weather, mut rng) = (self.lab.weather.borrow(), self.lab.rng.borrow_mut());
            weather.git(&self.rig, Stage::Worktree)?;
            weather.program(&self.town, Stage::Server)?;
            let asked = weather.gateway(&mut rng, &self.order.config, Stage::Preflight);
            // One that is down is met by the turn.
            if let Err(failure) = asked
                && failure.class != Class::Gateway
            {
                return Err(failure);
            }
        }
        self.tell_town(TownInput::NoteSession {
            rig: self.rig.clone(),
            dispatch: self.dispatch(),
            session: self.name.clone(),
            place: None,
        })
        .await;
        Ok(())
    }

    /// Watches the session until it has to end.
    async fn watch(&mut self, orders: &mut mpsc::Receiver<Order>) -> How {
        let every = Duration::from_millis(u64::try_from(self.order.heartbeat_ms).unwrap_or(15_000));
        self.moved();
        self.beat_at = Instant::now() + every;
        self.next_act();
        if let Some(how) = self.report_start().await {
            return how;
        }
        loop {
            let next = self
                .stop_at
                .min(self.beat_at)
                .min(self.judge_at)
                .min(self.act_at);
            let over = tokio::select! {
                biased;
                Some(order) = orders.recv() => self.heed(order),
                () = tokio::time::sleep_until(next) => {
                    let now = Instant::now();
                    if now >= self.stop_at {
                        Some(Self::interrupted())
                    } else if now >= self.beat_at {
                        self.beat_at = now + every;
                        self.beat().await
                    } else if now >= self.judge_at {
                        self.judge().await
                    } else {
                        self.act().await
                    }
                }
            };
            if let Some(how) = over {
                return how;
            }
        }
    }

    fn next_act(&mut self) {
        self.act_at = match self.plan.acts.front() {
            Some((after, _)) => {
                Instant::now() + Duration::from_millis(u64::try_from(*after).unwrap_or(0))
            }
            None => Instant::now() + NEVER,
        };
    }

    fn moved(&mut self) {
        self.progress_at = Some(self.lab.now());
        self.is_quiet = false;
        self.judge_at = Instant::now() + NEVER;
    }

    /// What a turn costs is bounded, whatever it does.
    fn costs(&mut self) {
        let left = TURN_TOKENS_MAX.saturating_sub(self.turn_tokens);
        let tokens = u64::try_from(self.lab.between(20, 400))
            .unwrap_or(20)
            .min(left);
        self.turn_tokens += tokens;
        self.usage.output_tokens += tokens;
        self.usage.cost_usd += 0.001 * f64::from(u32::try_from(tokens).unwrap_or(0));
    }

    fn interrupted() -> How {
        How::Failed(Failure::new(Class::Interrupted, Stage::Turn, "stopped"))
    }

    fn fails(&self, class: Class, text: &str) -> How {
        let mut failure = Failure::new(class, Stage::Turn, text);
        failure.offline = class == Class::Gateway && self.lab.chance(200);
        if class == Class::RateLimited && self.lab.chance(500) {
            failure.retry_after_ms = Some(self.lab.between(0, 400_000));
        }
        How::Failed(failure)
    }

    fn heed(&mut self, order: Order) -> Over {
        match order {
            Order::Stop { grace_ms, is_drain } => {
                self.stopping = Some(is_drain);
                if self.is_quiet {
                    self.judge_at = Instant::now();
                } else {
                    let grace = Duration::from_millis(u64::try_from(grace_ms).unwrap_or(0));
                    self.stop_at = self.stop_at.min(Instant::now() + grace);
                }
            }
            Order::End(failure) => return Some(How::Failed(failure)),
            Order::Nudge(no) => {
                let can = !self.is_quiet && !self.deaf && self.stopping.is_none();
                let is_new = no > self.nudged && can;
                self.nudged = self.nudged.max(no);
                if is_new {
                    self.turn_no += 1;
                    self.prompted();
                }
            }
            Order::RetryOffline if self.offline => {
                if self
                    .plan
                    .acts
                    .front()
                    .is_none_or(|(_, act)| *act != Act::Output)
                {
                    self.plan.acts.push_front((0, Act::Output));
                }
                self.act_at = Instant::now();
            }
            Order::RetryOffline => {}
        }
        None
    }

    /// A further turn in the same session.
    fn prompted(&mut self) {
        self.moved();
        (self.turn_tokens, self.tool_since, self.repeats) = (0, None, 0);
        let good = self.lab.weather.borrow().good;
        self.plan.acts = plan::next_turn(&mut self.lab.rng.borrow_mut(), good);
        self.next_act();
    }

    async fn act(&mut self) -> Over {
        let Some((_, act)) = self.plan.acts.pop_front() else {
            self.next_act();
            return None;
        };
        self.tool_since = None;
        let over = self.perform(act).await;
        self.next_act();
        if let Act::Tool(Some(ms)) = act {
            self.act_at += Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        }
        if act == Act::Output && self.offline {
            // It waits until it is told to try again.
            self.act_at = Instant::now() + NEVER;
        }
        over
    }

    async fn perform(&mut self, act: Act) -> Over {
        match act {
            Act::Output => return self.writes().await,
            Act::Commit => {
                self.moved();
                self.costs();
                let mut trees = self.lab.trees.borrow_mut();
                trees.change(&self.at);
                self.own_commit = Some(trees.commit(&self.at));
            }
            Act::Dirty => {
                self.moved();
                self.costs();
                self.lab.trees.borrow_mut().change(&self.at);
            }
            Act::Tool(ends) => {
                self.moved();
                self.tool_since = Some(self.lab.now());
                if ends.is_none() {
                    self.plan.acts.clear();
                }
            }
            Act::Loop => {
                self.moved();
                self.repeats = self.order.repeats_max;
                self.plan.acts.clear();
                return self.beat().await;
            }
            Act::TurnEnds if !self.output => {
                return Some(self.fails(Class::EndedEmpty, "no output"));
            }
            Act::TurnEnds => return self.turn_ends().await,
            Act::EndsEmpty => return Some(self.fails(Class::EndedEmpty, "no output")),
            Act::SayDone => self.say_done(0),
            Act::Fail(class) => return Some(self.fails(class, "it failed, as planned")),
            Act::Mute => {
                self.mute = true;
                self.plan.acts.clear();
            }
            Act::Stall => {
                self.deaf = self.lab.chance(500);
                self.plan.acts.clear();
            }
            Act::Die => {
                let class = if self.lab.chance(700) {
                    Class::Crash
                } else {
                    Class::Lost
                };
                return Some(self.fails(class, "the program ended under it"));
            }
            Act::ReportedOver(ok) => self.reported_over(ok),
        }
        None
    }

    /// The model writes, if its gateway lets it.
    async fn writes(&mut self) -> Over {
        let asked = {
            let (weather, mut rng) = (self.lab.weather.borrow(), self.lab.rng.borrow_mut());
            weather.turn_begins(&mut rng, &self.order.config)
        };
        match asked {
            Ok(()) => {}
            Err(failure) if failure.class == Class::Gateway && self.plan.waits_offline => {
                self.offline = true;
                self.plan.acts.push_front((0, Act::Output));
                self.tell_town(TownInput::Offline {
                    rig: self.rig.clone(),
                    dispatch: self.dispatch(),
                    text: failure.text,
                })
                .await;
                return None;
            }
            Err(failure) => return Some(How::Failed(failure)),
        }
        self.moved();
        self.costs();
        let is_first = !self.output || self.offline;
        (self.output, self.offline) = (true, false);
        let (rig, dispatch, usage) = (self.rig.clone(), self.dispatch(), self.usage);
        self.tell_town(TownInput::Used {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
            usage,
        })
        .await;
        if is_first {
            self.tell_town(TownInput::Output { rig, dispatch }).await;
        }
        self.beat().await
    }

    async fn turn_ends(&mut self) -> Over {
        self.moved();
        self.turn_no += 1;
        self.is_quiet = true;
        let quiet = if self.stopping.is_some() {
            0
        } else {
            self.order.idle_grace_ms
        };
        self.judge_at = Instant::now() + Duration::from_millis(u64::try_from(quiet).unwrap_or(0));
        self.tell_town(TownInput::Used {
            rig: self.rig.clone(),
            dispatch: self.dispatch(),
            usage: self.usage,
        })
        .await;
        None
    }
}

fn stale() -> How {
    How::Failed(Failure::new(
        Class::Interrupted,
        Stage::Turn,
        "the dispatch is not current",
    ))
}
