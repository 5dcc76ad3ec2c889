//! Mail between agents, and each agent's own event log.
//!
//! Owns delivery: a mail is delivered once, when its reader asks. Keeps the number of mails that
//! wait for one agent bounded.

use serde_json::{Map, Value, json};

use super::draft::{Draft, NewEvent};
use crate::{
    AgentEvent, AgentId, Change, EventType, MAIL_UNDELIVERED_MAX, Mail, MailId, NewMail, Refused,
    Reply,
};

pub(super) fn send(draft: &mut Draft<'_>, new: NewMail) -> Result<Reply, Refused> {
    check_agent(draft, &new.to)?;
    if draft.mail_of(&new.to).len() >= MAIL_UNDELIVERED_MAX {
        return Err(Refused::Conflict(format!(
            "agent {} has {MAIL_UNDELIVERED_MAX} undelivered mails and takes no more until it \
             reads them",
            new.to
        )));
    }
    let created_at = draft.stamp();
    let mail = Mail {
        id: MailId::generate(created_at, draft.record().event_no, draft.nonce()),
        from: new.from,
        to: new.to,
        subject: new.subject,
        body: new.body,
        created_at,
        delivered_at: None,
    };
    draft.event(NewEvent {
        kind: EventType::MailSent,
        bead: None,
        agent: Some(&mail.from),
        old: None,
        new: Some(mail.to.to_string()),
        metadata: json!({ "mail_id": mail.id, "subject": mail.subject }),
    });
    draft.append(Change::Mail(Box::new(mail)));
    Ok(Reply::Accepted)
}

/// The mails are answered as they were before; the step that delivers them is the answer's own.
pub(super) fn read(draft: &mut Draft<'_>, agent: &AgentId) -> Result<Reply, Refused> {
    check_agent(draft, agent)?;
    let waiting: Vec<Mail> = draft.mail_of(agent).cloned().collect();
    let now = draft.now();
    for mail in &waiting {
        let delivered_at = Some(now.max(mail.created_at));
        draft.append(Change::Mail(Box::new(Mail {
            delivered_at,
            ..mail.clone()
        })));
    }
    Ok(Reply::Mail(waiting))
}

pub(super) fn append_event(
    draft: &mut Draft<'_>,
    agent: AgentId,
    event_type: String,
    data: Map<String, Value>,
) -> Result<Reply, Refused> {
    check_agent(draft, &agent)?;
    let created_at = draft.stamp();
    let record = draft.record_mut();
    record.agent_event_no = record.agent_event_no.saturating_add(1);
    let no = record.agent_event_no;
    draft.append(Change::AgentEvent(Box::new(AgentEvent {
        no,
        agent,
        event_type,
        data,
        created_at,
    })));
    Ok(Reply::Accepted)
}

fn check_agent(draft: &Draft<'_>, agent: &AgentId) -> Result<(), Refused> {
    let found = draft.agent(agent);
    found
        .map(drop)
        .ok_or_else(|| Refused::NoAgent(agent.clone()))
}
