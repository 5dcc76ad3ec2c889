//! Takes known secrets, bearer values and URL passwords out of a text before it leaves this crate.
//!
//! It must not know where a text comes from: a child's output, an answer's body and an error all
//! pass through the same function.

use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;

/// What stands where a secret stood.
pub(crate) const MASK: &str = "[redacted]";

/// A shorter secret would tear holes into ordinary words.
const SECRET_BYTES_MIN: usize = 4;

/// A set of secrets to take out of texts. Cheap to clone; its `Debug` shows only their number.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Arc<[SecretString]>,
}

impl Redactor {
    /// Knows these secrets; without any it still masks bearer values and URL passwords.
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        Self {
            secrets: secrets.into_iter().collect(),
        }
    }

    /// The same set and one more.
    pub fn with(&self, secret: SecretString) -> Self {
        Self::new(self.secrets.iter().cloned().chain([secret]))
    }

    /// The text without secrets. Call it before cutting a text: half a secret is not recognised.
    pub fn clean(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for secret in self.secrets.iter() {
            let secret = secret.expose_secret();
            if secret.len() >= SECRET_BYTES_MIN && out.contains(secret) {
                out = out.replace(secret, MASK);
            }
        }
        mask_userinfo(&mask_schemes(&out))
    }

    /// [`Redactor::clean`], then cut to this many characters.
    pub fn clean_cut(&self, text: &str, chars_max: usize) -> String {
        cut(&self.clean(text), chars_max)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

/// The first `chars_max` characters; an ellipsis shows that more was there.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// Masks what follows `Bearer ` and `Basic `, in any case.
fn mask_schemes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, len)) = next_scheme(rest) {
        let (head, tail) = rest.split_at(at + len);
        out.push_str(head);
        let end = tail.find(ends_token).unwrap_or(tail.len());
        // Short words after "basic" are prose, not credentials.
        if end >= 8 {
            out.push_str(MASK);
        } else {
            out.push_str(tail.get(..end).unwrap_or_default());
        }
        rest = tail.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn next_scheme(text: &str) -> Option<(usize, usize)> {
    // ASCII lower-casing keeps every byte offset.
    let lower = text.to_ascii_lowercase();
    ["bearer ", "basic "]
        .iter()
        .filter_map(|word| lower.find(word).map(|at| (at, word.len())))
        .min()
}

fn ends_token(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '}' | ')')
}

/// Masks `user:password` in `scheme://user:password@host`.
fn mask_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail
            .find(|c: char| ends_token(c) || matches!(c, '/' | '?'))
            .unwrap_or(tail.len());
        let (authority, after) = tail.split_at(end);
        match authority.rfind('@') {
            Some(sign) => {
                out.push_str(MASK);
                out.push_str(authority.get(sign..).unwrap_or_default());
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_secrets_bearers_and_url_passwords_go() {
        let redactor = Redactor::new([SecretString::from("canary-1234")]);
        let text = "x canary-1234 y, Authorization: Bearer abcdefghijk \"https://u:p4ss@host/p\"";
        let clean = redactor.clean(text);
        for leak in ["canary", "abcdefghijk", "p4ss"] {
            assert!(!clean.contains(leak), "{leak} in {clean}");
        }
        assert!(clean.contains("host/p"), "{clean}");
    }

    #[test]
    fn prose_stays() {
        let text = "a basic idea: the bearer of news, see http://127.0.0.1:1/x";
        assert_eq!(Redactor::default().clean(text), text);
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
