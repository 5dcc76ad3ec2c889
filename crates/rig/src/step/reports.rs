//! What a container says of a dispatch: started, beating, turn over, ended; and of itself.
//!
//! Owns the fence: a report of a dispatch that is not current is refused and changes nothing; the
//! same report twice gets the same answer. What an end means for the bead is `settle`'s.

use super::{
    control,
    draft::{Draft, NewEvent},
    messages, orders, settle, town, trip,
};
use crate::{
    AgentId, Bead, BeadId, Beat, Cause, Class, Deadline, DispatchId, Ending, EventType, Failure,
    Incarnation, LAST_OUTPUT_MAX, Live, Outcome, Phase, Policy, Readiness, Refused, Reply, Report,
    Run, Stage, Timestamp, Trip, TurnReport, TurnVerdict, Usage, Work,
};

/// A dispatch has seven stages; a report with more of them is cut.
const PHASES_MAX: usize = 16;

/// The bead whose current dispatch this is; everything else is stale.
fn current<'d>(draft: &'d Draft<'_>, dispatch: &DispatchId) -> Result<&'d Bead, Refused> {
    draft
        .bead(&dispatch.bead)
        .filter(|bead| bead.run().is_some_and(|run| run.no == dispatch.no))
        .ok_or_else(|| Refused::Stale(dispatch.clone()))
}

pub(super) fn agent_started(
    draft: &mut Draft<'_>,
    dispatch: &DispatchId,
    incarnation: Incarnation,
    session: String,
) -> Result<Reply, Refused> {
    let now = draft.now();
    let policy = draft.record().policy.clone();
    let mut phase = current(draft, dispatch)?.phase.clone();
    match &mut phase {
        Phase::Dispatched { run, .. } => {
            let live = Live {
                session: session.clone(),
                incarnation,
                started_at: now,
                lease: Deadline::after(now, policy.lease_ms),
                progress: Deadline::after(now, policy.progress_ms),
                nudge: Some(Deadline::after(now, policy.nudge_ms)),
                tool: None,
                total: Deadline::after(now, policy.total_ms),
            };
            phase = Phase::Working {
                run: run.clone(),
                live,
            };
        }
        Phase::Working { live, .. } if live.session == session => return Ok(Reply::Repeated),
        Phase::Working { .. } => return Err(Refused::Stale(dispatch.clone())),
        // It was asked to stop meanwhile; the session is noted for the attempt log.
        Phase::Ending { ending, .. } if ending.session.is_none() => {
            ending.session = Some(session.clone());
        }
        _ => return Ok(Reply::Repeated),
    }
    let agent = phase_agent(&phase);
    town::passed(draft);
    draft.bead_mut(&dispatch.bead)?.phase = phase;
    let mut event = NewEvent::of(EventType::AgentSpawned, &dispatch.bead);
    event.agent = agent.as_ref();
    event.new = Some(session);
    draft.event(event);
    Ok(Reply::Accepted)
}

fn phase_agent(phase: &Phase) -> Option<AgentId> {
    match phase {
        Phase::Dispatched { run, .. } | Phase::Working { run, .. } | Phase::Ending { run, .. } => {
            Some(run.agent.clone())
        }
        _ => None,
    }
}

pub(super) fn heartbeat(draft: &mut Draft<'_>, beat: &Beat) -> Result<Reply, Refused> {
    let now = draft.now();
    let Phase::Working { run, live } = &current(draft, &beat.dispatch)?.phase else {
        return Ok(Reply::Accepted);
    };
    if live.incarnation != beat.incarnation {
        return Err(Refused::Stale(beat.dispatch.clone()));
    }
    let (mut run, mut live) = (run.clone(), live.clone());
    let policy = &draft.record().policy;
    live.lease = live.lease.renewed(now);
    move_on(&mut live, beat, policy, now);
    let is_loop = beat.repeats >= policy.repeats_max;
    let more = note_usage(&mut run, beat.usage);
    let first_output = beat.output && !run.output;
    run.output |= beat.output;
    let (agent, sent_at) = (run.agent.clone(), run.sent_at);
    draft.bead_mut(&beat.dispatch.bead)?.phase = Phase::Working { run, live };
    super::agents::touch(draft, &agent);
    if first_output {
        trip::output(draft, &beat.dispatch, sent_at);
    }
    if is_loop {
        let text = format!("the same tool call {} times in a row", beat.repeats);
        let cause = Cause::Expired(Failure::new(Class::Stalled, Stage::Turn, text.clone()));
        orders::begin_ending(draft, &beat.dispatch.bead, cause, 0, &text)?;
    }
    control::spend(draft, more);
    Ok(Reply::Accepted)
}

/// The clocks of work: model and tool events move them, a beat alone does not. They stand still
/// while a tool runs, which has a limit of its own.
fn move_on(live: &mut Live, beat: &Beat, policy: &Policy, now: Timestamp) {
    live.tool = beat.tool_since.map(|since| {
        // A time from the future is taken as now.
        let ran_ms = now.since_ms(since.min(now));
        let left_ms = policy.tool_ms.saturating_sub(ran_ms).max(0);
        Deadline {
            duration_ms: policy.tool_ms,
            ..Deadline::after(now, left_ms)
        }
    });
    let at = beat.tool_since.map_or(beat.progress_at, |_| Some(now));
    let Some(at) = at else { return };
    let renewed = live.progress.renewed(at.min(now));
    // One from the past never moves the clock back.
    if renewed.at > live.progress.at {
        live.progress = renewed;
        live.nudge = Some(Deadline::after(at.min(now), policy.nudge_ms));
    }
}

/// Takes over what a dispatch has cost; what is new of it comes back. A sum never shrinks.
fn note_usage(run: &mut Run, usage: Usage) -> Usage {
    let sum = run.usage.at_least(usage);
    let more = sum.beyond(run.usage);
    run.usage = sum;
    more
}

/// The end of a text, at most so many bytes.
fn tail(text: String, max: usize) -> String {
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).map(str::to_owned).unwrap_or(text)
}

/// A completed turn: work ends the session, a text or earlier work alone is nudged once.
pub(super) fn turn_ended(
    draft: &mut Draft<'_>,
    dispatch: &DispatchId,
    report: &TurnReport,
) -> Result<Reply, Refused> {
    let prompts_left = {
        let bead = current(draft, dispatch)?;
        bead.numbers.prompts < settle::prompts_limit(&draft.record().policy, &bead.numbers)
    };
    let bead = current(draft, dispatch)?;
    let Phase::Working { run, .. } = &bead.phase else {
        return Ok(Reply::Turn(TurnVerdict::End));
    };
    if run.nudged_after == Some(report.turn_no) {
        return Ok(Reply::Turn(TurnVerdict::Nudge(nudge_text(
            bead,
            &report.work,
        ))));
    }
    if let Some(text) = messages::after_turn(draft, dispatch, report.turn_no, prompts_left)? {
        return Ok(Reply::Turn(TurnVerdict::Nudge(text)));
    }
    let bead = current(draft, dispatch)?;
    let Phase::Working { run, .. } = &bead.phase else {
        return Ok(Reply::Turn(TurnVerdict::End));
    };
    let is_over = run.is_over;
    let wants_nudge = !report.work.is_fresh()
        && report.output
        && run.nudged_after.is_none()
        && !bead.expects_text();
    if !wants_nudge || !prompts_left {
        if !is_over && let Some(run) = draft.bead_mut(&dispatch.bead)?.run_mut() {
            run.is_over = true;
        }
        return Ok(Reply::Turn(TurnVerdict::End));
    }
    let text = nudge_text(bead, &report.work);
    let bead = draft.bead_mut(&dispatch.bead)?;
    bead.numbers.prompts = bead.numbers.prompts.saturating_add(1);
    if let Some(run) = bead.run_mut() {
        run.nudged_after = Some(report.turn_no);
    }
    Ok(Reply::Turn(TurnVerdict::Nudge(text)))
}

fn nudge_text(bead: &Bead, work: &Work) -> String {
    if matches!(work, Work::Earlier { .. }) {
        // Without this choice an agent would be talked into doing again what is done.
        return format!(
            "Your turn ended without new work, but commits of an earlier session are on your \
             branch. The task is: {}\nIf those commits finish it, say so in one sentence and \
             change nothing. Otherwise finish it now and commit it.",
            bead.title
        );
    }
    format!(
        "Your turn ended without new work in the repository. The task is still: {}\n\
         Finish it now: make the change and commit it on your branch. If you can not go on without \
         a person, say what you need in one sentence.",
        bead.title
    )
}

pub(super) fn agent_done(draft: &mut Draft<'_>, report: Report) -> Result<Reply, Refused> {
    let now = draft.now();
    let id = report.dispatch.bead.clone();
    if let Some(reply) = repeated(draft, &report)? {
        return Ok(reply);
    }
    let grace = Deadline::after(now, draft.record().policy.end_grace_ms);
    let bead = draft.bead_mut(&id)?;
    let (mut run, ending) = match bead.phase.clone() {
        Phase::Dispatched { run, .. } => (run, Ending::of(Cause::SessionOver, None, grace)),
        Phase::Working { run, live } => {
            let session = Some(live.session);
            (run, Ending::of(Cause::SessionOver, session, grace))
        }
        Phase::Ending { run, ending } => (run, ending),
        _ => return Err(Refused::Stale(report.dispatch)),
    };
    let first_output = report.output && !run.output;
    // What a session wrote before its credentials or its gateway failed it does not prove them.
    let speaks_against_its_scope = matches!(&report.outcome, Outcome::Failed { failure, .. }
        if failure.class.trip() != Trip::Never);
    run.output |= report.output;
    let more = note_usage(&mut run, report.usage);
    let (agent, sent_at) = (run.agent.clone(), run.sent_at);
    let session = report.session.or_else(|| ending.session.clone());
    let ending = Ending {
        over: Some(report.outcome),
        session: session.clone(),
        phases: report.phases.into_iter().take(PHASES_MAX).collect(),
        last_output: report.last_output.map(|text| tail(text, LAST_OUTPUT_MAX)),
        ..ending
    };
    bead.phase = Phase::Ending { run, ending };
    if session.is_some() {
        let mut event = NewEvent::of(EventType::AgentExited, &id);
        event.agent = Some(&agent);
        event.old = session;
        draft.event(event);
    }
    if first_output && !speaks_against_its_scope {
        trip::output(draft, &report.dispatch, sent_at);
    }
    control::spend(draft, more);
    settle::try_settle(draft, &id)?;
    Ok(Reply::Accepted)
}

/// The fence of an end: `Some` for the same report again, an error for any other stale one.
fn repeated(draft: &Draft<'_>, report: &Report) -> Result<Option<Reply>, Refused> {
    let stale = || Refused::Stale(report.dispatch.clone());
    let bead = draft.bead(&report.dispatch.bead).ok_or_else(stale)?;
    let known = match &bead.phase {
        Phase::Ending { run, ending } if run.no == report.dispatch.no => ending.over.as_ref(),
        _ if bead.run().is_some_and(|run| run.no == report.dispatch.no) => None,
        _ => {
            let mut log = bead.attempts.iter();
            Some(
                &log.find(|a| a.no == report.dispatch.no)
                    .ok_or_else(stale)?
                    .outcome,
            )
        }
    };
    match known {
        None => Ok(None),
        Some(outcome) if *outcome == report.outcome => Ok(Some(Reply::Repeated)),
        Some(_) => Err(stale()),
    }
}

/// A container began a life. Dispatches that it does not know are asked for, which also fences
/// them: it answers `NeverStarted` for good, or reports what became of them.
pub(super) fn container_started(
    draft: &mut Draft<'_>,
    incarnation: &Incarnation,
    live: &[DispatchId],
    unreported: &[DispatchId],
) -> Reply {
    let known = |id: &DispatchId| live.contains(id) || unreported.contains(id);
    let missing: Vec<_> = draft
        .unfinished()
        .filter(|bead| matches!(bead.phase, Phase::Working { .. }))
        .filter_map(Bead::dispatch_id)
        .filter(|id| !known(id))
        .collect();
    adopt(draft, incarnation, live);
    wait_for_starts(draft);
    for dispatch in missing {
        let text = format!("container {incarnation} does not know this dispatch");
        let cause = Cause::Expired(Failure::new(Class::Lost, Stage::Session, text));
        // Never refused: the bead has a run, or it would not be in the list.
        let _ = orders::begin_ending(draft, &dispatch.bead, cause, 0, "lost with its container");
    }
    let record = draft.record_mut();
    // The new life may have other credentials, another program, other limits: ask it.
    record.readiness = Readiness::Unverified;
    record.hold = None;
    Reply::Accepted
}

/// An order that no container has taken is still on its way and will be carried out by the new
/// life: its start begins anew. One that got lost after all is asked about at its deadline.
fn wait_for_starts(draft: &mut Draft<'_>) {
    let now = draft.now();
    let sent = draft
        .unfinished()
        .filter(|bead| matches!(bead.phase, Phase::Dispatched { .. }));
    let sent: Vec<BeadId> = sent.map(|bead| bead.id.clone()).collect();
    for id in sent {
        if let Ok(bead) = draft.bead_mut(&id)
            && let Phase::Dispatched { start, .. } = &mut bead.phase
        {
            *start = start.renewed(now);
        }
    }
}

/// What the container found alive goes on under its new life, whose beats count from now on.
fn adopt(draft: &mut Draft<'_>, incarnation: &Incarnation, live: &[DispatchId]) {
    let now = draft.now();
    for dispatch in live {
        let is_working =
            current(draft, dispatch).is_ok_and(|bead| matches!(bead.phase, Phase::Working { .. }));
        if is_working
            && let Ok(bead) = draft.bead_mut(&dispatch.bead)
            && let Phase::Working { live, .. } = &mut bead.phase
        {
            live.incarnation = incarnation.clone();
            live.lease = live.lease.renewed(now);
        }
    }
}

/// The commit of an outcome, whatever kind of outcome it is.
pub(super) fn work_of(outcome: &Outcome) -> Option<&Work> {
    match outcome {
        Outcome::Completed { work, .. } | Outcome::Failed { work, .. } => Some(work),
        Outcome::Refused { .. } | Outcome::NeverStarted => None,
    }
}
