//! What a container remembers of its dispatches: a durable object, one per town.
//!
//! Owns the fence on the container's side: a number not above the highest one seen of a bead is
//! never run again. Every dispatch taken ends in a report, and the report is repeated until the
//! rig has taken it. Knows no process and no session; the actor runs what the ledger allows.

use std::{collections::BTreeMap, path::PathBuf};

use durable::{AlarmFailed, Handle, Message, Object, ObjectId, Records, Turn};
use rig::{Class, DispatchId, Failure, Outcome, Report, RigId, Stage, Usage, Work};
use serde::{Deserialize, Serialize};

const ENTRY_PREFIX: &str = "dispatch/";

/// The newest dispatch seen of one bead.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    rig: RigId,
    dispatch: DispatchId,
    state: State,
}

/// The server and directory of a session. The boot, the pid and the start time together name one
/// process for ever, so that a later life can end it and nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) boot_id: String,
    pub(crate) pid: u32,
    /// In clock ticks since boot.
    pub(crate) start_time: u64,
    pub(crate) port: u16,
    pub(crate) worktree: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
enum State {
    /// An agent task runs it, or did when the process died.
    Taken {
        session: Option<String>,
        /// Where it runs, once that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
    /// It is over; the report is repeated until `told`.
    Over { report: Box<Report>, told: bool },
}

/// A report on its way to a rig.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LedgerEffect {
    pub(crate) rig: RigId,
    pub(crate) report: Report,
}

/// The ledger as a durable object.
pub(crate) struct Ledger {
    entries: BTreeMap<String, Entry>,
}

/// A dispatch arrived: may it be run?
pub(crate) struct Take {
    pub(crate) rig: RigId,
    pub(crate) dispatch: DispatchId,
}

/// The session of a dispatch is known, and where it runs.
pub(crate) struct NoteSession {
    pub(crate) rig: RigId,
    pub(crate) dispatch: DispatchId,
    pub(crate) session: String,
    pub(crate) place: Option<Place>,
}

/// A dispatch is over.
pub(crate) struct Finish {
    pub(crate) rig: RigId,
    pub(crate) report: Report,
}

/// The rig wants a dispatch to be over.
pub(crate) struct AskStop {
    pub(crate) rig: RigId,
    pub(crate) dispatch: DispatchId,
}

/// The rig has taken the report of a dispatch.
pub(crate) struct Told {
    pub(crate) rig: RigId,
    pub(crate) dispatch: DispatchId,
}

/// How many reports has no rig taken yet?
pub(crate) struct Untold;

/// What a new life finds. Asked before [`Boot`], because the rigs have to know of the new life
/// before the first report.
pub(crate) struct Survey;

/// The answer to [`Survey`].
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Dispatches that are taken or over, and not yet told to their rigs.
    pub(crate) unreported: Vec<(RigId, DispatchId)>,
    /// Where the taken ones ran.
    pub(crate) places: Vec<Place>,
}

/// A new life begins: whatever was taken and is not over is lost.
pub(crate) struct Boot;

/// Whether a dispatch may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Run it; it is recorded.
    Fresh,
    /// It runs, or is over and will be reported: nothing to do.
    Known,
}

/// What asking for a stop found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// It is taken: end it.
    Runs,
    /// It is over, or refused for good just now; the report is on its way.
    Over,
}

impl Message for Take {
    type Reply = Taken;
}
impl Message for NoteSession {
    type Reply = ();
}
impl Message for Finish {
    type Reply = ();
}
impl Message for AskStop {
    type Reply = Stopping;
}
impl Message for Told {
    type Reply = ();
}
impl Message for Untold {
    type Reply = usize;
}
impl Message for Survey {
    type Reply = Found;
}
impl Message for Boot {
    type Reply = ();
}

fn key(rig: &RigId, dispatch: &DispatchId) -> String {
    format!("{ENTRY_PREFIX}{rig}/{}", dispatch.bead)
}

impl Ledger {
    fn put(&mut self, turn: &mut Turn<'_, LedgerEffect>, entry: Entry) {
        let key = key(&entry.rig, &entry.dispatch);
        turn.put(&key, &entry);
        self.entries.insert(key, entry);
    }

    fn end(&mut self, turn: &mut Turn<'_, LedgerEffect>, rig: RigId, report: Report) {
        let dispatch = report.dispatch.clone();
        turn.send(LedgerEffect {
            rig: rig.clone(),
            report: report.clone(),
        });
        let state = State::Over {
            report: Box::new(report),
            told: false,
        };
        self.put(
            turn,
            Entry {
                rig,
                dispatch,
                state,
            },
        );
    }

    fn entry(&self, rig: &RigId, dispatch: &DispatchId) -> Option<&Entry> {
        self.entries.get(&key(rig, dispatch))
    }
}

impl Object for Ledger {
    const NAMESPACE: &'static str = "container";
    type Env = ();
    type Effect = LedgerEffect;

    fn load(_id: &ObjectId, records: &Records<'_>, _env: &()) -> Result<Self, durable::Error> {
        Ok(Self {
            entries: records.all(ENTRY_PREFIX)?.into_iter().collect(),
        })
    }

    fn alarm(
        &mut self,
        _turn: &mut Turn<'_, LedgerEffect>,
        _alarm: durable::Alarm,
    ) -> Result<(), AlarmFailed> {
        // The ledger sets none: its outbox is repeated by the host.
        Ok(())
    }
}

impl Handle<Take> for Ledger {
    fn handle(&mut self, turn: &mut Turn<'_, LedgerEffect>, take: Take) -> Taken {
        if self
            .entry(&take.rig, &take.dispatch)
            .is_some_and(|e| e.dispatch.no >= take.dispatch.no)
        {
            return Taken::Known;
        }
        let Take { rig, dispatch } = take;
        self.put(
            turn,
            Entry {
                rig,
                dispatch,
                state: State::Taken {
                    session: None,
                    place: None,
                },
            },
        );
        Taken::Fresh
    }
}

impl Handle<NoteSession> for Ledger {
    fn handle(&mut self, turn: &mut Turn<'_, LedgerEffect>, note: NoteSession) {
        let NoteSession {
            rig,
            dispatch,
            session,
            place,
        } = note;
        let runs = self
            .entry(&rig, &dispatch)
            .is_some_and(|e| e.dispatch == dispatch && matches!(e.state, State::Taken { .. }));
        if runs {
            self.put(
                turn,
                Entry {
                    rig,
                    dispatch,
                    state: State::Taken {
                        session: Some(session),
                        place,
                    },
                },
            );
        }
    }
}

impl Handle<Finish> for Ledger {
    fn handle(&mut self, turn: &mut Turn<'_, LedgerEffect>, finish: Finish) {
        let Finish { rig, report } = finish;
        let runs = self.entry(&rig, &report.dispatch).is_some_and(|e| {
            e.dispatch == report.dispatch && matches!(e.state, State::Taken { .. })
        });
        if runs {
            self.end(turn, rig, report);
        }
    }
}

impl Handle<AskStop> for Ledger {
    fn handle(&mut self, turn: &mut Turn<'_, LedgerEffect>, ask: AskStop) -> Stopping {
        let AskStop { rig, dispatch } = ask;
        match self.entry(&rig, &dispatch).cloned() {
            Some(entry) if entry.dispatch == dispatch => match entry.state {
                State::Taken { .. } => Stopping::Runs,
                State::Over { report, told: true } => {
                    // It asks although it was told: tell it once more.
                    self.end(turn, rig, *report);
                    Stopping::Over
                }
                State::Over { told: false, .. } => Stopping::Over,
            },
            // A later dispatch was seen: this one is over by its own report.
            Some(entry) if entry.dispatch.no > dispatch.no => Stopping::Over,
            // Never seen: refused for good, durably, before the answer.
            _ => {
                self.end(turn, rig, over(dispatch, None, Outcome::NeverStarted));
                Stopping::Over
            }
        }
    }
}

impl Handle<Told> for Ledger {
    fn handle(&mut self, turn: &mut Turn<'_, LedgerEffect>, Told { rig, dispatch }: Told) {
        let Some(mut entry) = self.entry(&rig, &dispatch).cloned() else {
            return;
        };
        if let State::Over { told, .. } = &mut entry.state
            && entry.dispatch == dispatch
            && !*told
        {
            *told = true;
            self.put(turn, entry);
        }
    }
}

impl Handle<Survey> for Ledger {
    fn handle(&mut self, _turn: &mut Turn<'_, LedgerEffect>, _survey: Survey) -> Found {
        let mut found = Found::default();
        for entry in self.entries.values() {
            if entry.is_taken() || entry.is_untold() {
                let unreported = (entry.rig.clone(), entry.dispatch.clone());
                found.unreported.push(unreported);
            }
            if let State::Taken { place, .. } = &entry.state {
                found.places.extend(place.clone());
            }
        }
        found
    }
}

impl Handle<Boot> for Ledger {
    fn handle(&mut self, turn: &mut Turn<'_, LedgerEffect>, _boot: Boot) {
        let taken: Vec<Entry> = self
            .entries
            .values()
            .filter(|entry| entry.is_taken())
            .cloned()
            .collect();
        for Entry {
            rig,
            dispatch,
            state,
        } in taken
        {
            let State::Taken { session, .. } = state else {
                continue;
            };
            let text = "wellhead ended while this session ran";
            let failure = Failure::new(Class::Lost, Stage::Session, text);
            let work = Work::None;
            let outcome = Outcome::Failed { failure, work };
            self.end(turn, rig, over(dispatch, session, outcome));
        }
    }
}

impl Handle<Untold> for Ledger {
    fn handle(&mut self, _turn: &mut Turn<'_, LedgerEffect>, _untold: Untold) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.is_untold())
            .count()
    }
}

impl Entry {
    fn is_taken(&self) -> bool {
        matches!(self.state, State::Taken { .. })
    }

    fn is_untold(&self) -> bool {
        matches!(self.state, State::Over { told: false, .. })
    }
}

fn over(dispatch: DispatchId, session: Option<String>, outcome: Outcome) -> Report {
    Report {
        dispatch,
        outcome,
        session,
        output: false,
        usage: Usage::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use durable::{BoxFuture, Deliver, Envelope, Host, NotDelivered, Store};
    use rig::BeadId;
    use tokio::sync::mpsc;

    use super::*;

    /// Takes every report and passes it on.
    struct Post(mpsc::UnboundedSender<LedgerEffect>);

    impl Deliver<LedgerEffect> for Post {
        fn deliver(
            &self,
            envelope: Envelope<LedgerEffect>,
        ) -> BoxFuture<'static, Result<(), NotDelivered>> {
            self.0.send(envelope.effect).unwrap();
            Box::pin(std::future::ready(Ok(())))
        }
    }

    /// A9: whoever was at work when the process died is reported, with the session to go on with.
    #[tokio::test]
    async fn a_new_life_reports_what_was_taken_as_lost() {
        let host = Host::start(Store::memory().unwrap(), durable::Settings::default()).unwrap();
        let (post, mut mail) = mpsc::unbounded_channel();
        let ledgers = host.namespace::<Ledger>((), Arc::new(Post(post)));
        let ledger = ledgers.stub(&ObjectId::from_name("town").unwrap());
        let rig = RigId::new("rig").unwrap();
        let bead = BeadId::new("bead").unwrap();
        let dispatch = DispatchId { bead, no: 1 };
        let take = Take {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
        };
        assert_eq!(ledger.send(take).await.unwrap(), Taken::Fresh);
        let place = Place {
            boot_id: "boot".to_owned(),
            pid: 1,
            start_time: 2,
            port: 3,
            worktree: PathBuf::from("tree"),
        };
        let note = NoteSession {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
            session: "ses_1".to_owned(),
            place: Some(place.clone()),
        };
        ledger.send(note).await.unwrap();
        let found = ledger.send(Survey).await.unwrap();
        assert_eq!(found.unreported, [(rig, dispatch.clone())]);
        assert_eq!(found.places, [place]);
        ledger.send(Boot).await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(20), mail.recv()).await;
        let report = told.expect("a report").unwrap().report;
        assert_eq!(report.dispatch, dispatch);
        assert_eq!(report.session.as_deref(), Some("ses_1"));
        let is_lost = matches!(&report.outcome, Outcome::Failed { failure, .. }
            if failure.class == Class::Lost);
        assert!(is_lost, "{report:?}");
        host.stop().await;
    }
}
