//! Disasters that are known by name: agents that all exit at once, a gateway that is gone for half
//! a day, sessions that wait for it and hold every slot.
//!
//! Owns what each of them may cost. The objects are the real ones, the checks those of every run.

use std::rc::Rc;

use rig::{
    Bead, BeadType, CredentialSource, Input, NewBead, Phase, Rig, RigConfig, Status,
    town::{TownInput, TownPolicy},
};

use crate::{
    lab::{Lab, Up},
    plan,
    rng::Rng,
    weather::{CREDENTIALS, GATEWAYS, Weather},
    world::{World, in_virtual_time},
};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Runs one of them; what it measured, in words.
pub(crate) fn run(name: &str) -> Result<String, String> {
    match name {
        "exits" => in_virtual_time(exits()),
        "outage" => in_virtual_time(outage()),
        "offline" => in_virtual_time(offline()),
        other => Err(format!("{other} is none of exits, outage, offline")),
    }
}

/// Sums over all rigs.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    beads: usize,
    failed: usize,
    closed: usize,
    /// Charged failures of all beads.
    failures: u32,
    /// Failed beads whose failures are not exactly the limit.
    odd: usize,
    /// Beads that wait without a time at which something happens next.
    timeless: usize,
    escalations: usize,
    open_escalations: usize,
}

impl Sum {
    fn of(rig: &Rig) -> Self {
        let now = rig.record().latest_at;
        let mut sum = Self::default();
        for bead in rig.beads() {
            if bead.kind == BeadType::Escalation {
                sum.escalations += 1;
                sum.open_escalations += usize::from(!bead.is_terminal());
                continue;
            }
            sum.beads += 1;
            sum.failures += bead.numbers.failures;
            match bead.status() {
                Status::Failed => {
                    sum.failed += 1;
                    sum.odd += usize::from(bead.numbers.failures != rig.policy().attempts_max);
                }
                Status::Closed => sum.closed += 1,
                Status::Open | Status::InProgress | Status::InReview => {
                    sum.timeless += usize::from(is_timeless(rig, bead, now));
                }
            }
        }
        sum
    }

    fn plus(self, other: Self) -> Self {
        Self {
            beads: self.beads + other.beads,
            failed: self.failed + other.failed,
            closed: self.closed + other.closed,
            failures: self.failures + other.failures,
            odd: self.odd + other.odd,
            timeless: self.timeless + other.timeless,
            escalations: self.escalations + other.escalations,
            open_escalations: self.open_escalations + other.open_escalations,
        }
    }
}

fn is_timeless(rig: &Rig, bead: &Bead, now: rig::Timestamp) -> bool {
    let waits = matches!(bead.phase, Phase::Waiting { .. });
    waits && rig.explain(bead, now).at.is_none()
}

/// A town with its rigs, up and configured.
struct Stage {
    world: World,
    up: Rc<Up>,
    lab: Rc<Lab>,
}

impl Stage {
    async fn set(rigs: usize, slots: u32, weather: Weather) -> Result<Self, String> {
        let mut world = World::with(1, Rng::new(1), (rigs, 1), weather);
        let up = world.begin().map_err(|error| error.to_string())?;
        let lab = Rc::clone(&world.lab);
        lab.sleep(5_000).await;
        let stage = Self { world, up, lab };
        let policy = TownPolicy {
            slots_max: slots,
            offline_ms: 6 * HOUR_MS,
            ..TownPolicy::default()
        };
        for town in &stage.lab.towns {
            let told = stage.lab.tell_town(
                &stage.up,
                town,
                TownInput::SetPolicy {
                    policy: policy.clone(),
                    by: rig::Who::named("somebody"),
                },
            );
            told.await.map_err(|error| error.to_string())?;
        }
        Ok(stage)
    }

    async fn configure(&self, rig: usize, credential: &str) -> Result<(), String> {
        let config = RigConfig {
            town_id: self.lab.town_of(rig),
            name: "rig".to_owned(),
            git_url: "https://git.example/it".to_owned(),
            default_branch: "main".to_owned(),
            model: None,
            review: rig::ReviewMode::Off,
            credentials: CredentialSource::Stored {
                id: credential.to_owned(),
            },
        };
        self.tell(rig, Input::Configure(config)).await
    }

    async fn sling(&self, rig: usize, count: usize) -> Result<(), String> {
        for n in 0..count {
            self.tell(rig, Input::Sling(NewBead::issue(format!("work {n}"))))
                .await?;
        }
        Ok(())
    }

    async fn tell(&self, rig: usize, input: Input) -> Result<(), String> {
        let told = self.lab.tell(&self.up, &self.lab.rigs[rig], input).await;
        let told = told.map_err(|error| error.to_string())?;
        told.map(drop).map_err(|refused| refused.to_string())
    }

    async fn sum(&self) -> Result<Sum, String> {
        let mut all = Sum::default();
        for rig in &self.lab.rigs {
            let sum = self.lab.look(&self.up, rig, Sum::of).await;
            all = all.plus(sum.ok_or_else(|| format!("{rig} does not answer"))?);
        }
        Ok(all)
    }

    fn dispatched(&self) -> u64 {
        self.lab.book.notes().dispatched
    }

    fn checked(&self) -> u64 {
        self.lab.book.notes().checked
    }

    /// Waits until it is so; how long that took.
    async fn until(
        &self,
        max_ms: i64,
        step_ms: i64,
        is_so: impl Fn(&Sum) -> bool,
    ) -> Result<i64, String> {
        let begun = self.lab.now();
        loop {
            self.lab.sleep(step_ms).await;
            self.unbroken()?;
            let (sum, waited) = (self.sum().await?, self.lab.now() - begun);
            if is_so(&sum) {
                return Ok(waited);
            }
            if waited > max_ms {
                return Err(format!("not within {} hours: {sum:?}", max_ms / HOUR_MS));
            }
        }
    }

    fn unbroken(&self) -> Result<(), String> {
        let notes = self.lab.book.notes();
        notes
            .broken
            .first()
            .map_or(Ok(()), |words| Err(words.clone()))
    }

    async fn end(mut self) {
        self.up.host.stop().await;
        self.world.over(&self.up);
    }
}

fn check(holds: bool, words: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(words.into()) }
}

/// 50 rigs with 20 beads each, whose agents all exit at once.
async fn exits() -> Result<String, String> {
    let weather = Weather {
        script: Some(plan::exits),
        ..Weather::fair()
    };
    let stage = Stage::set(50, 8, weather).await?;
    for rig in 0..50 {
        stage.configure(rig, CREDENTIALS[0]).await?;
        stage.sling(rig, 20).await?;
    }
    stage.lab.sleep(12 * HOUR_MS).await;
    let half = stage.sum().await?;
    check(
        half.timeless == 0,
        format!("beads wait for nothing: {half:?}"),
    )?;
    let took = stage
        .until(72 * HOUR_MS, HOUR_MS, |sum| sum.failed == sum.beads)
        .await?;
    let (all, dispatched) = (stage.sum().await?, stage.dispatched());
    check(
        all.odd == 0 && all.failures == 5_000,
        format!("not five failures each: {all:?}"),
    )?;
    // What the town refused because it was full has cost nothing.
    let refused = dispatched.saturating_sub(5_000);
    check(
        dispatched >= 5_000,
        format!("{dispatched} dispatches for 1,000 beads"),
    )?;
    stage.lab.sleep(24 * HOUR_MS).await;
    check(
        stage.dispatched() == dispatched,
        "a dispatch after all had failed",
    )?;
    *stage.lab.weather.borrow_mut() = Weather::fair();
    for rig in 0..50 {
        stage.sling(rig, 2).await?;
    }
    let healed = stage
        .until(6 * HOUR_MS, 5 * MINUTE_MS, |sum| sum.closed == 100)
        .await?;
    let words = format!(
        "1,000 beads failed after 5,000 sessions in {} hours ({refused} dispatches were refused for \
         want of a slot), {} escalations; a day of \
         silence; then 100 new beads closed within {} minutes",
        (12 * HOUR_MS + took) / HOUR_MS,
        all.escalations,
        healed / MINUTE_MS
    );
    stage.end().await;
    Ok(words)
}

/// A gateway is gone for 12 hours under 100 beads, the credentials of another rig for a week.
async fn outage() -> Result<String, String> {
    let stage = Stage::set(11, 8, Weather::fair()).await?;
    {
        let mut weather = stage.lab.weather.borrow_mut();
        weather.down.insert(GATEWAYS[0].to_owned());
        weather.missing.insert(CREDENTIALS[2].to_owned());
    }
    for rig in 0..10 {
        stage.configure(rig, CREDENTIALS[0]).await?;
        stage.sling(rig, 10).await?;
    }
    stage.lab.sleep(12 * HOUR_MS).await;
    let (gone, gone_checks) = (stage.sum().await?, stage.checked());
    check(
        gone.failures == 0 && gone.failed == 0,
        format!("charged for the gateway: {gone:?}"),
    )?;
    check(
        gone.open_escalations == 1,
        format!("not one escalation: {gone:?}"),
    )?;
    // 1, 2, 4, 8 and 16 minutes, then every half hour, each up to a quarter longer.
    check(
        (20..=30).contains(&gone_checks),
        format!("{gone_checks} checks in 12 hours"),
    )?;
    stage.lab.weather.borrow_mut().down.clear();
    let healed = stage
        .until(12 * HOUR_MS, 5 * MINUTE_MS, |sum| sum.closed == 100)
        .await?;
    stage.configure(10, CREDENTIALS[2]).await?;
    stage.sling(10, 5).await?;
    let before = stage.checked();
    stage.lab.sleep(7 * 24 * HOUR_MS).await;
    let (week, checks) = (stage.sum().await?, stage.checked() - before);
    check(
        week.failures == 0 && week.failed == 0,
        format!("charged for credentials: {week:?}"),
    )?;
    check(
        week.open_escalations == 1,
        format!("not one escalation: {week:?}"),
    )?;
    check(
        (270..=345).contains(&checks),
        format!("{checks} checks in a week"),
    )?;
    stage.lab.weather.borrow_mut().missing.clear();
    let back = stage
        .until(2 * HOUR_MS, 5 * MINUTE_MS, |sum| sum.closed == 105)
        .await?;
    let end = stage.sum().await?;
    check(
        end.open_escalations == 0,
        format!("an escalation is left: {end:?}"),
    )?;
    let words = format!(
        "no bead failed; 12 hours without a gateway cost {gone_checks} checks and 1 escalation, \
         then 100 beads closed within {} minutes; a week without credentials cost {checks} checks \
         and 1 escalation, then 5 beads closed within {} minutes",
        healed / MINUTE_MS,
        back / MINUTE_MS
    );
    stage.end().await;
    Ok(words)
}

/// Every slot is held by a session that waits for its gateway, and the breaker is open.
async fn offline() -> Result<String, String> {
    let weather = Weather {
        script: Some(plan::patient),
        ..Weather::fair()
    };
    let stage = Stage::set(4, 4, weather).await?;
    for rig in 0..4 {
        stage.configure(rig, CREDENTIALS[0]).await?;
        stage.sling(rig, 3).await?;
    }
    // All four have written and are at work.
    stage.lab.sleep(50_000).await;
    stage
        .lab
        .weather
        .borrow_mut()
        .down
        .insert(GATEWAYS[0].to_owned());
    stage.lab.sleep(HOUR_MS / 4).await;
    let waiting = |town: &rig::town::Town| {
        let offline = town.taken().filter(|(_, berth)| berth.offline.is_some());
        (offline.count(), town.taken_count())
    };
    let town = stage.lab.town_of(0);
    let counts = stage.lab.look_town(&stage.up, &town, waiting).await;
    check(
        counts == Some((4, 4)),
        format!("not all four wait offline: {counts:?}"),
    )?;
    stage.lab.weather.borrow_mut().down.clear();
    let took = stage
        .until(12 * HOUR_MS, MINUTE_MS, |sum| sum.closed == sum.beads)
        .await?;
    let end = stage.sum().await?;
    check(end.failures == 0, format!("somebody paid: {end:?}"))?;
    let words = format!(
        "4 of 4 slots waited offline; with the gateway back all {} beads closed within {} minutes",
        end.beads,
        took / MINUTE_MS
    );
    stage.end().await;
    Ok(words)
}
