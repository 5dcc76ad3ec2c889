//! How simulated sessions end: completed, failed, or with the container that ran them.
//!
//! Owns that an end is written down before it is said. The sessions' lives are in `container`.

use wellhead_rig::{Class, DispatchId, Failure, Input, Outcome, Report, Stage, Work};

use super::{
    container::{Container, Key, Out, Scene, Start, Tick},
    plan,
    words::{incarnation, report},
};

impl Container {
    pub(super) fn complete(&mut self, id: &DispatchId, scene: &mut Scene<'_>) -> Vec<Out> {
        let Some(session) = self.sessions.get(id) else {
            return Vec::new();
        };
        if !session.output {
            return self.fail(id, Class::EndedEmpty, scene);
        }
        let work = self.work_of(id, &session.work);
        let text = Some("done".to_owned());
        self.over(id, Outcome::Completed { work, text })
    }

    pub(super) fn fail(
        &mut self,
        id: &DispatchId,
        class: Class,
        scene: &mut Scene<'_>,
    ) -> Vec<Out> {
        let Some(session) = self.sessions.get(id) else {
            return Vec::new();
        };
        let work = self.work_of(id, &session.work);
        let stage = if session.start == Start::Pending {
            Stage::Session
        } else {
            Stage::Turn
        };
        let failure = plan::failure(scene.rng, class, stage);
        self.over(id, Outcome::Failed { failure, work })
    }

    /// The session is proven over, and that is written down before it is said.
    fn over(&mut self, id: &DispatchId, outcome: Outcome) -> Vec<Out> {
        self.write_over(id, outcome);
        self.report_over(id, 0)
    }

    fn write_over(&mut self, id: &DispatchId, outcome: Outcome) {
        let session = self.sessions.remove(id);
        if let Some(record) = self.records.get_mut(id) {
            let session = session.as_ref();
            record.over = Some(Report {
                session: session
                    .filter(|s| s.start != Start::Pending)
                    .map(|s| s.name.clone()),
                output: session.is_some_and(|s| s.output),
                usage: session.map(|s| s.usage).unwrap_or_default(),
                ..report(id, outcome)
            });
        }
    }

    /// The container dies, or (`adopts`) its keeper alone does and finds the sessions alive.
    pub(crate) fn crash(&mut self, adopts: bool) -> Vec<Out> {
        self.incarnation_no += 1;
        self.boot_heard = false;
        if adopts {
            self.adopted += u64::from(!self.sessions.is_empty());
            return self.boot(0);
        }
        self.life += 1;
        let running = self.records.iter().filter(|(_, r)| r.over.is_none());
        let running: Vec<_> = running.map(|(id, _)| id.clone()).collect();
        for id in &running {
            let fresh = self.sessions.get(id).map(|s| s.work.clone());
            let work = self.work_of(id, &fresh.unwrap_or(Work::None));
            let failure = Failure::new(Class::Lost, Stage::Turn, "container lost");
            self.write_over(id, Outcome::Failed { failure, work });
        }
        let mut out = self.boot(0);
        for id in &running {
            out.extend(self.report_over(id, 0));
        }
        out
    }

    pub(super) fn boot(&self, tries: u32) -> Vec<Out> {
        let unreported = self.records.iter();
        let unreported = unreported.filter(|(_, r)| r.over.is_some() && !r.acknowledged);
        let key = Key::Boot(self.incarnation_no);
        let again = Tick::Repeat(key.clone(), tries + 1);
        let started = Input::ContainerStarted {
            incarnation: incarnation(self.incarnation_no),
            live: self.sessions.keys().cloned().collect(),
            unreported: unreported.map(|(id, _)| id.clone()).collect(),
        };
        vec![
            Out::Report(key, started),
            Out::Later(1_000_i64 << tries.min(6), again),
        ]
    }
}
