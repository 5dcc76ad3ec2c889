//! The names of all inputs. A new variant does not compile here, and then wants a row.

use wellhead_rig::Input;

/// One line per variant: the list and the match are the same lines, so neither can be forgotten.
macro_rules! kinds {
    ($($variant:pat => $name:literal,)*) => {
        /// Every input's name.
        pub(crate) const KINDS: &[&str] = &[$($name),*];

        /// The name of this one. Without a wildcard, on purpose.
        pub(crate) fn of(input: &Input) -> &'static str {
            match input {
                $($variant => $name,)*
            }
        }
    };
}

kinds! {
    Input::Configure(_) => "Configure",
    Input::SetPolicy(_) => "SetPolicy",
    Input::CreateBead(_) => "CreateBead",
    Input::Sling(_) => "Sling",
    Input::RegisterAgent { .. } => "RegisterAgent",
    Input::GetOrCreateAgent { .. } => "GetOrCreateAgent",
    Input::DeleteAgent { .. } => "DeleteAgent",
    Input::Checkpoint { .. } => "Checkpoint",
    Input::SendMail(_) => "SendMail",
    Input::ReadMail { .. } => "ReadMail",
    Input::AppendAgentEvent { .. } => "AppendAgentEvent",
    Input::SubmitReview { .. } => "SubmitReview",
    Input::CompleteReview { .. } => "CompleteReview",
    Input::Hook { .. } => "Hook",
    Input::Unhook { .. } => "Unhook",
    Input::SetStatus { .. } => "SetStatus",
    Input::Close { .. } => "Close",
    Input::DeleteBead { .. } => "DeleteBead",
    Input::DeleteRig => "DeleteRig",
    Input::StartAgent { .. } => "StartAgent",
    Input::Message { .. } => "Message",
    Input::Cancel { .. } => "Cancel",
    Input::Retry { .. } => "Retry",
    Input::ResetBreaker { .. } => "ResetBreaker",
    Input::Acknowledge { .. } => "Acknowledge",
    Input::SetBudget { .. } => "SetBudget",
    Input::Pause { .. } => "Pause",
    Input::Resume { .. } => "Resume",
    Input::Touch { .. } => "Touch",
    Input::Done { .. } => "Done",
    Input::Completed { .. } => "Completed",
    Input::Escalate(_) => "Escalate",
    Input::AgentStarted { .. } => "AgentStarted",
    Input::Heartbeat(_) => "Heartbeat",
    Input::TurnEnded { .. } => "TurnEnded",
    Input::AgentDone(_) => "AgentDone",
    Input::ContainerStarted { .. } => "ContainerStarted",
    Input::Offered => "Offered",
    Input::Noticed { .. } => "Noticed",
    Input::Undeliverable { .. } => "Undeliverable",
    Input::PreflightDone { .. } => "PreflightDone",
    Input::Alarm => "Alarm",
    Input::ClockJumped => "ClockJumped",
}
