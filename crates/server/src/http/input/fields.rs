//! The fields of a body, taken one by one; what is wrong is collected and told at the end.
//!
//! Owns the rules for texts, words, amounts and maps. An absent field and `null` are the same; fields that
//! nobody asks for are ignored.

use rig::Limit;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::http::failure::{Failure, Issue};

/// The fields of one body.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    issues: Vec<Issue>,
}

impl Fields {
    pub(crate) fn new(map: Map<String, Value>) -> Self {
        Self {
            map,
            issues: Vec::new(),
        }
    }

    /// Notes what is wrong with a field.
    pub(crate) fn issue(&mut self, name: &str, message: impl Into<String>) {
        self.issues.push(Issue::new(name, message));
    }

    /// Whether the field is there, be it `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A field as it came, unless it is `null`.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        if let Value::String(text) = self.take(name)? {
            return Some(text);
        }
        self.issue(name, "must be a string");
        None
    }

    /// A text of 1 to `max` characters, without the white space around it.
    pub(crate) fn text(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.take_text(name)?;
        let text = text.trim();
        if text.is_empty() || text.chars().count() > max {
            self.issue(name, format!("must be 1 to {max} characters"));
            return None;
        }
        Some(text.to_owned())
    }

    /// The same for a field that has to be there. Empty only after an issue was noted.
    pub(crate) fn required_text(&mut self, name: &str, max: usize) -> String {
        let known = self.issues.len();
        let text = self.text(name, max);
        if text.is_none() && self.issues.len() == known {
            self.issue(name, "is required");
        }
        text.unwrap_or_default()
    }

    /// A text of at most `max` bytes, kept as it came.
    pub(crate) fn long_text(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.take_text(name)?;
        if text.len() > max {
            self.issue(name, format!("must be at most {max} bytes"));
            return None;
        }
        Some(text)
    }

    /// One word of an enumeration; `words` lists them for the message.
    pub(crate) fn word<T: DeserializeOwned>(&mut self, name: &str, words: &str) -> Option<T> {
        let value = self.take(name)?;
        let word = value
            .is_string()
            .then(|| serde_json::from_value(value).ok())
            .flatten();
        if word.is_none() {
            self.issue(name, format!("must be one of {words}"));
        }
        word
    }

    /// The same for a field that has to be there; `None` only after an issue was noted.
    pub(crate) fn required_word<T: DeserializeOwned>(
        &mut self,
        name: &str,
        words: &str,
    ) -> Option<T> {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.issue(name, format!("is required: one of {words}"));
            return None;
        }
        self.word(name, words)
    }

    /// An object; empty when it is absent.
    pub(crate) fn object(&mut self, name: &str) -> Map<String, Value> {
        match self.take(name) {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(_) => {
                self.issue(name, "must be an object");
                Map::new()
            }
        }
    }

    /// A list of at most `items` texts of 1 to `max` characters.
    pub(crate) fn texts(&mut self, name: &str, items: usize, max: usize) -> Vec<String> {
        let Some(value) = self.take(name) else {
            return Vec::new();
        };
        let texts = serde_json::from_value::<Vec<String>>(value)
            .ok()
            .filter(|texts| {
                let fits = |text: &String| (1..=max).contains(&text.chars().count());
                texts.len() <= items && texts.iter().all(fits)
            });
        if texts.is_none() {
            let rule =
                format!("must be a list of at most {items} strings of 1 to {max} characters");
            self.issue(name, rule);
        }
        texts.unwrap_or_default()
    }

    /// A limit, `{usd, tokens}`; what is absent is not limited.
    pub(crate) fn limit(&mut self, name: &str) -> Limit {
        let mut part = Self::new(self.object(name));
        let limit = Limit {
            usd: part.amount("usd"),
            tokens: part.count("tokens"),
        };
        let told = part.issues.into_iter();
        self.issues.extend(told.map(|issue| Issue {
            path: format!("{name}.{}", issue.path),
            ..issue
        }));
        limit
    }

    /// A number of dollars, 0 or more.
    fn amount(&mut self, name: &str) -> Option<f64> {
        let value = self.take(name)?;
        let amount = value.as_f64().filter(|usd| usd.is_finite() && *usd >= 0.0);
        if amount.is_none() {
            self.issue(name, "must be a number, 0 or more, or null");
        }
        amount
    }

    /// A whole number, 0 or more.
    fn count(&mut self, name: &str) -> Option<u64> {
        let count = self.take(name)?.as_u64();
        if count.is_none() {
            self.issue(name, "must be a whole number, 0 or more, or null");
        }
        count
    }

    /// 400 with everything that was wrong.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if self.issues.is_empty() {
            Ok(())
        } else {
            Err(Failure::body(self.issues))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        match value {
            Value::Object(map) => Fields::new(map),
            _ => panic!("no object"),
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut fields = fields(json!({
            "title": " ", "type": "nope", "labels": [1], "metadata": [], "body": 7, "extra": true
        }));
        assert_eq!(fields.required_text("title", 10), "");
        assert_eq!(fields.required_word::<rig::BeadType>("type", "issue"), None);
        fields.texts("labels", 3, 10);
        fields.object("metadata");
        fields.long_text("body", 10);
        fields.required_text("name", 10);
        let paths: Vec<_> = fields
            .issues
            .iter()
            .map(|issue| issue.path.as_str())
            .collect();
        assert_eq!(
            paths,
            ["title", "type", "labels", "metadata", "body", "name"]
        );
        assert!(fields.finish().is_err());
    }

    #[test]
    fn a_limit_names_each_part_that_is_no_amount() {
        let limit = |value: Value| {
            let mut fields = fields(json!({ "day": value }));
            let limit = fields.limit("day");
            let told: Vec<String> = fields.issues.into_iter().map(|issue| issue.path).collect();
            (limit, told)
        };
        let (good, told) = limit(json!({"usd": 2, "tokens": 0, "other": "x"}));
        assert_eq!((good.usd, good.tokens), (Some(2.0), Some(0)));
        assert!(told.is_empty());
        assert_eq!(limit(json!(null)).0, Limit::default());
        for bad in [json!(-1), json!("5"), json!(true), json!([1])] {
            let (_, told) = limit(json!({"usd": bad, "tokens": bad}));
            assert_eq!(told, ["day.usd", "day.tokens"], "{bad}");
        }
        assert_eq!(limit(json!({"tokens": 1.5})).1, ["day.tokens"]);
        assert_eq!(limit(json!(7)).1, ["day"]);
    }

    #[test]
    fn null_is_absent_and_white_space_is_trimmed() {
        let mut fields = fields(json!({"a": null, "b": "  x  ", "c": "ä".repeat(4)}));
        assert_eq!(fields.text("a", 5), None);
        assert_eq!(fields.text("b", 1).as_deref(), Some("x"));
        assert!(fields.text("c", 4).is_some(), "characters, not bytes");
        assert!(fields.finish().is_ok());
    }
}
