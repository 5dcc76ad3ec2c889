//! What can be seen of an agent from outside while it is on board.
//!
//! Owns a small view that the agent's task writes and others read. Decides nothing, stores nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rig::{AgentId, DispatchId, RigId, Timestamp};

/// An agent on board, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aboard {
    /// Whose bead.
    pub rig: RigId,
    /// Who works.
    pub agent: AgentId,
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// When it came on board.
    pub taken_at: Timestamp,
    /// Its session, once there is one.
    pub session: Option<String>,
    /// The port of its server, once it has one.
    pub port: Option<u16>,
    /// Its newest model or tool event, if there was one.
    pub last_activity_at: Option<Timestamp>,
    /// Turns that ended so far.
    pub turns: u32,
}

/// A town's container, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerView {
    /// Who is on board.
    pub aboard: Vec<Aboard>,
    /// How many `kilo serve` children run.
    pub servers: usize,
    /// For how long it runs; zero where nothing has started it yet.
    pub uptime: Duration,
}

/// The shared view of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Sight(Arc<Mutex<Aboard>>);

impl Sight {
    pub(crate) fn new(rig: RigId, agent: AgentId, dispatch: DispatchId) -> Self {
        let aboard = Aboard {
            rig,
            agent,
            dispatch,
            taken_at: now(),
            session: None,
            port: None,
            last_activity_at: None,
            turns: 0,
        };
        Self(Arc::new(Mutex::new(aboard)))
    }

    pub(crate) fn see(&self) -> Aboard {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn write(&self, change: impl FnOnce(&mut Aboard)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The session is open on a server of that port.
    pub(crate) fn opened(&self, session: &str, port: Option<u16>) {
        self.write(|aboard| {
            aboard.session = Some(session.to_owned());
            aboard.port = port;
        });
    }

    /// The model or a tool did something.
    pub(crate) fn moved(&self) {
        self.write(|aboard| aboard.last_activity_at = Some(now()));
    }

    /// A turn ended.
    pub(crate) fn turned(&self) {
        self.write(|aboard| aboard.turns = aboard.turns.saturating_add(1));
    }
}

/// For people alone: no deadline depends on it.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}
