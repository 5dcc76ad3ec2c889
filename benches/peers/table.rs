//! The table: min / median / max of each peer, and how far apart the medians are.
//!
//! Plain Markdown, so that it can be put into a document as it is.

use crate::run::Turn;

/// All turns as two tables: speed, and what it cost.
pub(crate) fn print(turns: &[Turn], connections: usize) {
    println!(
        "| transitions/s, {connections} connections | rigs | min / median / max | p50 | p99 | ratio of medians |"
    );
    println!("|---|---|---|---|---|---|");
    for group in groups(turns) {
        let first = group[0];
        let speed = |turn: &Turn| turn.load.per_second;
        let (min, median, max) = spread(&group, speed);
        let leader: Vec<&Turn> = turns
            .iter()
            .filter(|turn| turn.rigs == first.rigs && turn.peer == turns[0].peer)
            .collect();
        let ratio = spread(&leader, speed).1 / median.max(0.001);
        let p50 = spread(&group, |turn| ms(turn.load.p50_us)).1;
        let p99 = spread(&group, |turn| ms(turn.load.p99_us)).1;
        println!(
            "| {} | {} | {min:.0} / {median:.0} / {max:.0} | {p50:.2} ms | {p99:.2} ms | {ratio:.2} |",
            first.peer, first.rigs
        );
    }
    println!();
    println!(
        "| medians | rigs | answers per sync | syncs/s | CPU per answer | bytes per answer | resident | failed | load generator |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for group in groups(turns) {
        let first = group[0];
        let of = |what: &dyn Fn(&Turn) -> f64| spread(&group, what).1;
        let failed: u64 = group.iter().map(|turn| turn.load.failed).sum();
        println!(
            "| {} | {} | {} | {} | {:.0} µs | {:.0} | {:.0} MB | {failed} | {:.0} % of a core |",
            first.peer,
            first.rigs,
            counted(&group, |turn| turn.answered_per_sync),
            counted(&group, |turn| turn.syncs_per_second),
            of(&|turn| turn.cpu_us),
            of(&|turn| turn.written_bytes),
            of(&|turn| turn.resident_mb),
            of(&|turn| turn.load.own_cpu_percent),
        );
    }
}

pub(crate) fn ms(us: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no such times")]
    let us = us as f64;
    us / 1_000.0
}

/// The turns of one peer with one number of rigs, in the order of their first turns.
fn groups(turns: &[Turn]) -> Vec<Vec<&Turn>> {
    let mut groups: Vec<Vec<&Turn>> = Vec::new();
    for turn in turns {
        let same =
            |group: &&mut Vec<&Turn>| group[0].peer == turn.peer && group[0].rigs == turn.rigs;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(turn),
            None => groups.push(vec![turn]),
        }
    }
    groups
}

fn counted(group: &[&Turn], what: impl Fn(&Turn) -> Option<f64>) -> String {
    if group.iter().all(|turn| what(turn).is_some()) {
        format!(
            "{:.1}",
            spread(group, |turn| what(turn).unwrap_or_default()).1
        )
    } else {
        "–".to_owned()
    }
}

fn spread(group: &[&Turn], what: impl Fn(&Turn) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = group.iter().map(|turn| what(turn)).collect();
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or_default();
    (
        at(0),
        at(values.len() / 2),
        at(values.len().saturating_sub(1)),
    )
}
