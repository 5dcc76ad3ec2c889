//! `Rig::step`: one input in, one atomic set of changes out, or a refusal that changed nothing.
//!
//! Owns which part decides which input, and that the gate is asked at the end of every accepted
//! step, whatever woke the rig. The decisions are in the parts below.
//!
//! ```text
//! intake   new beads, agents, hooks, configuration        orders   what people say of a bead
//! reports  what a container says of a dispatch             patrol   what the clock says
//! words    what agents and callers say of a session
//! settle   what an ended session means for its bead       gate     whether a bead is dispatched
//! trip     breaker, preflight and escalations
//! ```

mod draft;
mod gate;
mod intake;
mod orders;
mod patrol;
mod reports;
mod settle;
mod trip;
mod words;

pub(crate) use gate::{Outlook, outlook_of};

use crate::{Env, Input, Refused, Reply, Rig, Step};
use draft::Draft;

impl Rig {
    /// Decides one input. Pure: the same state, input and environment give the same step.
    ///
    /// The caller commits the step's changes durably, calls [`Rig::apply`] with them, sets the
    /// alarm to [`Rig::next_alarm`], and only then lets effects and reply leave.
    ///
    /// # Errors
    /// [`Refused`] says why; nothing is to be written then.
    pub fn step(&self, input: Input, env: Env) -> Result<Step, Refused> {
        let mut draft = Draft::new(self, env);
        let reply = decide(&mut draft, input)?;
        gate::schedule(&mut draft);
        Ok(draft.finish(reply))
    }
}

fn decide(draft: &mut Draft<'_>, input: Input) -> Result<Reply, Refused> {
    match input {
        Input::Configure(config) => Ok(intake::configure(draft, config)),
        Input::SetPolicy(policy) => Ok(intake::set_policy(draft, policy)),
        Input::CreateBead(new) => intake::create_bead(draft, new),
        Input::Sling(new) => intake::sling(draft, new),
        Input::RegisterAgent {
            role,
            name,
            identity,
        } => intake::register_agent(draft, role, name, identity),
        Input::Hook { agent, bead } => intake::hook(draft, &agent, &bead),
        Input::Escalate(new) => Ok(intake::escalate(draft, new)),
        Input::Touch { agent } => Ok(intake::touch(draft, &agent)),
        Input::Unhook { agent } => orders::unhook(draft, &agent),
        Input::SetStatus { bead, status, by } => {
            orders::set_status(draft, &bead, status, by.as_ref())
        }
        Input::Close { bead, by } => orders::close(draft, &bead, by.as_ref()),
        Input::DeleteBead { bead } => orders::delete(draft, &bead),
        Input::Cancel { bead } => orders::cancel(draft, &bead),
        Input::Retry { bead } => orders::retry(draft, &bead),
        Input::ResetBreaker => Ok(trip::reset(draft)),
        Input::Done {
            agent,
            dispatch,
            report,
        } => words::done(draft, &agent, dispatch.as_ref(), report),
        Input::Completed {
            agent,
            dispatch,
            completion,
        } => words::completed(draft, &agent, dispatch.as_ref(), completion),
        Input::AgentStarted {
            dispatch,
            incarnation,
            session,
        } => reports::agent_started(draft, &dispatch, incarnation, session),
        Input::Heartbeat(beat) => reports::heartbeat(draft, &beat),
        Input::TurnEnded { dispatch, report } => reports::turn_ended(draft, &dispatch, &report),
        Input::AgentDone(report) => reports::agent_done(draft, report),
        Input::ContainerStarted {
            incarnation,
            live,
            unreported,
            credential,
        } => Ok(reports::container_started(
            draft,
            &incarnation,
            &live,
            &unreported,
            credential,
        )),
        Input::PreflightDone { no, result } => Ok(trip::preflight_done(draft, no, result)),
        Input::Alarm => Ok(patrol::alarm(draft)),
        Input::ClockJumped => Ok(patrol::clock_jumped(draft)),
    }
}
