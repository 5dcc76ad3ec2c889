//! The host's own threads: one actix system, its arbiters, and how all of them end.
//!
//! They are its own because a program on plain multi-threaded tokio has no place for actors that
//! are not `Send`. It knows no object.

use std::sync::Arc;
use std::thread::JoinHandle;

use actix::ArbiterHandle;
use actix::{Arbiter, System};
use tokio::sync::{oneshot, watch};

use super::core::Core;
use super::recovery::scan_alarms;
use crate::Error;
use crate::clock::BoxFuture;
use crate::timers::{Found, Scan};

/// The running threads, as their owner sees them.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) arbiters: Vec<ArbiterHandle>,
    pub(super) shutdown: watch::Sender<bool>,
    pub(super) ended: watch::Receiver<bool>,
    pub(super) main: JoinHandle<()>,
}

/// Everything that the main thread takes with it.
struct Work {
    core: Arc<Core>,
    committer: JoinHandle<()>,
    shutdown: watch::Receiver<bool>,
    ready: std::sync::mpsc::SyncSender<Result<Vec<ArbiterHandle>, Error>>,
}

/// Starts everything and waits until it runs, for some milliseconds.
pub(super) fn start(core: Arc<Core>, committer: JoinHandle<()>) -> Result<Threads, Error> {
    let (shutdown, shutdown_seen) = watch::channel(false);
    let (ended_guard, ended) = watch::channel(false);
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let work = Work {
        core,
        committer,
        shutdown: shutdown_seen,
        ready,
    };
    let main = std::thread::Builder::new()
        .name("durable-host".to_owned())
        .spawn(move || {
            let _ended = Ended(ended_guard);
            work.run();
        })
        .map_err(|e| Error::Start {
            reason: e.to_string(),
        })?;
    let died = |_| Error::Start {
        reason: "the host's thread died".to_owned(),
    };
    let arbiters = started.recv().map_err(died)??;
    Ok(Threads {
        arbiters,
        shutdown,
        ended,
        main,
    })
}

/// Says that the thread has ended, however it ended.
pub(super) struct Ended(pub(super) watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Work {
    fn run(self) {
        let Self {
            core,
            committer,
            shutdown,
            ready,
        } = self;
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(e) => {
                return drop(ready.send(Err(Error::Start {
                    reason: e.to_string(),
                })));
            }
        };
        let handle = runtime.handle().clone();
        let system = System::with_tokio_rt(|| runtime);
        let (arbiters, handles) = match arbiters(core.settings.arbiters) {
            Ok(started) => started,
            Err(error) => return drop(ready.send(Err(error))),
        };
        core.executor.runs_on(handle);
        let _ = ready.send(Ok(handles));
        system.block_on(serve(Arc::clone(&core), shutdown));
        end(&core, system, arbiters, committer);
    }
}

fn arbiters(count: usize) -> Result<(Vec<Arbiter>, Vec<ArbiterHandle>), Error> {
    let mut arbiters = Vec::new();
    for _ in 0..count {
        arbiters.push(Arbiter::try_new().map_err(|e| Error::Start {
            reason: e.to_string(),
        })?);
    }
    let handles = arbiters.iter().map(Arbiter::handle).collect();
    Ok((arbiters, handles))
}

/// Runs the alarm clock until the end is asked for, then lets queued commits end.
pub(super) async fn serve(core: Arc<Core>, mut shutdown: watch::Receiver<bool>) {
    let (stop_clock, stopped) = oneshot::channel::<()>();
    let clock = Arc::clone(&core);
    let index = alarm_index(Arc::clone(&core));
    let clock = actix::spawn(async move {
        let tick = |now| clock.jumps.tick(&*clock.settings.clock, now);
        tokio::select! {
            biased;
            () = clock.timers.run(&index, tick) => {}
            _ = stopped => {}
        }
    });
    // A dropped owner is the same wish.
    let _ = shutdown.wait_for(|asked| *asked).await;
    core.set_stopping();
    drop(stop_clock);
    let _ = clock.await;
    core.committer.stop().await;
}

/// Reads of the alarm index, on a thread that may block.
fn alarm_index(
    core: Arc<Core>,
) -> impl Fn(Scan) -> BoxFuture<'static, Result<Found, Error>> + Send + Sync {
    move |scan| {
        let core = Arc::clone(&core);
        Box::pin(async move {
            let job = Arc::clone(&core);
            let work = move || scan_alarms(&*job.storage()?, &scan);
            core.executor.read(work).await?
        })
    }
}

fn end(
    core: &Core,
    system: actix::SystemRunner,
    arbiters: Vec<Arbiter>,
    committer: JoinHandle<()>,
) {
    // The committer first: it answers what is queued, and actors must be there to see it.
    let mut clean = committer.join().is_ok();
    System::current().stop();
    clean &= system.run().is_ok();
    for arbiter in arbiters {
        clean &= arbiter.join().is_ok();
    }
    core.close();
    if !clean {
        tracing::error!("a thread of the object host ended by a panic");
    }
}
