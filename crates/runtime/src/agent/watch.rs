//! The life of a session: its turns, its heartbeats, and what it must never wait for in vain.
//!
//! Owns the loop between prompt and end. Tells life from progress; asks the rig what follows a
//! quiet turn; answers everything that kilo would wait for without end.

use std::time::Duration;

use kilo::{Judgement, ModelRef, PermissionReply, PromptOptions, SessionEvent, TurnEnd};
use rig::{Beat, Class, Failure, Stage, TurnReport, TurnVerdict, Work, town::TownInput};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Agent, Gear, How, Leave, Order,
    known::{Known, NEVER},
    outcome, prompt,
};
use crate::messages::{AgentStarted, Heartbeat, TurnEnded, Unheard};

/// Between two tries of a report that the rig could not take.
const RETRY: Duration = Duration::from_secs(1);

/// What ends the loop.
type Over = Option<How>;

impl Agent {
    /// Watches the session until it has to end.
    pub(super) async fn watch(&self, gear: &mut Gear, orders: &mut mpsc::Receiver<Order>) -> Leave {
        let mut watch = Known::new(self.order.repeats_max);
        let how = self.turns(gear, &mut watch, orders).await;
        Leave {
            how,
            output: watch.output,
            usage: watch.usage,
            last_output: watch.last_output,
        }
    }

    async fn turns(
        &self,
        gear: &mut Gear,
        watch: &mut Known,
        orders: &mut mpsc::Receiver<Order>,
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
                Some(order) = orders.recv() => self.heed(gear, watch, order).await,
                () = tokio::time::sleep_until(watch.stop_at) => Some(watch.interrupted()),
                _ = beats.tick() => self.sign_of_life(gear, watch).await,
                () = tokio::time::sleep_until(watch.judge_at) => self.judge(gear, watch).await,
                event = session.next() => self.on_event(gear, watch, event).await,
            };
            if let Some(how) = over {
                return how;
            }
        }
    }

    /// Does what the container wants.
    async fn heed(&self, gear: &mut Gear, watch: &mut Known, order: Order) -> Over {
        match order {
            Order::Stop(order) => watch.stop(order),
            Order::End(failure) => return Some(How::Failed(failure)),
            Order::Nudge { no, text } if watch.heeds(no) => {
                watch.nudge = Some(text);
                let session = gear.session.as_mut()?;
                if let Err(error) = session.abort().await {
                    tracing::warn!(%error, "a turn was not stopped; its deadline will end it");
                }
            }
            Order::Nudge { .. } => {}
            Order::RetryOffline => {
                if let (Some(session), Some(request)) = (&gear.session, &watch.offline)
                    && let Err(error) = session.retry_network(request).await
                {
                    tracing::warn!(%error, "a wait for the gateway was not answered");
                }
            }
        }
        None
    }

    async fn on_event(&self, gear: &mut Gear, watch: &mut Known, event: SessionEvent) -> Over {
        match event {
            SessionEvent::TurnOpened => {
                self.sight.moved();
                watch.moved();
                gear.enter(Stage::Turn);
                return self.report_start(gear, watch).await;
            }
            SessionEvent::Progress { output, tool } => {
                self.sight.moved();
                watch.moved();
                let is_loop = watch.note_tool(tool);
                return self.on_progress(watch, output, is_loop).await;
            }
            SessionEvent::Retrying {
                attempt, message, ..
            } => {
                tracing::info!(dispatch = %self.dispatch(), attempt, message, "kilo asks again");
            }
            SessionEvent::Offline {
                request_id,
                message,
            } => {
                // The town opens the gateway's breaker, and answers when it works again.
                watch.offline = Some(request_id);
                self.tell_town(TownInput::Offline {
                    rig: self.rig.clone(),
                    dispatch: self.dispatch().clone(),
                    text: message,
                })
                .await;
            }
            SessionEvent::PermissionAsked { id, text } => {
                tracing::info!(dispatch = %self.dispatch(), text, "a permission is given");
                answer_permission(gear, &id).await;
            }
            SessionEvent::QuestionAsked { id, text } => {
                watch.asked = Some(text);
                reject_question(gear, &id).await;
            }
            SessionEvent::Usage(usage) => {
                watch.usage = outcome::usage(usage, gear.price);
                self.tell_usage(watch).await;
                return self.beat(watch).await;
            }
            SessionEvent::TurnEnd(end) => return self.on_turn_end(gear, watch, end).await,
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

    /// Output speaks for the scopes of this dispatch, once, and again after a wait.
    async fn on_progress(&self, watch: &mut Known, output: bool, is_loop: bool) -> Over {
        let is_first = output && (!watch.output || watch.offline.is_some());
        if is_first {
            watch.output = true;
            watch.offline = None;
            self.tell_town(TownInput::Output {
                rig: self.rig.clone(),
                dispatch: self.dispatch().clone(),
            })
            .await;
        }
        if is_first || is_loop {
            return self.beat(watch).await;
        }
        None
    }

    async fn tell_usage(&self, watch: &Known) {
        self.tell_town(TownInput::Used {
            rig: self.rig.clone(),
            dispatch: self.dispatch().clone(),
            usage: watch.usage,
        })
        .await;
    }

    async fn on_turn_end(&self, gear: &mut Gear, watch: &mut Known, end: TurnEnd) -> Over {
        self.sight.turned();
        watch.turn_over(&end);
        watch.usage = outcome::usage(end.usage, gear.price);
        let was_stopped = matches!(end.judgement, Judgement::Interrupted);
        if let Some(text) = watch.nudge.take().filter(|_| was_stopped) {
            return self.nudge(gear, watch, &text).await;
        }
        self.after_turn(watch, end)
    }

    fn after_turn(&self, watch: &mut Known, end: TurnEnd) -> Over {
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
    async fn judge(&self, gear: &mut Gear, watch: &mut Known) -> Over {
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
            Ok(Err(Unheard::Later(_) | Unheard::Broken(_))) | Err(_) => {
                watch.judge_at = Instant::now() + RETRY;
                None
            }
        }
    }

    async fn nudge(&self, gear: &mut Gear, watch: &mut Known, text: &str) -> Over {
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

    async fn report_start(&self, gear: &Gear, watch: &mut Known) -> Over {
        if watch.started {
            return None;
        }
        watch.begun = true;
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
            Ok(Err(Unheard::Later(_) | Unheard::Broken(_))) | Err(_) => None,
        }
    }

    /// A beat; as long as the rig could not be told of the start, that instead.
    async fn sign_of_life(&self, gear: &Gear, watch: &mut Known) -> Over {
        if watch.begun && !watch.started {
            return self.report_start(gear, watch).await;
        }
        self.beat(watch).await
    }

    async fn beat(&self, watch: &mut Known) -> Over {
        if !watch.started {
            return None;
        }
        let beat = Beat {
            dispatch: self.dispatch().clone(),
            incarnation: self.incarnation.clone(),
            progress_at: None,
            tool_since: None,
            repeats: watch.repeats.in_a_row(),
            output: watch.output,
            usage: watch.usage,
        };
        let message = Heartbeat {
            rig: self.rig.clone(),
            beat,
            progress_age_ms: watch.progress_age_ms(),
            tool_age_ms: watch.tool_age_ms(),
        };
        match self.rigs.heartbeat.send(message).await {
            Ok(Err(Unheard::Stale)) => Some(stale()),
            // A lost beat is what the lease is for.
            _ => None,
        }
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
