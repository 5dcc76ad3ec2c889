//! What the tests of dead letters share: a world with few tries, and looks at what became of them.

use durable::storage::Read as _;
use durable::{DeadLetter, Order, Settings};

use super::{Add, Gated, World, soon, until};

/// The longest pause between two tries.
pub const PAUSE: i64 = 300_000;

pub fn world(tries_max: u32) -> World {
    World::with(Gated::new(), |settings| tries(settings, tries_max))
}

pub fn tries(settings: Settings, max: u32) -> Settings {
    Settings {
        poison_tries_max: max,
        ..settings
    }
}

/// Waits for that many attempts in all, and until the object has taken note of them.
pub async fn attempts(world: &World, name: &str, from: usize, to: usize) {
    for attempt in from..=to {
        world.settled(name, attempt).await;
        if attempt < to {
            world.clock.advance(PAUSE);
        }
    }
}

/// What the object was told so far, once it is that much.
pub async fn told(world: &World, count: usize) -> Vec<DeadLetter<u64>> {
    until(&world.lab.letters, |told| told.len() >= count).await
}

/// What is on disk, behind everything that the object has written.
pub async fn letters(world: &World, name: &str) -> Vec<DeadLetter<u64>> {
    let _ = soon(world.cell(name).send(Add(0))).await;
    soon(world.cell(name).dead_letters()).await.unwrap()
}

pub fn numbers(letters: &[DeadLetter<u64>]) -> Vec<u64> {
    letters.iter().map(|letter| letter.seq).collect()
}

/// Keys of a space in a store whose host has ended.
pub fn keys(world: &World, space: &str) -> Vec<String> {
    let end = [space.as_bytes(), &[u8::MAX]].concat();
    let found = world
        .storage
        .scan(space.as_bytes(), &end, Order::Ascending, 999);
    let found = found.unwrap().into_iter();
    found
        .map(|(key, _)| String::from_utf8_lossy(&key).into_owned())
        .collect()
}

/// Another life on the same store and clock.
pub async fn again(world: World, tries_max: u32) -> World {
    soon(world.host.stop()).await;
    World::at(world.storage, world.clock, |settings| {
        tries(settings, tries_max)
    })
}
