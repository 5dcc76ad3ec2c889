//! The library's own actix thread, so that a host on plain tokio embeds it.
//!
//! Owns one `System` on one thread, for containers and the rigs' desk. Knows no actor.

use std::thread::JoinHandle;

use actix::{ArbiterHandle, System};
use tokio::sync::oneshot;

/// A running actix `System`.
#[derive(Debug)]
pub(crate) struct ActorThread {
    arbiter: ArbiterHandle,
    system: System,
    thread: Option<JoinHandle<()>>,
}

impl ActorThread {
    /// Starts it.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let (up, ready) = oneshot::channel();
        let run = move || {
            let runner = System::new();
            let system = System::current();
            // Nobody waits any more: then nothing is to run either.
            if up.send((system.arbiter().clone(), system)).is_ok() {
                let _ = runner.run();
            }
        };
        let thread = std::thread::Builder::new()
            .name("wellhead-actors".to_owned())
            .spawn(run)?;
        let (arbiter, system) = ready.await.map_err(std::io::Error::other)?;
        Ok(Self {
            arbiter,
            system,
            thread: Some(thread),
        })
    }

    pub(crate) fn arbiter(&self) -> ArbiterHandle {
        self.arbiter.clone()
    }

    /// Ends the thread and everything on it.
    pub(crate) async fn stop(mut self) {
        self.system.stop();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for ActorThread {
    fn drop(&mut self) {
        // No join: the handle may be dropped on the thread itself.
        self.system.stop();
    }
}
