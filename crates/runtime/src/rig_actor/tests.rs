//! The rig as a durable object, driven through its stub: fences, repeated reports, and the
//! agent's word against the session's end in every order.

use std::sync::{Arc, Mutex};

use durable::{
    BoxFuture, Deliver, Envelope, Handle as _, Host, NotDelivered, Object as _, ObjectId, Store,
    testing::TestTurn,
};
use rig::{
    Bead, Class, CredentialSource, DispatchId, DoneReport, Effect, Failure, Incarnation, Input,
    NewBead, Outcome, Phase, Policy, Preflight, Refused, Reply, Report, ReviewMode, RigConfig,
    Stage, Status, TownId, Usage, Work,
};
use tokio::sync::watch;

use super::{COUNTS_KEY, Changes, RIG_KEY, RigActor, Tell};
use crate::{Error, RigStub};

/// Takes every effect and remembers it.
struct Taker(Arc<Mutex<Vec<Effect>>>, watch::Sender<usize>);

impl Deliver<Effect> for Taker {
    fn deliver(&self, envelope: Envelope<Effect>) -> BoxFuture<'static, Result<(), NotDelivered>> {
        let mut taken = self.0.lock().unwrap();
        taken.push(envelope.effect);
        self.1.send_replace(taken.len());
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Bench {
    rig: RigStub,
    effects: Arc<Mutex<Vec<Effect>>>,
    count: watch::Receiver<usize>,
    changes: watch::Receiver<u64>,
    host: Host,
}

fn policy() -> Policy {
    // The grace is longer than any test: nothing settles by the clock, only by both halves.
    Policy {
        end_grace_ms: 3_600_000,
        backoff_ms: vec![100],
        ..Policy::default()
    }
}

async fn bench(policy: Policy) -> Bench {
    let host = Host::start(Store::memory().unwrap(), durable::Settings::default()).unwrap();
    let effects = Arc::new(Mutex::new(Vec::new()));
    let (sender, count) = watch::channel(0);
    let changes = Changes::new();
    let seen = changes.subscribe();
    let taker = Arc::new(Taker(Arc::clone(&effects), sender));
    let rigs = host.namespace::<RigActor>(changes.into(), taker);
    let rig = RigStub::new(rigs.stub(&ObjectId::from_name("rig").unwrap()));
    rig.set_policy(policy).await.unwrap();
    let config = RigConfig {
        town_id: TownId::new("town").unwrap(),
        name: "rig".to_owned(),
        git_url: "/nowhere".to_owned(),
        default_branch: "main".to_owned(),
        model: None,
        review: ReviewMode::Off,
        credentials: CredentialSource::Environment,
    };
    rig.tell(Input::Configure(config)).await.unwrap();
    Bench {
        rig,
        effects,
        count,
        changes: seen,
        host,
    }
}

impl Bench {
    /// The first effect that fits, as soon as it is there.
    async fn effect<R>(&mut self, fits: impl Fn(&Effect) -> Option<R>) -> R {
        let wait = async {
            loop {
                self.count.borrow_and_update();
                if let Some(found) = self.effects.lock().unwrap().iter().rev().find_map(&fits) {
                    return found;
                }
                self.count.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), wait)
            .await
            .expect("an effect")
    }

    async fn dispatched(&mut self, no: u64) -> DispatchId {
        self.effect(|effect| match effect {
            Effect::Dispatch(order) if order.dispatch.no == no => Some(order.dispatch.clone()),
            _ => None,
        })
        .await
    }

    async fn working(&mut self, no: u64) -> DispatchId {
        let dispatch = self.dispatched(no).await;
        let started = Input::AgentStarted {
            dispatch: dispatch.clone(),
            incarnation: Incarnation::new("one").unwrap(),
            session: format!("ses_{no}"),
        };
        self.rig.tell(started).await.unwrap();
        dispatch
    }

    /// A bead whose first dispatch works.
    async fn begin(&mut self) -> (Bead, DispatchId) {
        let (bead, _) = self.rig.sling(NewBead::issue("work")).await.unwrap();
        let no = self
            .effect(|e| match e {
                Effect::Preflight { no, .. } => Some(*no),
                _ => None,
            })
            .await;
        self.rig
            .tell(Input::PreflightDone {
                no,
                result: Preflight::Passed,
            })
            .await
            .unwrap();
        let dispatch = self.working(1).await;
        (bead, dispatch)
    }

    async fn done(&self, bead: &Bead, dispatch: &DispatchId) -> Result<(), Error> {
        let agent = bead.assignee.clone().unwrap();
        let report = DoneReport {
            branch: "b".to_owned(),
            pr_url: None,
            summary: None,
        };
        self.rig.done(&agent, Some(dispatch), report).await
    }

    async fn bead(&self, bead: &Bead) -> Bead {
        self.rig.bead(&bead.id).await.unwrap().unwrap()
    }

    async fn until(&mut self, bead: &Bead, status: Status) -> Bead {
        let wait = async {
            loop {
                self.changes.borrow_and_update();
                let now = self.rig.bead(&bead.id).await.unwrap().unwrap();
                if now.status() == status {
                    return now;
                }
                self.changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), wait)
            .await
            .expect("that status")
    }
}

fn worked(dispatch: &DispatchId) -> Report {
    let work = Work::Commit {
        sha: "abc".to_owned(),
    };
    report(dispatch, Outcome::Completed { work, text: None })
}

fn report(dispatch: &DispatchId, outcome: Outcome) -> Report {
    let session = Some(format!("ses_{}", dispatch.no));
    Report {
        dispatch: dispatch.clone(),
        outcome,
        session,
        output: true,
        usage: Usage::default(),
        phases: Vec::new(),
        last_output: None,
    }
}

fn crashed(dispatch: &DispatchId) -> Report {
    let failure = Failure::new(Class::Crash, Stage::Turn, "gone");
    report(
        dispatch,
        Outcome::Failed {
            failure,
            work: Work::None,
        },
    )
}

/// What has to be the same whatever the order was.
fn gist(bead: &Bead) -> (Status, String, Option<String>, rig::Numbers, usize) {
    let phase = match &bead.phase {
        Phase::Closed { resolution, .. } => format!("{resolution:?}"),
        other => format!("{other:?}"),
    };
    (
        bead.status(),
        phase,
        bead.commit.clone(),
        bead.numbers,
        bead.attempts.len(),
    )
}

#[tokio::test]
async fn done_and_the_end_of_the_session_give_the_same_bead_in_all_four_orders() {
    let mut seen = Vec::new();
    for (done_first, done_lost, end_lost) in [
        (true, false, false),
        (false, false, false),
        (false, true, false),
        (true, false, true),
    ] {
        // Where the agent's word is lost only the grace ends the wait for it.
        let grace = if done_lost {
            Policy {
                end_grace_ms: 100,
                ..policy()
            }
        } else {
            policy()
        };
        let mut bench = bench(grace).await;
        let (bead, dispatch) = bench.begin().await;
        if done_first {
            bench.done(&bead, &dispatch).await.unwrap();
        }
        if end_lost {
            // The rig asks for the end, and what it asks for is what it gets.
            bench
                .effect(|e| match e {
                    Effect::StopAgent {
                        dispatch: asked, ..
                    } => (*asked == dispatch).then_some(()),
                    _ => None,
                })
                .await;
        }
        bench.rig.agent_done(worked(&dispatch)).await.unwrap();
        if !done_first && !done_lost {
            bench.done(&bead, &dispatch).await.unwrap();
        }
        seen.push(gist(&bench.until(&bead, Status::Closed).await));
        bench.host.stop().await;
    }
    assert_eq!(seen[0].0, Status::Closed);
    assert!(seen.iter().all(|gist| *gist == seen[0]), "{seen:#?}");
}

#[tokio::test]
async fn a_late_report_of_the_first_dispatch_changes_nothing_while_the_second_runs() {
    let mut bench = bench(Policy {
        end_grace_ms: 0,
        ..policy()
    })
    .await;
    let (bead, first) = bench.begin().await;
    bench.rig.agent_done(crashed(&first)).await.unwrap();
    let second = bench.working(2).await;
    let before = bench.bead(&bead).await;
    let late = bench.rig.agent_done(worked(&first)).await;
    assert_eq!(late, Err(Error::Refused(Refused::Stale(first.clone()))));
    assert!(bench.done(&bead, &first).await.is_err());
    assert_eq!(bench.bead(&bead).await, before);
    bench.rig.agent_done(worked(&second)).await.unwrap();
    assert_eq!(
        bench.until(&bead, Status::Closed).await.numbers.dispatch_no,
        2
    );
    bench.host.stop().await;
}

#[tokio::test]
async fn a_repeated_report_gets_the_same_answer_and_changes_nothing() {
    let mut bench = bench(Policy {
        end_grace_ms: 0,
        ..policy()
    })
    .await;
    let (bead, dispatch) = bench.begin().await;
    bench.rig.agent_done(worked(&dispatch)).await.unwrap();
    let closed = bench.until(&bead, Status::Closed).await;
    for _ in 0..3 {
        assert_eq!(
            bench.rig.agent_done(worked(&dispatch)).await,
            Ok(Reply::Repeated)
        );
    }
    assert!(
        bench.rig.agent_done(crashed(&dispatch)).await.is_err(),
        "another outcome is stale"
    );
    assert_eq!(bench.bead(&bead).await, closed);
    bench.host.stop().await;
}

#[tokio::test]
async fn a_start_resets_no_number() {
    let mut bench = bench(Policy {
        end_grace_ms: 0,
        ..policy()
    })
    .await;
    let (bead, first) = bench.begin().await;
    bench.rig.agent_done(crashed(&first)).await.unwrap();
    bench.working(2).await;
    let numbers = bench.bead(&bead).await.numbers;
    assert_eq!(
        (numbers.dispatch_no, numbers.failures, numbers.prompts),
        (2, 1, 2)
    );
    bench.host.stop().await;
}

/// A rig of its own, without a host, and what it told the test's store.
fn inline() -> (TestTurn, RigActor) {
    let id = ObjectId::from_name("rig").unwrap();
    let host = TestTurn::new::<RigActor>(id.clone(), 1_800_000_000_000);
    let rig = RigActor::load(&id, &host.records(), &Changes::new().into()).unwrap();
    (host, rig)
}

fn loaded(host: &TestTurn) -> RigActor {
    let id = ObjectId::from_name("rig").unwrap();
    RigActor::load(&id, &host.records(), &Changes::new().into()).unwrap()
}

#[test]
fn a_step_writes_the_rigs_record_only_if_more_than_its_counts_has_changed() {
    let (mut host, mut rig) = inline();
    let mut tell = |rig: &mut RigActor, input: Input| -> Vec<String> {
        let told = host.run(|turn| rig.handle(turn, Tell(input)));
        let (reply, written) = told.unwrap();
        reply.unwrap();
        assert_eq!(loaded(&host).rig, rig.rig, "what is stored is the state");
        written.puts.into_iter().map(|(key, _)| key).collect()
    };
    let policy = tell(&mut rig, Input::SetPolicy(policy()));
    assert_eq!(policy, [RIG_KEY]);
    // The first bead begins the patrol's hour.
    let first = tell(&mut rig, Input::CreateBead(NewBead::issue("work")));
    assert!(first.contains(&RIG_KEY.to_owned()), "{first:?}");
    let more = tell(&mut rig, Input::CreateBead(NewBead::issue("work")));
    assert!(more.contains(&COUNTS_KEY.to_owned()), "{more:?}");
    assert!(!more.contains(&RIG_KEY.to_owned()), "{more:?}");
    // A whole record behind them is ahead of the counts that were kept apart before.
    tell(&mut rig, Input::SetPolicy(Policy::default()));
    assert_eq!(rig.rig.record().event_no, 2);
}

#[test]
fn records_of_a_store_from_before_the_counts_and_without_gaps_are_read() {
    let (mut host, _) = inline();
    let bead = serde_json::json!({
        "id": "b1", "type": "issue", "title": "t", "body": null, "priority": "low", "labels": [],
        "metadata": {}, "assignee": null, "convoy_id": null, "created_at": 1, "updated_at": 1,
        "phase": { "is": "open" },
        "numbers": { "dispatch_no": 0, "failures": 0, "prompts": 0, "retries": 0 },
        "last_failure": null, "branch": null, "commit": null, "resume": null, "messages": [],
        "usage": { "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0 }, "attempts": [],
    });
    let record = rig::RigRecord {
        event_no: 7,
        ..rig::RigRecord::default()
    };
    let stored = host.run::<Effect, _>(|turn| {
        turn.put(RIG_KEY, &record);
        turn.put("bead/b1", &bead);
    });
    stored.unwrap();
    let rig = loaded(&host).rig;
    assert_eq!(rig.record(), &record);
    let read = rig.beads().next().unwrap();
    assert_eq!((read.title.as_str(), read.status()), ("t", Status::Open));
    // The same bead as it is stored now is less than half of that.
    let now = serde_json::to_string(read).unwrap();
    assert!(now.len() * 2 < bead.to_string().len(), "{now}");
}
