//! Browser sessions, and the one-time key that opens the first one.
//!
//! Owns their lives and their bounds. Only hashes are kept, in memory alone: a restart ends every
//! session, and the start prints a fresh key.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    keys::Hash,
    secret_file::{SecretError, fresh_secret},
};

/// How long a session lives.
pub(crate) const SESSION_LIFE: Duration = Duration::from_hours(12);
/// How long a one-time key waits for its use.
const KEY_LIFE: Duration = Duration::from_mins(5);
/// Sessions at one time; the oldest one ends for a new one.
const SESSIONS_MAX: usize = 64;

struct Timed {
    hash: Hash,
    ends: Instant,
}

#[derive(Default)]
struct Inner {
    sessions: VecDeque<Timed>,
    key: Option<Timed>,
}

/// All sessions of one facade.
pub(crate) struct Sessions {
    cookie: String,
    inner: Mutex<Inner>,
}

impl Sessions {
    /// None yet. Cookies are not told apart by port, so the port is in the cookie's name: two
    /// servers on one machine do not sign each other out.
    pub(crate) fn new(port: u16) -> Self {
        Self {
            cookie: format!("wellhead_{port}"),
            inner: Mutex::default(),
        }
    }

    /// The cookie's name.
    pub(crate) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// A fresh one-time key, in place of the one before.
    pub(crate) fn new_key(&self, now: Instant) -> Result<SecretString, SecretError> {
        let key = fresh_secret()?;
        let hash = Hash::of(key.expose_secret());
        self.with(|inner| {
            inner.key = Some(Timed {
                hash,
                ends: now + KEY_LIFE,
            });
        });
        Ok(key)
    }

    /// Whether `key` is the one-time key. It is none afterwards.
    pub(crate) fn take_key(&self, key: &str, now: Instant) -> bool {
        let hash = Hash::of(key);
        self.with(|inner| {
            let good = inner
                .key
                .as_ref()
                .is_some_and(|known| bool::from(known.hash.ct_eq(&hash)) && now < known.ends);
            if good {
                inner.key = None;
            }
            good
        })
    }

    /// Begins a session and gives its id, which is kept nowhere.
    pub(crate) fn begin(&self, now: Instant) -> Result<SecretString, SecretError> {
        let id = fresh_secret()?;
        let hash = Hash::of(id.expose_secret());
        self.with(|inner| {
            inner.sessions.retain(|session| now < session.ends);
            if inner.sessions.len() >= SESSIONS_MAX {
                inner.sessions.pop_front();
            }
            inner.sessions.push_back(Timed {
                hash,
                ends: now + SESSION_LIFE,
            });
        });
        Ok(id)
    }

    /// Whether a session with that id lives.
    pub(crate) fn knows(&self, id: &str, now: Instant) -> bool {
        let hash = Hash::of(id);
        self.with(|inner| {
            let mut found = false;
            // All are compared: the time says nothing about which one it was.
            for session in &inner.sessions {
                found |= bool::from(session.hash.ct_eq(&hash)) && now < session.ends;
            }
            found
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> R {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_once_and_not_after_five_minutes() {
        let (sessions, now) = (Sessions::new(1), Instant::now());
        let key = sessions.new_key(now).unwrap();
        assert!(!sessions.take_key("", now));
        assert!(
            !sessions.take_key("wrong", now),
            "a wrong key does not use it up"
        );
        assert!(sessions.take_key(key.expose_secret(), now));
        assert!(!sessions.take_key(key.expose_secret(), now));
        let late = sessions.new_key(now).unwrap();
        assert!(!sessions.take_key(late.expose_secret(), now + KEY_LIFE));
        let first = sessions.new_key(now).unwrap();
        let second = sessions.new_key(now).unwrap();
        assert!(!sessions.take_key(first.expose_secret(), now), "replaced");
        assert!(sessions.take_key(second.expose_secret(), now));
    }

    #[test]
    fn sessions_end_by_time_and_by_number() {
        let (sessions, now) = (Sessions::new(1), Instant::now());
        let first = sessions.begin(now).unwrap();
        assert!(sessions.knows(first.expose_secret(), now));
        assert!(!sessions.knows(first.expose_secret(), now + SESSION_LIFE));
        let mut last = first.clone();
        for _ in 0..SESSIONS_MAX {
            last = sessions.begin(now).unwrap();
        }
        assert!(
            !sessions.knows(first.expose_secret(), now),
            "the oldest made room"
        );
        assert!(sessions.knows(last.expose_secret(), now));
    }
}
