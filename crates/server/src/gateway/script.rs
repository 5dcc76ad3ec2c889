//! Which behaviour answers a request: by the model's name, by a directive in the conversation, or
//! by the user's own function.

use std::fmt;
use std::sync::Arc;

use super::behaviour::{Behaviour, UnknownBehaviour};
use super::request::ChatRequest;

/// The models that the gateway lists begin with this.
pub(super) const MODEL_PREFIX: &str = "scripted/";
/// The model that leaves the choice to the conversation.
pub(super) const AUTO: &str = "auto";

const DIRECTIVE_OPEN: &str = "[[script:";
const DIRECTIVE_CLOSE: &str = "]]";

type Choose = dyn Fn(&ChatRequest) -> Result<Behaviour, UnknownBehaviour> + Send + Sync;

/// Chooses a behaviour for each request. Title requests are answered without asking it.
#[derive(Clone)]
pub struct Script {
    choose: Arc<Choose>,
}

impl Script {
    /// A script in code. It may keep a state of its own, and is called from several threads.
    pub fn new(choose: impl Fn(&ChatRequest) -> Behaviour + Send + Sync + 'static) -> Self {
        Self {
            choose: Arc::new(move |request| Ok(choose(request))),
        }
    }

    /// The model id decides (`scripted/<behaviour>`), else the directive
    /// `[[script: <behaviour>]]` in the last user message that has one, else `fallback`.
    pub fn named_or(fallback: Behaviour) -> Self {
        Self {
            choose: Arc::new(move |request| named(request, &fallback)),
        }
    }

    pub(super) fn choose(&self, request: &ChatRequest) -> Result<Behaviour, UnknownBehaviour> {
        (self.choose)(request)
    }
}

/// By name; without a name the work is done and committed.
impl Default for Script {
    fn default() -> Self {
        Self::named_or(Behaviour::Commit)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

fn named(request: &ChatRequest, fallback: &Behaviour) -> Result<Behaviour, UnknownBehaviour> {
    match request.model.strip_prefix(MODEL_PREFIX) {
        Some(name) if name != AUTO => name.parse(),
        _ => match request.user_texts().rev().find_map(directive) {
            Some(name) => name.parse(),
            None => Ok(fallback.clone()),
        },
    }
}

/// The last directive of a text, since the last word counts.
fn directive(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once(DIRECTIVE_OPEN)?;
    let (name, _) = rest.split_once(DIRECTIVE_CLOSE)?;
    Some(name.trim())
}

/// The text without its directives.
pub(super) fn without_directives(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(DIRECTIVE_OPEN) {
        plain.push_str(before);
        match after.split_once(DIRECTIVE_CLOSE) {
            Some((_, after)) => rest = after,
            None => rest = "",
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::ChatMessage;

    fn request(model: &str, user: &[&str]) -> ChatRequest {
        let message = |text: &&str| ChatMessage {
            role: "user".into(),
            text: (*text).into(),
        };
        ChatRequest {
            model: model.into(),
            messages: user.iter().map(message).collect(),
            ..ChatRequest::default()
        }
    }

    #[test]
    fn the_model_outranks_the_directive() {
        let request = request("scripted/text", &["x [[script: commit]]"]);
        assert_eq!(Script::default().choose(&request), Ok(Behaviour::Text));
    }

    #[test]
    fn the_last_user_message_with_a_directive_decides() {
        let request = request(
            "scripted/auto",
            &["[[script: e500]]", "[[script: slow 9 ]]", "go"],
        );
        assert_eq!(
            Script::default().choose(&request),
            Ok(Behaviour::Slow { seconds: 9 })
        );
    }

    #[test]
    fn without_a_name_the_fallback_answers_and_a_wrong_name_is_refused() {
        let script = Script::named_or(Behaviour::Empty);
        assert_eq!(
            script.choose(&request("other/model", &["hi"])),
            Ok(Behaviour::Empty)
        );
        assert!(script.choose(&request("scripted/nope", &["hi"])).is_err());
        assert!(
            script
                .choose(&request("scripted/auto", &["[[script: nope]]"]))
                .is_err()
        );
    }

    #[test]
    fn directives_are_cut_out_of_the_task() {
        assert_eq!(
            without_directives("a [[script: text]]b[[script: x]]"),
            "a b"
        );
        assert_eq!(without_directives("a [[script: tex"), "a ");
    }
}
