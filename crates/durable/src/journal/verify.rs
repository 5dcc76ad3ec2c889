//! Looks at everything that a store holds and tells what is wrong with it. It changes nothing.

use super::replay::replay;
use super::{Journal, keys, record};
use crate::letters::Letters;
use crate::meta::Meta;
use crate::storage::{Entry, Order, Read};
use crate::{Error, ObjectId};

const PAGE: usize = 256;

/// What a look at the whole store has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records of objects.
    pub records: u64,
    /// Objects with anything stored.
    pub objects: u64,
    /// Effects that no receiver has accepted yet.
    pub effects: u64,
    /// Effects that were refused for good too often, and are kept.
    pub dead_letters: u64,
    /// Alarms that are set.
    pub alarms: u64,
    /// The number of the last durable commit.
    pub last_seq: u64,
    /// What is damaged, with the object it belongs to. Empty in a sound store.
    pub damage: Vec<Error>,
}

impl Journal {
    /// Reads every key once. The store must not be running.
    pub(crate) fn verify(&self) -> Result<Verified, Error> {
        let mut found = Verified {
            last_seq: *self.last.borrow(),
            ..Verified::default()
        };
        self.verify_tail(&mut found)?;
        self.walk(b"r/", |key, value| found.record(key, value))?;
        self.walk(b"o/", |key, value| found.effect(key, value))?;
        self.walk(keys::TRIES, |key, value| found.sealed(key, value))?;
        self.verify_letters(&mut found)?;
        let mut alarms = Vec::new();
        self.walk(b"m/", |key, value| found.meta(key, value, &mut alarms))?;
        for key in alarms {
            if self.get(&key)?.is_none() {
                found.damaged(&key, "an alarm is set that the index does not have");
            }
        }
        let mut entries = Vec::new();
        self.walk(keys::ALARMS, |key, _| entries.push(key.to_vec()))?;
        for key in entries {
            self.verify_alarm(&mut found, &key)?;
        }
        for owner in self.damaged.keys() {
            found
                .damage
                .extend(self.check(&keys::record_of(owner)).err());
        }
        Ok(found)
    }

    /// Checkpoint and journal, read again, have to give what readers see.
    fn verify_tail(&self, found: &mut Verified) -> Result<(), Error> {
        let again = replay(&*self.base)?;
        if again.last != found.last_seq {
            found.damaged(
                keys::JOURNAL,
                "the journal has another end than the view of it",
            );
        }
        again.overlay.each(|key, value| {
            let seen = self.overlay.get(&*self.base, key);
            if seen.is_ok_and(|seen| seen.as_ref() != value.as_ref()) {
                found.damaged(key, "the journal has another value than the view of it");
            }
        });
        Ok(())
    }

    /// An object's list comes right before its letters, and says which they are.
    fn verify_letters(&self, found: &mut Verified) -> Result<(), Error> {
        let (mut list_key, mut listed) = (Vec::new(), Vec::new());
        self.walk(keys::LETTERS, |key, value| {
            let list = letter_list(key);
            if list != list_key {
                found.missing_letters(&list_key, &listed);
                (list_key, listed) = (list.to_vec(), Vec::new());
            }
            if key == list {
                match record::open_json::<Letters>(&owner(key), key, value) {
                    Ok(letters) => listed = letters.numbers().to_vec(),
                    Err(error) => found.damage.push(error),
                }
                return;
            }
            found.dead_letters += 1;
            found.sealed(key, value);
            let seq = keys::effect_seq(key);
            let before = listed.len();
            listed.retain(|number| Some(*number) != seq);
            if listed.len() == before {
                found.damaged(key, "a dead letter that is not on the list of its object");
            }
        })?;
        found.missing_letters(&list_key, &listed);
        Ok(())
    }

    fn verify_alarm(&self, found: &mut Verified, key: &[u8]) -> Result<(), Error> {
        found.alarms += 1;
        let Some((at, namespace, id)) = keys::alarm_parts(key) else {
            found.damaged(key, "no key of an alarm");
            return Ok(());
        };
        let meta = keys::ObjectKeys::new(namespace, &id).meta();
        let set = match self.overlay.get(&*self.base, &meta)? {
            // A damaged record has been told of already.
            Some(value) => record::open_json::<Meta>(id.as_str(), &meta, &value)
                .map_or(Some(at), |meta| meta.alarm.map(|alarm| alarm.fire_at)),
            None => None,
        };
        if set != Some(at) {
            found.damaged(key, "the index has an alarm that is not set");
        }
        Ok(())
    }

    fn walk(&self, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let (mut start, end) = (prefix.to_vec(), keys::end_of(prefix));
        loop {
            let page: Vec<Entry> =
                self.overlay
                    .scan(&*self.base, (&start, &end), Order::Ascending, PAGE)?;
            for (key, value) in &page {
                each(key, value);
            }
            match page.into_iter().nth(PAGE - 1) {
                Some((key, _)) => start = record::after(key),
                None => return Ok(()),
            }
        }
    }
}

impl Verified {
    fn record(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.sealed(key, value);
    }

    fn effect(&mut self, key: &[u8], value: &[u8]) {
        self.effects += 1;
        self.sealed(key, value);
    }

    fn sealed(&mut self, key: &[u8], value: &[u8]) {
        self.damage
            .extend(record::open(&owner(key), key, value).err());
    }

    fn meta(&mut self, key: &[u8], value: &[u8], alarms: &mut Vec<Vec<u8>>) {
        self.objects += 1;
        let object = owner(key);
        match record::open_json::<Meta>(&object, key, value) {
            Ok(meta) => {
                let keys = object_keys(key);
                alarms.extend(keys.zip(meta.alarm).map(|(keys, a)| keys.alarm(a.fire_at)));
            }
            Err(error) => self.damage.push(error),
        }
    }

    fn missing_letters(&mut self, list: &[u8], missing: &[u64]) {
        if !missing.is_empty() {
            self.damaged(list, "dead letters are listed that are not there");
        }
    }

    fn damaged(&mut self, key: &[u8], reason: &str) {
        self.damage.push(Error::Corrupt {
            object: owner(key),
            key: record::printable(key),
            reason: reason.to_owned(),
        });
    }
}

fn object_keys(key: &[u8]) -> Option<keys::ObjectKeys> {
    let owner = std::str::from_utf8(keys::owner(key)?).ok()?;
    let (namespace, id) = owner.split_once('\0')?;
    Some(keys::ObjectKeys::new(
        namespace,
        &ObjectId::from_name(id).ok()?,
    ))
}

/// The key of the list that a key below the dead letters belongs to.
fn letter_list(key: &[u8]) -> &[u8] {
    let owner = keys::owner(key).unwrap_or_default();
    key.get(..keys::LETTERS.len() + owner.len())
        .unwrap_or_default()
}

fn owner(key: &[u8]) -> String {
    let owner = keys::owner(key).unwrap_or_default();
    keys::id_of(owner)
}
