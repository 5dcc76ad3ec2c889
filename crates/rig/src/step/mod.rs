//! `Rig::step`: one input in, one atomic set of changes out, or a refusal that changed nothing.
//!
//! Owns which part decides which input, and that the gate is asked at the end of every accepted
//! step, whatever woke the rig. The decisions are in the parts below.
//!
//! ```text
//! intake   new beads, agents, hooks, configuration        orders   what people say of a bead
//! reports  what a container says of a dispatch             patrol   what the clock says
//! words    what agents and callers say of a session
//! mail     what agents are told and keep of themselves  review   branches that wait for a look
//! agents   who works: registered, found, removed
//! settle   what an ended session means for its bead       gate     whether a bead is dispatched
//! trip     the rig's breaker and its checks               tombstone  what a deleted rig still takes
//! control  pause, stop, budget                            alert    what needs a person
//! town     refused, offered, and news of shared scopes
//! ```

mod agents;
mod alert;
mod control;
mod draft;
mod gate;
mod intake;
mod mail;
mod messages;
mod orders;
mod patrol;
mod reports;
mod review;
mod settle;
mod tombstone;
mod town;
mod trip;
mod words;

pub(crate) use gate::{Outlook, outlook_of};
pub(crate) use settle::{limit_reached, prompts_limit};

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
        if self.is_deleted() {
            // Met first: a deleted rig decides nothing but the end of what still runs.
            let reply = match tombstone::meet(self, &input)? {
                tombstone::Met::Settled(reply) => reply,
                tombstone::Met::Ends => decide(&mut draft, input)?,
            };
            review::withdraw(&mut draft);
            return Ok(draft.finish(reply));
        }
        let reply = decide(&mut draft, input)?;
        review::withdraw(&mut draft);
        if draft.record().deleted_at.is_none() {
            gate::schedule(&mut draft);
        }
        Ok(draft.finish(reply))
    }
}

fn decide(draft: &mut Draft<'_>, input: Input) -> Result<Reply, Refused> {
    match input {
        Input::Configure(config) => intake::configure(draft, config),
        Input::SetPolicy(policy) => Ok(intake::set_policy(draft, policy)),
        Input::SetBudget { budget, by } => Ok(control::set_budget(draft, budget, &by)),
        Input::Pause { mode, by, reason } => Ok(control::pause(draft, mode, by, reason)),
        Input::Resume { by } => Ok(control::resume(draft, &by)),
        Input::Acknowledge { bead, by } => alert::acknowledge(draft, &bead, &by),
        Input::CreateBead(new) => intake::create_bead(draft, new),
        Input::Sling(new) => intake::sling(draft, new),
        Input::RegisterAgent {
            role,
            name,
            identity,
        } => agents::register(draft, role, name, identity),
        Input::GetOrCreateAgent { role } => Ok(agents::get_or_create(draft, role)),
        Input::DeleteAgent { agent } => agents::delete(draft, &agent),
        Input::Checkpoint { agent, data } => agents::checkpoint(draft, &agent, data),
        Input::SendMail(new) => mail::send(draft, new),
        Input::ReadMail { agent } => mail::read(draft, &agent),
        Input::AppendAgentEvent {
            agent,
            event_type,
            data,
        } => mail::append_event(draft, agent, event_type, data),
        Input::SubmitReview {
            agent,
            bead,
            report,
        } => review::submit(draft, agent, &bead, report),
        Input::CompleteReview {
            review,
            verdict,
            message,
            commit,
        } => review::complete(draft, &review, verdict, message, commit),
        Input::Hook { agent, bead } => intake::hook(draft, &agent, &bead),
        Input::Escalate(new) => Ok(intake::escalate(draft, new)),
        Input::Touch { agent } => Ok(agents::touch(draft, &agent)),
        Input::Unhook { agent } => orders::unhook(draft, &agent),
        Input::SetStatus { bead, status, by } => {
            orders::set_status(draft, &bead, status, by.as_ref())
        }
        Input::Close { bead, by } => orders::close(draft, &bead, by.as_ref()),
        Input::DeleteBead { bead } => orders::delete(draft, &bead),
        Input::DeleteRig => tombstone::delete_rig(draft),
        Input::StartAgent { agent, new } => intake::start_agent(draft, &agent, *new),
        Input::Message { agent, prompt } => messages::message(draft, &agent, prompt),
        Input::Cancel { bead, by } => orders::cancel(draft, &bead, &by),
        Input::Retry { bead, by } => orders::retry(draft, &bead, &by),
        Input::ResetBreaker { by } => Ok(trip::reset(draft, &by)),
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
        } => Ok(reports::container_started(
            draft,
            &incarnation,
            &live,
            &unreported,
        )),
        Input::Offered => Ok(town::offered(draft)),
        Input::Noticed { no, notice } => Ok(town::noticed(draft, no, notice)),
        Input::Undeliverable { what, reason } => Ok(town::undeliverable(draft, what, &reason)),
        Input::PreflightDone { no, result } => Ok(trip::preflight_done(draft, no, result)),
        Input::Alarm => Ok(patrol::alarm(draft)),
        Input::ClockJumped => Ok(patrol::clock_jumped(draft)),
    }
}
