//! The host's side of projections: registering them and reading their rows.
//!
//! Rows are read through the journal like everything else, so what is read is durable.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;

use super::core::Core;
use super::handle::Host;
use crate::projection::{Projection, Runner};
use crate::storage::{Order, Read};
use crate::{Error, keys, record};

/// The rows of a registered projection. Cheap to clone.
pub struct View<P> {
    core: Arc<Core>,
    stale: Arc<OnceLock<String>>,
    projection: PhantomData<fn() -> P>,
}

impl Host {
    /// Registers a projection and waits until its rows hold every commit. Commits wait while
    /// rows are made anew. One that has stopped is started again by registering it again.
    ///
    /// # Errors
    /// `BadId` for a name with NUL; `Storage` and `Corrupt` from the store, `Stopped`,
    /// `OutcomeUnknown` after a failed commit, `Stale` if the fold fails on what is stored.
    pub async fn project<P: Projection>(&self, projection: P) -> Result<View<P>, Error> {
        if !keys::is_namespace(P::NAME) {
            let namespace = P::NAME.to_owned();
            return Err(Error::NamespaceTaken { namespace });
        }
        let core = Arc::clone(self.core());
        let stale = Arc::default();
        let runner = Runner::new(projection, Arc::clone(&stale));
        core.check()?;
        core.committer.project(runner).await?;
        let view = View {
            core,
            stale,
            projection: PhantomData,
        };
        view.check().map(|()| view)
    }
}

impl<P: Projection> View<P> {
    /// Why the projection has stopped, if it has. Its rows are void then.
    pub fn stale(&self) -> Option<&str> {
        self.stale.get().map(String::as_str)
    }

    fn check(&self) -> Result<(), Error> {
        match self.stale() {
            None => Ok(()),
            Some(reason) => Err(Error::Stale {
                projection: P::NAME.to_owned(),
                reason: reason.to_owned(),
            }),
        }
    }

    /// The row under that key.
    ///
    /// # Errors
    /// `Stale`; otherwise as for `Stub::get`.
    pub async fn get<T>(&self, key: &str) -> Result<Option<T>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.check()?;
        let key = keys::row(P::NAME, key);
        let read = move |view: &dyn Read| {
            let value = view.get(&key)?;
            let decode = |value: Vec<u8>| record::open_json("", &key, &value);
            value.map(decode).transpose()
        };
        self.core.read(read).await
    }

    /// At most `limit` rows whose keys begin with `prefix`. `from` is where the scan begins,
    /// inclusive, in the direction of `order`.
    ///
    /// # Errors
    /// As for `get`.
    pub async fn scan<T>(
        &self,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, T)>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.check()?;
        let all = keys::row(P::NAME, "").len();
        let whole = keys::row(P::NAME, prefix);
        let from = from.map(|from| keys::row(P::NAME, from));
        let read = move |view: &dyn Read| {
            let (start, end) = record::range(whole, from, order);
            let page = view.scan(&start, &end, order, limit)?;
            let decode = |(key, value): (Vec<u8>, Vec<u8>)| {
                let name = String::from_utf8_lossy(key.get(all..).unwrap_or_default());
                let row = record::open_json("", &key, &value)?;
                Ok((name.into_owned(), row))
            };
            page.into_iter().map(decode).collect()
        };
        self.core.read(read).await
    }
}

impl<P> Clone for View<P> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            stale: Arc::clone(&self.stale),
            projection: PhantomData,
        }
    }
}

impl<P: Projection> fmt::Debug for View<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({:?})", P::NAME)
    }
}
