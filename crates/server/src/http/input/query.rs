//! The parameters of a query string.
//!
//! Owns paging. Parameters that nobody asks for are ignored; of a repeated one the first counts.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::failure::{Failure, Issue};

/// The most that one page holds; more is served as this.
pub(crate) const LIMIT_MAX: usize = 1_000;

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: usize,
    pub(crate) offset: usize,
}

impl Page {
    /// That part of a sequence.
    pub(crate) fn of<T>(self, items: impl Iterator<Item = T>) -> Vec<T> {
        items.skip(self.offset).take(self.limit).collect()
    }
}

/// The parameters of one request.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    issues: Vec<Issue>,
    bad_page: bool,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = url::form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect();
        Self {
            pairs,
            issues: Vec::new(),
            bad_page: false,
        }
    }

    /// Notes what is wrong with a parameter.
    pub(crate) fn issue(&mut self, name: &str, message: impl Into<String>) {
        self.issues.push(Issue::new(name, message));
    }

    /// A parameter as it came.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }

    /// One word of an enumeration; `words` lists them for the message.
    pub(crate) fn word<T: DeserializeOwned>(&mut self, name: &str, words: &str) -> Option<T> {
        let text = self.text(name)?;
        let word = serde_json::from_value(Value::String(text)).ok();
        if word.is_none() {
            self.issue(name, format!("must be one of {words}"));
        }
        word
    }

    /// A non-negative number; too large ones are the largest.
    pub(crate) fn number(&mut self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        let number = digits(&text);
        if number.is_none() {
            self.issue(name, "must be a non-negative integer");
        }
        number
    }

    /// `limit` and `offset`.
    pub(crate) fn page(&mut self, default_limit: usize) -> Page {
        let mut part = |name, default: usize| match self.text(name) {
            None => default,
            Some(text) => digits(&text).map_or_else(
                || {
                    self.bad_page = true;
                    self.issue(name, "must be a non-negative integer");
                    default
                },
                |number| usize::try_from(number).unwrap_or(usize::MAX),
            ),
        };
        let (limit, offset) = (part("limit", default_limit), part("offset", 0));
        Page {
            limit: limit.min(LIMIT_MAX),
            offset,
        }
    }

    /// 400 with everything that was wrong.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match (self.bad_page, self.issues.is_empty()) {
            (_, true) => Ok(()),
            (true, false) => Err(Failure::query(
                "limit and offset must be non-negative integers",
                self.issues,
            )),
            (false, false) => Err(Failure::query("Invalid query", self.issues)),
        }
    }
}

/// Digits alone: no sign, no exponent. What does not fit is the largest number.
fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Result<Page, String> {
        let mut query = Query::parse(text);
        let page = query.page(100);
        query
            .finish()
            .map(|()| page)
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_page_has_defaults_and_a_largest_size() {
        assert_eq!(
            page(""),
            Ok(Page {
                limit: 100,
                offset: 0
            })
        );
        assert_eq!(
            page("limit=0&offset=7"),
            Ok(Page {
                limit: 0,
                offset: 7
            })
        );
        assert_eq!(
            page("limit=5000"),
            Ok(Page {
                limit: 1_000,
                offset: 0
            })
        );
        let huge = "9".repeat(40);
        assert_eq!(
            page(&format!("limit={huge}")),
            Ok(Page {
                limit: 1_000,
                offset: 0
            })
        );
        for bad in [
            "limit=abc",
            "limit=-1",
            "offset=-1",
            "limit=1.5",
            "limit=",
            "limit=1e3",
            "limit=+1",
            "limit=%31x",
        ] {
            assert_eq!(
                page(bad),
                Err("limit and offset must be non-negative integers".to_owned()),
                "{bad}"
            );
        }
    }

    #[test]
    fn unknown_words_are_refused() {
        let mut query = Query::parse("status=open&type=nope&type=issue");
        assert_eq!(
            query.word::<rig::Status>("status", "…"),
            Some(rig::Status::Open)
        );
        assert_eq!(query.word::<rig::BeadType>("type", "…"), None);
        assert!(query.finish().is_err());
    }
}
