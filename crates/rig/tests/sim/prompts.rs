//! What a simulated session does when it is told something more: after a turn, or while it stands
//! still.
//!
//! Owns that a prompt is heeded once. The rest of a session's life is in `container`.

use wellhead_rig::{DispatchId, TurnVerdict};

use super::{
    container::{Container, Key, Out, Pulse, Scene, Tick},
    plan::Act,
};

impl Container {
    /// The rig's verdict on a turn.
    pub(super) fn heed(
        &mut self,
        id: &DispatchId,
        turn: u32,
        verdict: &TurnVerdict,
        scene: &mut Scene<'_>,
    ) -> Vec<Out> {
        let Some(session) = self.sessions.get_mut(id).filter(|s| s.turn == turn) else {
            return Vec::new();
        };
        if matches!(verdict, TurnVerdict::End) {
            return self.complete(id, scene);
        }
        session.turn += 1;
        let mut out = Vec::new();
        if scene.rng.chance(400) {
            out = self.perform(id, Act::Commit, scene);
        }
        let key = Key::Turn(id.clone(), turn + 1);
        out.push(Out::Later(
            scene.rng.between(500, 30_000),
            Tick::Repeat(key, 0),
        ));
        out
    }

    /// A prompt for a session that stands still; some go on with it.
    pub(super) fn nudge(&mut self, id: &DispatchId, no: u32, scene: &mut Scene<'_>) -> Vec<Out> {
        let Some(session) = self.sessions.get_mut(id) else {
            return Vec::new();
        };
        if !session.heeded.insert(no) || scene.rng.chance(500) {
            return Vec::new();
        }
        session.pulse = Pulse::Moves;
        session.turn += 1;
        self.turn(id, 0)
    }
}
