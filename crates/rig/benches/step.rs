//! Whether a step's cost grows with what is done or what waits: one sling on rigs of several
//! sizes, in turns, as ratios to the smallest.
//!
//! `cargo bench -p wellhead-rig --bench step`

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at whatever is unexpected"
)]

use std::time::Instant;

use wellhead_rig::{BeadId, Change, Env, Input, NewBead, Reply, Rig, Timestamp};

const ROUNDS: usize = 5;
const STEPS: u128 = 2_000;
const SMALL: usize = 10;
const LARGE: usize = 100_000;

fn main() {
    let small = ("10 closed", filled(SMALL, true));
    let large = [
        ("100,000 closed", filled(LARGE, true)),
        ("100,000 waiting", filled(LARGE, false)),
    ];
    for (name, rig) in &large {
        let pairs: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (cost(rig), cost(&small.1))).collect();
        let mut ratios: Vec<f64> = pairs.iter().map(|(large, small)| large / small).collect();
        ratios.sort_by(f64::total_cmp);
        let micros = |seconds: f64| seconds * 1e6 / STEPS as f64;
        let best = pairs
            .iter()
            .map(|(large, _)| micros(*large))
            .fold(f64::MAX, f64::min);
        println!("one sling with {name}: at best {best:.1} us");
        println!(
            "one sling with {name} against {}: min {:.2}, median {:.2}, max {:.2}",
            small.0,
            ratios[0],
            ratios[ROUNDS / 2],
            ratios[ROUNDS - 1]
        );
    }
}

/// A rig with that many beads, each of which was slung and, if wanted, closed.
fn filled(beads: usize, closed: bool) -> Rig {
    let mut rig = Rig::new();
    let mut nonce = 0;
    for _ in 0..beads {
        let slung = take(&mut rig, Input::Sling(NewBead::issue("work")), &mut nonce);
        if closed {
            let close = Input::Close {
                bead: slung.expect("a bead"),
                by: None,
            };
            take(&mut rig, close, &mut nonce);
        }
    }
    rig
}

fn take(rig: &mut Rig, input: Input, nonce: &mut u128) -> Option<BeadId> {
    let step = rig.step(input, env(nonce)).expect("a legal input");
    rig.apply(step.changes);
    match step.reply {
        Reply::Slung { bead, .. } => Some(bead.id),
        _ => None,
    }
}

fn env(nonce: &mut u128) -> Env {
    *nonce = nonce.wrapping_add(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    Env {
        now: Timestamp(1_800_000_000_000),
        nonce: *nonce,
    }
}

/// Seconds for some slings on a rig that stays as it is, with what the shell does after each.
fn cost(rig: &Rig) -> f64 {
    let mut rig = rig.clone();
    let mut nonce = 7;
    let began = Instant::now();
    for _ in 0..STEPS {
        let input = Input::Sling(NewBead::issue("one more"));
        let env = env(&mut nonce);
        let now = env.now;
        let step = rig.step(input, env).expect("a legal input");
        rig.apply(step.changes.iter().cloned());
        std::hint::black_box(rig.next_alarm(now));
        // Taken back, so that the size stays.
        rig.apply(step.changes.into_iter().filter_map(|change| match change {
            Change::Bead(bead) => Some(Change::BeadDeleted(bead.id)),
            _ => None,
        }));
    }
    began.elapsed().as_secs_f64()
}
