//! A town's fence and its slots: which dispatch is run, once; how its end reaches its rig; and in
//! which turn rigs get what has become free.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use std::collections::BTreeMap;

use support::{
    commit, completed, failed,
    town::{TownBench, ask, dispatch, report, rig, used},
};
use wellhead_rig::{
    Class, Outcome, Refusal,
    town::{Found, Place, Stopping, Taken, TownInput, TownReply},
};

fn ask_stop(bench: &mut TownBench, name: &str, bead: &str, no: u64) -> Stopping {
    let (rig, dispatch) = (rig(name), dispatch(bead, no));
    match bench.step(TownInput::AskStop { rig, dispatch }) {
        TownReply::Stopping(stopping) => stopping,
        other => panic!("no answer: {other:?}"),
    }
}

fn told(bench: &mut TownBench, name: &str, bead: &str, no: u64) {
    let (rig, dispatch) = (rig(name), dispatch(bead, no));
    bench.step(TownInput::Told { rig, dispatch });
}

fn survey(bench: &mut TownBench) -> Found {
    match bench.step(TownInput::Survey) {
        TownReply::Found(found) => found,
        other => panic!("nothing found: {other:?}"),
    }
}

/// B7, I5: two dispatchers, a copy in the mail, an order from before: one runs.
#[test]
fn a_number_is_run_once_however_often_it_arrives() {
    let mut bench = TownBench::new();
    assert_eq!(bench.take_as("a", dispatch("b", 2), ask()), Taken::Fresh);
    for no in [2, 1, 0] {
        assert_eq!(bench.take_as("a", dispatch("b", no), ask()), Taken::Known);
    }
    let done = report(dispatch("b", 2), completed(commit()));
    bench.finish_as("a", done);
    assert_eq!(bench.take_as("a", dispatch("b", 2), ask()), Taken::Known);
    assert_eq!(bench.take_as("a", dispatch("b", 3), ask()), Taken::Fresh);
    let other = bench.take_as("another", dispatch("b", 2), ask());
    assert_eq!(other, Taken::Fresh, "a bead of the same name elsewhere");
}

/// B4: asking fences.
#[test]
fn what_was_never_seen_is_refused_for_good_when_it_is_asked_about() {
    let mut bench = TownBench::new();
    assert_eq!(ask_stop(&mut bench, "a", "b", 1), Stopping::Over);
    let reports = bench.reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].outcome, Outcome::NeverStarted);
    assert_eq!(bench.take("a", "b"), Taken::Known, "however late it comes");
    assert_eq!(bench.town.taken_count(), 0);
}

#[test]
fn a_stop_finds_what_runs_and_tells_once_more_what_is_over() {
    let mut bench = TownBench::new();
    bench.take("a", "b");
    assert_eq!(ask_stop(&mut bench, "a", "b", 1), Stopping::Runs);
    assert_eq!(bench.reports().len(), 0);
    bench.finish("a", "b", completed(commit()));
    assert_eq!(bench.reports().len(), 1);
    assert_eq!(ask_stop(&mut bench, "a", "b", 1), Stopping::Over);
    assert_eq!(bench.reports().len(), 0, "its report is on its way");
    told(&mut bench, "a", "b", 1);
    assert_eq!(ask_stop(&mut bench, "a", "b", 1), Stopping::Over);
    assert_eq!(bench.reports().len(), 1, "it asks although it was told");
}

#[test]
fn a_report_stays_unreported_until_its_rig_has_taken_it() {
    let mut bench = TownBench::new();
    bench.take("a", "b");
    let ours = vec![(rig("a"), dispatch("b", 1))];
    assert_eq!(survey(&mut bench).unreported, ours);
    bench.finish("a", "b", completed(commit()));
    assert_eq!(survey(&mut bench).unreported, ours);
    told(&mut bench, "a", "b", 7);
    assert_eq!(survey(&mut bench).unreported, ours, "told of another one");
    told(&mut bench, "a", "b", 1);
    assert_eq!(survey(&mut bench).unreported, []);
}

/// B2, B15: only what is taken under this very number ends.
#[test]
fn an_end_of_another_number_changes_nothing() {
    let mut bench = TownBench::new();
    bench.take_as("a", dispatch("b", 2), ask());
    let before = bench.town.clone();
    for no in [1, 3] {
        let late = report(dispatch("b", no), failed(Class::Credentials));
        bench.finish_as("a", late);
        assert_eq!(bench.town, before, "{no}");
    }
    assert!(bench.effects.is_empty());
}

/// A9: what the last life had taken is lost, with what is known of it.
#[test]
fn a_new_life_reports_everything_that_was_taken_as_lost() {
    let mut bench = TownBench::new();
    for bead in ["b", "c", "d"] {
        bench.take("a", bead);
    }
    let place = Place {
        boot_id: "boot".to_owned(),
        pid: 7,
        start_time: 9,
        port: 4096,
        worktree: "/tree".into(),
    };
    bench.step(TownInput::NoteSession {
        rig: rig("a"),
        dispatch: dispatch("b", 1),
        session: "ses-1".to_owned(),
        place: Some(place.clone()),
    });
    bench.output("a", "b");
    bench.used("a", "b", 50);
    bench.finish("a", "c", completed(commit()));
    bench.reports();
    bench.town = bench.restarted();
    let found = survey(&mut bench);
    assert_eq!((found.unreported.len(), found.places), (3, vec![place]));
    bench.step(TownInput::Boot);
    let lost = bench.reports();
    assert_eq!(lost.len(), 2, "what was over has its own report");
    for report in &lost {
        let is_lost = matches!(&report.outcome, Outcome::Failed { failure, .. }
            if failure.class == Class::Lost);
        assert!(is_lost, "{report:?}");
    }
    let first = lost
        .iter()
        .find(|report| report.dispatch.bead.as_str() == "b");
    let first = first.expect("its report");
    assert_eq!(first.session.as_deref(), Some("ses-1"));
    assert_eq!((first.usage, first.output), (used(50), true));
    assert_eq!(bench.town.taken_count(), 0);
    assert_eq!(bench.town.record().spent.total, used(50), "counted once");
}

#[test]
fn a_full_town_refuses_and_says_until_when() {
    let mut bench = TownBench::with_slots(2);
    assert_eq!(bench.take("a", "b1"), Taken::Fresh);
    assert_eq!(bench.take("a", "b2"), Taken::Fresh);
    assert_eq!(bench.take("a", "b3"), Taken::Refused);
    let (refusal, until) = bench.refusal("a", "b3");
    assert_eq!(refusal, Refusal::Full { slots: 2 });
    assert_eq!(until.since_ms(bench.now), 30_000);
    let reported = bench.reports();
    assert_eq!(reported.len(), 1, "its rig hears of it");
    assert_eq!(
        bench.take("a", "b3"),
        Taken::Known,
        "this number never runs"
    );
}

#[test]
fn a_freed_slot_is_offered_in_turn_and_kept_for_whom_it_was_offered() {
    let mut bench = TownBench::with_slots(1);
    bench.take("a", "b");
    for name in ["c", "d"] {
        assert_eq!(bench.take(name, "b"), Taken::Refused);
    }
    assert_eq!(bench.offers(), Vec::<String>::new());
    bench.finish("a", "b", completed(commit()));
    assert_eq!(bench.offers(), ["c"]);
    let pushing = bench.take_as("d", dispatch("b", 2), ask());
    assert_eq!(pushing, Taken::Refused, "the slot is kept");
    assert_eq!(bench.take_as("c", dispatch("b", 2), ask()), Taken::Fresh);
    assert_eq!(bench.offers(), Vec::<String>::new());
    bench.finish_as("c", report(dispatch("b", 2), completed(commit())));
    assert_eq!(bench.offers(), ["d"]);
}

#[test]
fn as_many_slots_as_become_free_are_offered() {
    let mut bench = TownBench::with_slots(2);
    bench.take("a", "b1");
    bench.take("a", "b2");
    for name in ["c", "d", "e"] {
        bench.take(name, "b");
    }
    bench.finish("a", "b1", completed(commit()));
    bench.finish("a", "b2", completed(commit()));
    assert_eq!(bench.offers(), ["c", "d"]);
}

#[test]
fn an_offer_that_nobody_takes_goes_to_the_next() {
    let mut bench = TownBench::with_slots(1);
    bench.take("a", "b");
    for name in ["c", "d"] {
        bench.take(name, "b");
    }
    bench.finish("a", "b", completed(commit()));
    assert_eq!(bench.offers(), ["c"]);
    bench.run_for(9_999);
    assert_eq!(bench.offers(), Vec::<String>::new());
    bench.run_for(1);
    assert_eq!(bench.offers(), ["d"]);
    bench.run_for(60_000);
    assert_eq!(bench.offers(), Vec::<String>::new());
    assert_eq!(bench.alarm, None, "nobody waits any more");
    let free = bench.take_as("c", dispatch("b", 2), ask());
    assert_eq!(free, Taken::Fresh, "the slot is free for whoever asks");
}

#[test]
fn a_rig_keeps_its_place_when_it_asks_again() {
    let mut bench = TownBench::with_slots(1);
    bench.take("a", "b");
    for (name, no) in [("c", 1), ("d", 1), ("c", 2), ("c", 3)] {
        bench.take_as(name, dispatch("b", no), ask());
    }
    bench.finish("a", "b", completed(commit()));
    assert_eq!(bench.offers(), ["c"]);
}

/// Nobody is served twice while another one waits.
#[test]
fn slots_go_round_between_rigs_however_much_one_of_them_has_to_do() {
    let mut bench = TownBench::with_slots(1);
    let names = ["a", "b", "c"];
    let mut no = 0;
    let mut served: BTreeMap<String, u32> = BTreeMap::new();
    let mut runs: Option<(String, u64)> = None;
    for name in names {
        no += 1;
        let taken = bench.take_as(name, dispatch("bead", no), ask());
        if taken == Taken::Fresh {
            runs = Some((name.to_owned(), no));
        }
    }
    for _ in 0..30 {
        let (name, its_no) = runs.take().expect("somebody runs");
        *served.entry(name.clone()).or_default() += 1;
        bench.finish_as(&name, report(dispatch("bead", its_no), completed(commit())));
        // Whoever has just run has more to do, and asks at once.
        no += 1;
        bench.take_as(&name, dispatch("bead", no), ask());
        for next in bench.offers() {
            no += 1;
            let taken = bench.take_as(&next, dispatch("bead", no), ask());
            assert_eq!(taken, Taken::Fresh, "{next} was offered the slot");
            runs = Some((next, no));
        }
    }
    assert!(served.values().all(|times| *times == 10), "{served:?}");
}
