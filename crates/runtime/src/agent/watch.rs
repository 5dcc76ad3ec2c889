//! The life of a session: its turns, its heartbeats, and what it must never wait for in vain.
//!
//! Owns the loop between prompt and end. Tells life from progress; asks the rig what follows a
//! quiet turn; answers everything that kilo would wait for without end.

use std::time::Duration;

use kilo::{
    Judgement, ModelRef, PermissionReply, PromptOptions, SessionEvent, ToolStatus, TurnEnd,
};
use rig::{Beat, Class, Failure, Stage, TurnReport, TurnVerdict, Usage, Work};
use tokio::{sync::mpsc, time::Instant};

use super::{Agent, Gear, How, Leave, StopOrder, outcome, prompt};
use crate::messages::{AgentStarted, Heartbeat, TurnEnded, Unheard};

/// Between two tries of a report that the rig could not take.
const RETRY: Duration = Duration::from_secs(1);
/// Far enough to mean never; timers in a select need some time.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// What the loop knows.
struct Watch {
    started: bool,
    stopping: Option<StopOrder>,
    stop_at: Instant,
    /// The turn that completed, and when it was quiet for long enough.
    ended: Option<TurnEnd>,
    judge_at: Instant,
    turn_no: u32,
    output: bool,
    progress_at: Option<Instant>,
    tools: std::collections::BTreeSet<String>,
    asked: Option<String>,
    usage: Usage,
}

/// What ends the loop.
type Over = Option<How>;

impl Agent {
    /// Watches the session until it has to end.
    pub(super) async fn watch(
        &self,
        gear: &mut Gear,
        stops: &mut mpsc::Receiver<StopOrder>,
    ) -> Leave {
        let mut watch = Watch::new();
        let how = self.turns(gear, &mut watch, stops).await;
        Leave {
            how,
            output: watch.output,
            usage: watch.usage,
        }
    }

    async fn turns(
        &self,
        gear: &mut Gear,
        watch: &mut Watch,
        stops: &mut mpsc::Receiver<StopOrder>,
    ) -> How {
        let beat_every =
            Duration::from_millis(u64::try_from(self.order.heartbeat_ms).unwrap_or(15_000));
        let mut beats = tokio::time::interval(beat_every);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let Some(session) = &mut gear.session else {
                return How::Failed(Failure::new(Class::Crash, Stage::Turn, "no session"));
            };
            let over = tokio::select! {
                biased;
                Some(order) = stops.recv() => watch.stop(order),
                () = tokio::time::sleep_until(watch.stop_at) => Some(watch.interrupted()),
                _ = beats.tick() => self.beat(watch).await,
                () = tokio::time::sleep_until(watch.judge_at) => self.judge(gear, watch).await,
                event = session.next() => self.on_event(gear, watch, event).await,
            };
            if let Some(how) = over {
                return how;
            }
        }
    }

    async fn on_event(&self, gear: &mut Gear, watch: &mut Watch, event: SessionEvent) -> Over {
        match event {
            SessionEvent::TurnOpened => {
                self.sight.moved();
                watch.moved();
                return self.report_start(gear, watch).await;
            }
            SessionEvent::Progress { output, tool } => {
                self.sight.moved();
                watch.moved();
                watch.note_tool(tool);
                if output && !watch.output {
                    watch.output = true;
                    // At once: it is what closes a breaker.
                    return self.beat(watch).await;
                }
            }
            SessionEvent::Retrying {
                attempt, message, ..
            } => {
                tracing::info!(dispatch = %self.dispatch(), attempt, message, "kilo asks again");
            }
            SessionEvent::Offline { message, .. } => {
                let failure = Failure::new(Class::Gateway, Stage::Turn, message);
                return Some(How::Failed(Failure {
                    offline: true,
                    ..failure
                }));
            }
            SessionEvent::PermissionAsked { id, text } => {
                tracing::info!(dispatch = %self.dispatch(), text, "a permission is given");
                answer_permission(gear, &id).await;
            }
            SessionEvent::QuestionAsked { id, text } => {
                watch.asked = Some(text);
                reject_question(gear, &id).await;
            }
            SessionEvent::Usage(usage) => watch.usage = outcome::usage(usage),
            SessionEvent::TurnEnd(end) => return self.on_turn_end(watch, end),
            SessionEvent::ServerGone(exit) => {
                let alone = gear
                    .lease
                    .as_ref()
                    .is_none_or(crate::container::ServerLease::was_alone);
                return Some(How::Failed(outcome::of_exit(&exit, alone)));
            }
        }
        None
    }

    fn on_turn_end(&self, watch: &mut Watch, end: TurnEnd) -> Over {
        self.sight.turned();
        watch.moved();
        watch.tools.clear();
        watch.output |= end.model_output;
        watch.usage = outcome::usage(end.usage);
        watch.turn_no += 1;
        let failed =
            |class, text: String| Some(How::Failed(Failure::new(class, Stage::Turn, text)));
        match &end.judgement {
            Judgement::Answered { .. } => {
                // None after `done`: then only the turn's end was waited for.
                let quiet = if watch.stopping.is_some() {
                    0
                } else {
                    self.order.idle_grace_ms
                };
                let quiet = Duration::from_millis(u64::try_from(quiet).unwrap_or(0));
                watch.judge_at = Instant::now() + quiet;
                watch.ended = Some(end);
                None
            }
            Judgement::Empty => failed(
                Class::EndedEmpty,
                "the session ended without any output".to_owned(),
            ),
            Judgement::Failed(error) => Some(How::Failed(outcome::of_error(error))),
            Judgement::Interrupted if watch.stopping.is_some() => Some(watch.interrupted()),
            Judgement::Interrupted => failed(
                Class::Interrupted,
                "the turn was aborted from outside".to_owned(),
            ),
            Judgement::Unfinished { why } => match &watch.asked {
                Some(question) => failed(
                    Class::Unanswered,
                    format!("it asked, and nobody answers: {question}"),
                ),
                None => failed(Class::AgentFailed, why.clone()),
            },
        }
    }

    /// The turn stayed quiet: look at the work and ask what follows.
    async fn judge(&self, gear: &mut Gear, watch: &mut Watch) -> Over {
        let Some(end) = &watch.ended else { return None };
        let text = end.text.clone();
        let draining = watch.stopping.as_ref().map(|order| order.is_drain);
        if draining == Some(false) {
            return Some(How::Completed(text));
        }
        let Some(worktree) = &gear.worktree else {
            return Some(How::Completed(text));
        };
        let work = match worktree.state().await {
            Ok(state) if state.dirty && !state.is_fresh => Work::Saved { sha: state.head },
            Ok(state) => state.work(),
            Err(failure) => return Some(How::Failed(failure)),
        };
        if draining.is_some() {
            // Nobody is left to nudge it: work counts, a text alone is gone on with later.
            return Some(if work.is_fresh() {
                How::Completed(text)
            } else {
                watch.interrupted()
            });
        }
        let report = TurnReport {
            turn_no: watch.turn_no,
            work,
            output: watch.output,
        };
        let (rig, dispatch) = (self.rig.clone(), self.dispatch().clone());
        match self
            .rigs
            .turn
            .send(TurnEnded {
                rig,
                dispatch,
                report,
            })
            .await
        {
            Ok(Ok(TurnVerdict::End)) => Some(How::Completed(text)),
            Ok(Ok(TurnVerdict::Nudge(nudge))) => self.nudge(gear, watch, &nudge).await,
            Ok(Err(Unheard::Stale)) => Some(stale()),
            Ok(Err(Unheard::Later(_))) | Err(_) => {
                watch.judge_at = Instant::now() + RETRY;
                None
            }
        }
    }

    async fn nudge(&self, gear: &mut Gear, watch: &mut Watch, text: &str) -> Over {
        watch.ended = None;
        watch.judge_at = Instant::now() + NEVER;
        let mut options = PromptOptions::new(ModelRef::kilo(gear.model.clone()));
        options.system = Some(prompt::system(&self.order, &self.rig));
        let session = gear.session.as_mut()?;
        match session.prompt(text, &options).await {
            Ok(()) => None,
            Err(error) => Some(How::Failed(Failure::new(
                Class::Crash,
                Stage::Prompt,
                error.to_string(),
            ))),
        }
    }

    async fn report_start(&self, gear: &Gear, watch: &mut Watch) -> Over {
        if watch.started {
            return None;
        }
        let session = gear
            .session
            .as_ref()
            .map(|s| s.id().to_owned())
            .unwrap_or_default();
        let message = AgentStarted {
            rig: self.rig.clone(),
            dispatch: self.dispatch().clone(),
            incarnation: self.incarnation.clone(),
            session,
        };
        match self.rigs.started.send(message).await {
            Ok(Ok(())) => {
                watch.started = true;
                None
            }
            Ok(Err(Unheard::Stale)) => Some(stale()),
            // The next beat tries again.
            Ok(Err(Unheard::Later(_))) | Err(_) => None,
        }
    }

    async fn beat(&self, watch: &mut Watch) -> Over {
        if !watch.started {
            return None;
        }
        let beat = Beat {
            dispatch: self.dispatch().clone(),
            incarnation: self.incarnation.clone(),
            progress_at: None,
            in_tool: !watch.tools.is_empty(),
            output: watch.output,
            usage: watch.usage,
        };
        let progress_age_ms = watch
            .progress_at
            .map(|at| i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX));
        let message = Heartbeat {
            rig: self.rig.clone(),
            beat,
            progress_age_ms,
        };
        match self.rigs.heartbeat.send(message).await {
            Ok(Err(Unheard::Stale)) => Some(stale()),
            // A lost beat is what the lease is for.
            _ => None,
        }
    }
}

impl Watch {
    fn new() -> Self {
        let never = Instant::now() + NEVER;
        Self {
            started: false,
            stopping: None,
            stop_at: never,
            ended: None,
            judge_at: never,
            turn_no: 0,
            output: false,
            progress_at: None,
            tools: std::collections::BTreeSet::new(),
            asked: None,
            usage: Usage::default(),
        }
    }

    /// A model or tool event: the work moves, and a turn that looked over is not.
    fn moved(&mut self) {
        self.progress_at = Some(Instant::now());
        if self.ended.take().is_some() {
            self.judge_at = Instant::now() + NEVER;
        }
    }

    fn note_tool(&mut self, tool: Option<kilo::ToolState>) {
        let Some(tool) = tool else { return };
        match tool.state {
            ToolStatus::Running => drop(self.tools.insert(tool.call_id)),
            ToolStatus::Completed | ToolStatus::Error => drop(self.tools.remove(&tool.call_id)),
            ToolStatus::Pending => {}
        }
    }

    /// An order to stop: at once, or when the turn has ended within its grace.
    fn stop(&mut self, order: StopOrder) -> Over {
        let grace = Duration::from_millis(u64::try_from(order.grace_ms).unwrap_or(0));
        let is_quiet = self.ended.is_some();
        self.stopping = Some(order);
        if is_quiet {
            self.judge_at = Instant::now();
            return None;
        }
        self.stop_at = self.stop_at.min(Instant::now() + grace);
        None
    }

    fn interrupted(&self) -> How {
        let reason = self
            .stopping
            .as_ref()
            .map_or("stopped", |order| order.reason.as_str());
        How::Failed(Failure::new(Class::Interrupted, Stage::Turn, reason))
    }
}

fn stale() -> How {
    How::Failed(Failure::new(
        Class::Interrupted,
        Stage::Turn,
        "the dispatch is not current",
    ))
}

async fn answer_permission(gear: &mut Gear, id: &str) {
    let Some(session) = &mut gear.session else {
        return;
    };
    if let Err(error) = session.reply_permission(id, PermissionReply::Once).await {
        tracing::warn!(%error, "a permission was not answered; the progress deadline will end it");
    }
}

async fn reject_question(gear: &mut Gear, id: &str) {
    let Some(session) = &mut gear.session else {
        return;
    };
    if let Err(error) = session.reject_question(id).await {
        tracing::warn!(%error, "a question was not rejected; the progress deadline will end it");
    }
}
