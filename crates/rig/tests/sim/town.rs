//! What a simulated town says: refusals of every kind, offers after them, and notices.
//!
//! Owns that a notice has one number and is repeated until it is acknowledged. What a refusal does
//! to its dispatch is in `container`.

use wellhead_rig::{
    Class, Failure, Input, Limit, Notice, Preflight, Refusal, RigConfig, Scope, Stage, Timestamp,
    Who,
};

use super::{
    container::{Container, Key, Out, Scene, Tick},
    words::checked,
};

const MINUTE_MS: i64 = 60_000;

impl Container {
    /// Why not, until when, and what follows from it later.
    pub(super) fn refuse(&mut self, scene: &mut Scene<'_>) -> (Refusal, Timestamp, Vec<Out>) {
        // A word that is late, short, long, and longer than any rig believes.
        let longest = scene
            .rng
            .pick(&[60_000, 60_000, 30 * MINUTE_MS, 3_000 * MINUTE_MS])
            .unwrap_or(60_000);
        let wait_ms = scene.rng.between(-5_000, longest);
        let until = scene.wall.plus_ms(wait_ms);
        let refusal = any_refusal(scene);
        let mut out = Vec::new();
        if scene.rng.chance(500) {
            let after = scene.rng.between(10, wait_ms.max(1_000));
            out.push(Out::Later(after, Tick::Offer));
        }
        if scene.rng.chance(300) {
            let (now, later) = notices_of(&refusal, until);
            let after = scene.rng.between(1_000, 60 * MINUTE_MS);
            for (after, notice) in now
                .map(|n| (1, n))
                .into_iter()
                .chain(later.map(|n| (after, n)))
            {
                out.push(self.note_down(after, notice));
            }
        }
        (refusal, until, out)
    }

    fn note_down(&mut self, after: i64, notice: Notice) -> Out {
        self.notice_no += 1;
        let no = self.notice_no;
        self.notices.insert(no, notice);
        Out::Later(after, Tick::Repeat(Key::Notice(no), 0))
    }

    /// A notice, now and again until it is acknowledged.
    pub(super) fn notify(&self, no: u64, tries: u32) -> Vec<Out> {
        let Some(notice) = self.notices.get(&no).cloned() else {
            return Vec::new();
        };
        let again = Tick::Repeat(Key::Notice(no), tries + 1);
        vec![
            Out::Report(Key::Notice(no), Input::Noticed { no, notice }),
            Out::Later(2_000_i64 << tries.min(7), again),
        ]
    }

    /// The rig's checks, unless the town holds them back.
    pub(super) fn preflight(
        &mut self,
        no: u64,
        config: &RigConfig,
        scene: &mut Scene<'_>,
    ) -> Vec<Out> {
        let (result, mut out) = if scene.rng.chance(scene.weather.refuses / 2) {
            let (refusal, until, out) = self.refuse(scene);
            (Preflight::Held { refusal, until }, out)
        } else {
            (checked(config, scene), Vec::new())
        };
        let input = Input::PreflightDone { no, result };
        out.push(Out::Report(Key::Preflight(no), input));
        out
    }
}

fn any_refusal(scene: &mut Scene<'_>) -> Refusal {
    let scope = any_scope(scene);
    let class = match scope {
        Scope::Credential { .. } => Class::RateLimited,
        Scope::Gateway { .. } => Class::Gateway,
        Scope::Model { .. } => Class::ModelNotFound,
        Scope::Container => Class::KiloMissing,
    };
    let limit = Limit {
        usd: Some(1.0),
        tokens: None,
    };
    match scene.rng.below(5) {
        0 => Refusal::Breaker {
            scope,
            class,
            text: "shut in the simulation".to_owned(),
        },
        1 => Refusal::Probing { scope, class },
        2 => Refusal::Budget { limit },
        3 => Refusal::Paused {
            by: Who::named("somebody"),
        },
        _ => Refusal::Full { slots: 1 },
    }
}

fn any_scope(scene: &mut Scene<'_>) -> Scope {
    let (origin, model) = ("gateway".to_owned(), "model".to_owned());
    let id = format!("credential-{}", scene.rng.below(3));
    let all = [
        Scope::Credential { id },
        Scope::Gateway {
            origin: origin.clone(),
        },
        Scope::Model { origin, model },
        Scope::Container,
    ];
    scene.rng.pick(&all).unwrap_or(Scope::Container)
}

/// What people are told when it begins, and when it is over.
fn notices_of(refusal: &Refusal, until: Timestamp) -> (Option<Notice>, Option<Notice>) {
    match refusal {
        Refusal::Breaker { scope, class, text } => {
            let failure = Failure::new(*class, Stage::Turn, text.clone());
            let tripped = Notice::Tripped {
                scope: scope.clone(),
                failure,
                next_probe_at: until,
            };
            let scope = scope.clone();
            (Some(tripped), Some(Notice::Closed { scope }))
        }
        Refusal::Budget { limit } => {
            let limit = *limit;
            (
                Some(Notice::BudgetStopped { limit }),
                Some(Notice::BudgetFree),
            )
        }
        Refusal::Full { .. } => {
            let limit = Limit::default();
            (Some(Notice::BudgetWarned { limit }), None)
        }
        Refusal::Probing { .. } | Refusal::Paused { .. } => (None, None),
    }
}
