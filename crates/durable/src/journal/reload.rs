//! The way back after a write that failed for want of room: the storage is opened again in its
//! place, and what it holds is read again. Readers go on; for a moment they wait.

use std::sync::Arc;

use super::Writer;
use super::replay::replay;
use crate::Error;

impl Writer {
    /// Opens the storage again and reads its journal: what had an unknown outcome is then wholly
    /// there or wholly not.
    ///
    /// # Errors
    /// `Storage` if it could not be opened, which may be tried again; `Missing` and `Corrupt` if
    /// it has lost what was durable.
    pub(crate) fn reload(&mut self) -> Result<(), Error> {
        let journal = Arc::clone(&self.journal);
        let base = &*journal.base;
        let found = journal.overlay.replace(|| {
            base.reopen()?;
            let mut found = replay(base)?;
            if let Some(mark) = &self.mark {
                mark.check(found.last)?;
            }
            let overlay = std::mem::take(&mut found.overlay);
            Ok((overlay, found))
        })?;
        if found.damaged.len() != journal.damaged.len() {
            return Err(Error::Corrupt {
                object: String::new(),
                key: "j/".to_owned(),
                reason: "a commit was damaged while the disk was full".to_owned(),
            });
        }
        self.tail = found.tail;
        self.last = found.last;
        journal.last.send_replace(self.last);
        Ok(())
    }
}
