//! What a session says: that it began, that it lives, that its turn is over, and how it ended.
//!
//! Owns the wording of its reports and what an answer makes it do.

use std::rc::Rc;

use rig::{
    AgentId, Beat, Class, Completion, DispatchId, DoneReport, Failure, Input, Outcome, Reply,
    Report, Stage, Timestamp, TurnReport, TurnVerdict, Work,
};
use tokio::time::Instant;

use super::{How, Over, RETRY, Session, stale};

impl Session {
    /// The turn stayed quiet: look at the work and ask what follows.
    pub(super) async fn judge(&mut self) -> Over {
        if self.stopping == Some(false) {
            return Some(How::Completed);
        }
        let work = {
            let trees = self.lab.trees.borrow();
            if trees.is_dirty(&self.at) && self.own_commit.is_none() {
                // What will be saved at the end, by its present head.
                let sha = format!("{}-head", self.at.1);
                Work::Saved { sha }
            } else {
                trees.work(&self.at, self.own_commit.as_ref())
            }
        };
        if self.stopping.is_some() {
            let done = work.is_fresh();
            return Some(if done {
                How::Completed
            } else {
                Self::interrupted()
            });
        }
        let report = TurnReport {
            turn_no: self.turn_no,
            work,
            output: self.output,
        };
        let dispatch = self.dispatch();
        if self.lab.chance(self.lab.faults.get().lost) {
            self.judge_at = Instant::now() + RETRY;
            return None;
        }
        let verdict = self.tell(Input::TurnEnded { dispatch, report }).await;
        if self.lab.chance(self.lab.faults.get().lost) {
            // The answer is lost: the same turn is reported again.
            self.judge_at = Instant::now() + RETRY;
            return None;
        }
        match verdict {
            Ok(Ok(Reply::Turn(TurnVerdict::End))) => Some(How::Completed),
            Ok(Ok(Reply::Turn(TurnVerdict::Nudge(_)))) => {
                self.prompted();
                None
            }
            Ok(Err(_)) => Some(stale()),
            Ok(Ok(_)) | Err(_) => {
                self.judge_at = Instant::now() + RETRY;
                None
            }
        }
    }

    pub(super) async fn report_start(&mut self) -> Over {
        if self.started {
            return None;
        }
        let started = Input::AgentStarted {
            dispatch: self.dispatch(),
            incarnation: self.incarnation.clone(),
            session: self.name.clone(),
        };
        if self.lab.chance(self.lab.faults.get().lost) {
            return None;
        }
        match self.tell(started).await {
            Ok(Ok(_)) => {
                self.started = true;
                None
            }
            Ok(Err(_)) => Some(stale()),
            Err(_) => None,
        }
    }

    pub(super) async fn beat(&mut self) -> Over {
        if self.mute {
            return None;
        }
        if let Some(how) = self.report_start().await {
            return Some(how);
        }
        if !self.started || self.lab.chance(self.lab.faults.get().lost) {
            return None;
        }
        let beat = Beat {
            dispatch: self.dispatch(),
            incarnation: self.incarnation.clone(),
            progress_at: self.progress_at.map(Timestamp),
            tool_since: self.tool_since.map(Timestamp),
            repeats: self.repeats,
            output: self.output,
            usage: self.usage,
        };
        match self.tell(Input::Heartbeat(beat)).await {
            Ok(Err(_)) => Some(stale()),
            _ => None,
        }
    }

    /// By its tool, which asks again as long as it gets no answer.
    pub(super) fn say_done(&self, after_ms: i64) {
        let report = DoneReport {
            branch: self.order.branch.clone(),
            pr_url: None,
            summary: Some(format!("done by {}", self.order.dispatch)),
        };
        self.say(after_ms, move |agent, dispatch| Input::Done {
            agent,
            dispatch,
            report: report.clone(),
        });
    }

    pub(super) fn reported_over(&self, ok: bool) {
        self.say(0, move |agent, dispatch| Input::Completed {
            agent,
            dispatch,
            completion: if ok {
                Completion::Completed
            } else {
                Completion::Failed { reason: None }
            },
        });
    }

    fn say(&self, after_ms: i64, words: impl Fn(AgentId, Option<DispatchId>) -> Input + 'static) {
        let (lab, up, rig) = (Rc::clone(&self.lab), Rc::clone(&self.up), self.rig.clone());
        let (agent, dispatch) = (self.order.agent.clone(), self.dispatch());
        self.up.host.spawn(async move {
            lab.sleep(after_ms).await;
            for _ in 0..4 {
                let input = words(agent.clone(), Some(dispatch.clone()));
                let heard = lab.tell(&up, &rig, input).await.is_ok();
                if heard && !lab.chance(lab.faults.get().lost) {
                    return;
                }
                lab.sleep(2_000).await;
            }
        });
    }

    /// The session is proven over and its work is safe; only then it is reported.
    pub(super) async fn finish(self, how: How) -> Report {
        self.lab.sleep(self.lab.between(0, 3_000)).await;
        let class = match &how {
            How::Completed => None,
            How::Failed(failure) => Some(failure.class),
        };
        let work = {
            let mut trees = self.lab.trees.borrow_mut();
            match trees.ends(&self.at, class) {
                Some(sha) => Work::Saved { sha },
                None => trees.work(&self.at, self.own_commit.as_ref()),
            }
        };
        let outcome = match how {
            How::Completed if !self.output => Outcome::Failed {
                failure: Failure::new(Class::EndedEmpty, Stage::Turn, "no output"),
                work,
            },
            How::Completed => Outcome::Completed { work, text: None },
            How::Failed(failure) => Outcome::Failed { failure, work },
        };
        if let Some(after) = self.plan.done_late {
            self.say_done(after);
        }
        let mut notes = self.lab.book.notes();
        notes.processes.is_over(&self.at);
        notes.say(|| format!("{} {} is over: {outcome:?}", self.rig, self.order.dispatch));
        let begun = self.started || self.turn_no > 0 || self.output;
        Report {
            dispatch: self.order.dispatch.clone(),
            outcome,
            session: begun.then(|| self.name.clone()),
            output: self.output,
            usage: self.usage,
            phases: Vec::new(),
            last_output: None,
        }
    }
}
