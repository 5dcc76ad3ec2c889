//! Which dispatch may run, how it ends, and who has to hear of it.
//!
//! Owns the fence on the container's side: a number that is not above the highest one seen of a
//! bead is never run, and every dispatch that was taken ends in one report, which is repeated until
//! its rig has taken it.

use super::{
    Ask, Berth, Entry, EntryState, Found, Place, Stopping, Taken, Ticket, TownEffect, TownReply,
    admit, draft::Draft, guard, spend,
};
use crate::{Class, DispatchId, Failure, Outcome, Report, RigId, Stage, Usage, Work};

pub(super) fn take(draft: &mut Draft<'_>, rig: RigId, dispatch: DispatchId, ask: Ask) -> TownReply {
    let newest = draft.entry(&rig, &dispatch).map(|entry| entry.dispatch.no);
    if newest.is_some_and(|no| no >= dispatch.no) {
        return TownReply::Taken(Taken::Known);
    }
    let ticket = Ticket { rig, dispatch };
    if let Err((refusal, until)) = admit::admit(draft, &ticket, &ask) {
        end(draft, ticket, None, Outcome::Refused { refusal, until });
        return TownReply::Taken(Taken::Refused);
    }
    let Ticket { rig, dispatch } = ticket;
    let berth = Berth {
        scopes: ask.scopes,
        sample: Some(ask.config),
        ..Berth::default()
    };
    let state = EntryState::Taken(Box::new(berth));
    draft.put(Entry {
        rig,
        dispatch,
        state,
    });
    TownReply::Taken(Taken::Fresh)
}

pub(super) fn note_session(
    draft: &mut Draft<'_>,
    rig: &RigId,
    dispatch: &DispatchId,
    session: String,
    place: Option<Place>,
) -> TownReply {
    draft.change_berth(rig, dispatch, |berth| {
        berth.session = Some(session);
        berth.place = place;
    });
    TownReply::Accepted
}

/// Only what is taken under this very number ends.
pub(super) fn finish(draft: &mut Draft<'_>, rig: &RigId, report: Report) -> TownReply {
    if let Some(berth) = draft.berth(rig, &report.dispatch).cloned() {
        spend::used(draft, rig, &report.dispatch, report.usage);
        let ticket = Ticket {
            rig: rig.clone(),
            dispatch: report.dispatch.clone(),
        };
        guard::ended(draft, &ticket, &berth, &report);
        over(draft, ticket, report);
    }
    TownReply::Accepted
}

pub(super) fn ask_stop(draft: &mut Draft<'_>, rig: RigId, dispatch: DispatchId) -> TownReply {
    let found = draft.entry(&rig, &dispatch).cloned();
    let ticket = Ticket { rig, dispatch };
    let stopping = match found {
        Some(entry) if entry.dispatch == ticket.dispatch => match entry.state {
            EntryState::Taken(_) => Stopping::Runs,
            EntryState::Over { report, told: true } => {
                // It asks although it was told: tell it once more.
                over(draft, ticket, *report);
                Stopping::Over
            }
            EntryState::Over { told: false, .. } => Stopping::Over,
        },
        // A later dispatch was seen: this one is over by its own report.
        Some(entry) if entry.dispatch.no > ticket.dispatch.no => Stopping::Over,
        // Never seen: refused for good, durably, before the answer.
        _ => {
            end(draft, ticket, None, Outcome::NeverStarted);
            Stopping::Over
        }
    };
    TownReply::Stopping(stopping)
}

pub(super) fn told(draft: &mut Draft<'_>, rig: &RigId, dispatch: &DispatchId) -> TownReply {
    if let Some(entry) = draft.entry(rig, dispatch)
        && entry.dispatch == *dispatch
        && entry.is_untold()
    {
        let mut entry = entry.clone();
        if let EntryState::Over { told, .. } = &mut entry.state {
            *told = true;
        }
        draft.put(entry);
    }
    TownReply::Accepted
}

pub(super) fn survey(draft: &mut Draft<'_>) -> TownReply {
    let mut found = Found::default();
    for entry in draft.entries() {
        let berth = entry.berth();
        if berth.is_some() || entry.is_untold() {
            let unreported = (entry.rig.clone(), entry.dispatch.clone());
            found.unreported.push(unreported);
        }
        found
            .places
            .extend(berth.and_then(|berth| berth.place.clone()));
    }
    TownReply::Found(found)
}

/// Whatever the last life had taken is lost. What a probe among them was to prove stays unproven.
pub(super) fn boot(draft: &mut Draft<'_>) -> TownReply {
    let taken = draft
        .taken()
        .map(|(entry, berth)| (entry.clone(), berth.clone()));
    let taken: Vec<(Entry, Berth)> = taken.collect();
    for (entry, berth) in taken {
        let text = "wellhead ended while this session ran";
        let failure = Failure::new(Class::Lost, Stage::Session, text);
        let work = Work::None;
        let outcome = Outcome::Failed { failure, work };
        let ticket = Ticket {
            rig: entry.rig,
            dispatch: entry.dispatch,
        };
        let mut report = report_of(&ticket, berth.session.clone(), outcome);
        report.usage = berth.usage;
        report.output = berth.output;
        guard::ended(draft, &ticket, &berth, &report);
        over(draft, ticket, report);
    }
    TownReply::Accepted
}

fn end(draft: &mut Draft<'_>, ticket: Ticket, session: Option<String>, outcome: Outcome) {
    let report = report_of(&ticket, session, outcome);
    over(draft, ticket, report);
}

fn over(draft: &mut Draft<'_>, ticket: Ticket, report: Report) {
    let Ticket { rig, dispatch } = ticket;
    let report = Box::new(report);
    draft.effect(TownEffect::Report {
        rig: rig.clone(),
        report: report.clone(),
    });
    let told = false;
    draft.put(Entry {
        rig,
        dispatch,
        state: EntryState::Over { report, told },
    });
}

fn report_of(ticket: &Ticket, session: Option<String>, outcome: Outcome) -> Report {
    Report {
        dispatch: ticket.dispatch.clone(),
        outcome,
        session,
        output: false,
        usage: Usage::default(),
        phases: Vec::new(),
        last_output: None,
    }
}
