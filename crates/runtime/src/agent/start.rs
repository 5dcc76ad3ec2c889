//! The start of an agent: worktree → server → session → prompt, under one deadline.
//!
//! Owns the phases before the first event. Each puts what it has reached into the gear, so that
//! whatever fails, the end finds all that has to be given back.

use std::time::Duration;

use kilo::{ClientError, ModelRef, PromptOptions};
use rig::{
    Class, Failure, Stage,
    town::{Place, TownInput},
};

use super::{Agent, Gear, outcome, prompt};
use crate::{
    container::{Kit, ServerLease},
    workspace::{Prepare, Progress},
};

impl Agent {
    /// Brings the session up and sends its prompt.
    pub(super) async fn start(&self, gear: &mut Gear) -> Result<(), Failure> {
        let deadline =
            Duration::from_millis(u64::try_from(self.order.start_deadline_ms).unwrap_or(0));
        let (kit, rig, order) = (&*self.kit, &self.rig, &*self.order);
        let phases = async {
            gear.enter(Stage::Worktree);
            worktree(kit, rig, order, gear).await?;
            gear.enter(Stage::Server);
            let model = server(kit, order, gear).await?;
            gear.enter(Stage::Session);
            session(order, gear).await?;
            self.note_session(gear).await;
            gear.enter(Stage::Prompt);
            send_prompt(order, rig, model, gear).await
        };
        let result = tokio::time::timeout(deadline, phases).await;
        result.unwrap_or_else(|_| {
            let text = format!("the session did not start within {} s", deadline.as_secs());
            Err(Failure::new(Class::StartTimeout, Stage::Session, text))
        })
    }

    async fn note_session(&self, gear: &Gear) {
        let Some(session) = &gear.session else { return };
        let port = gear.lease.as_ref().map(|lease| lease.server().port());
        self.sight.opened(session.id(), port);
        // Only a restart needs it; without it the session is begun afresh then.
        self.tell_town(TownInput::NoteSession {
            rig: self.rig.clone(),
            dispatch: self.dispatch().clone(),
            session: session.id().to_owned(),
            place: self.place(gear),
        })
        .await;
    }

    fn place(&self, gear: &Gear) -> Option<Place> {
        let (lease, worktree) = (gear.lease.as_ref()?, gear.worktree.as_ref()?);
        let server = lease.server();
        Some(Place {
            boot_id: self.kit.boot_id.clone()?,
            pid: server.pid(),
            start_time: server.start_time(),
            port: server.port(),
            worktree: worktree.path.clone(),
        })
    }
}

async fn worktree(
    kit: &Kit,
    rig: &rig::RigId,
    order: &rig::DispatchOrder,
    gear: &mut Gear,
) -> Result<(), Failure> {
    let repository = kit.repository(rig, &order.config)?;
    let request = Prepare {
        agent_slug: agent_slug(order),
        branch: order.branch.clone(),
        base_branch: order.base_branch.clone(),
        dispatch: order.dispatch.clone(),
    };
    gear.worktree = Some(repository.prepare(&request).await?);
    Ok(())
}

/// The agent's directory: its name for people, and the end of its id, because names may repeat.
fn agent_slug(order: &rig::DispatchOrder) -> String {
    let name = order.branch.split('/').nth(1).unwrap_or("agent");
    let id = order.agent.as_str();
    let tail = id.len().saturating_sub(8);
    format!("{name}-{}", id.get(tail..).unwrap_or(id))
}

async fn server(kit: &Kit, order: &rig::DispatchOrder, gear: &mut Gear) -> Result<String, Failure> {
    let (spec, model) = kit.server_spec(order).await?;
    let lease: ServerLease = kit
        .servers
        .lease(&spec)
        .await
        .map_err(|error| outcome::of_start(&error))?;
    let checked = lease.server().check_model(&model).await;
    gear.lease = Some(lease);
    gear.model.clone_from(&model);
    gear.price = kit.price(&model);
    checked.map_err(|error| {
        let class = match error.kind() {
            kilo::ErrorKind::Credentials => Class::Credentials,
            kilo::ErrorKind::ModelNotFound => Class::ModelNotFound,
            _ => Class::Crash,
        };
        Failure::new(class, Stage::Server, error.to_string())
    })?;
    Ok(model)
}

async fn session(order: &rig::DispatchOrder, gear: &mut Gear) -> Result<(), Failure> {
    let (Some(lease), Some(worktree)) = (&gear.lease, &gear.worktree) else {
        return Err(Failure::new(
            Class::Crash,
            Stage::Session,
            "the start lost its own parts",
        ));
    };
    let dir = worktree.path.as_path();
    if let Some(id) = &order.resume {
        let resumed = lease
            .server()
            .resume_session(id, dir)
            .await
            .map_err(|error| failed_call(&error))?;
        gear.session = resumed;
    }
    if gear.session.is_none() {
        let session = lease
            .server()
            .open_session(dir, &order.title)
            .await
            .map_err(|error| failed_call(&error))?;
        gear.session = Some(session);
    }
    Ok(())
}

fn failed_call(error: &ClientError) -> Failure {
    Failure::new(Class::Crash, Stage::Session, error.to_string())
}

async fn send_prompt(
    order: &rig::DispatchOrder,
    rig: &rig::RigId,
    model: String,
    gear: &mut Gear,
) -> Result<(), Failure> {
    let Some(session) = &mut gear.session else {
        return Err(Failure::new(
            Class::Crash,
            Stage::Prompt,
            "the start lost its own session",
        ));
    };
    // A session that was cut before its first prompt has to be told everything.
    let resumed = order.resume.as_deref() == Some(session.id())
        && session
            .has_history()
            .await
            .map_err(|error| failed_call(&error))?;
    let progress = match &gear.worktree {
        Some(worktree) => worktree.progress().await?,
        None => Progress::default(),
    };
    let text = if resumed {
        prompt::resume(order, &progress)
    } else {
        prompt::task(order, &progress)
    };
    let mut options = PromptOptions::new(ModelRef::kilo(model));
    options.system = Some(prompt::system(order, rig));
    session
        .prompt(&text, &options)
        .await
        .map_err(|error| Failure::new(Class::Crash, Stage::Prompt, error.to_string()))
}
