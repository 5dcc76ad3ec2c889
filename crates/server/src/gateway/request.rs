//! A chat request as a script sees it: who asks, for which model, and what was said so far.
//!
//! Only what a script decides by is kept; the rest of the body is dropped unread. The token is
//! judged elsewhere and never gets here.

use serde::Deserialize;

/// One chat completion request, reduced to what a script decides by.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ChatRequest {
    /// `x-kilocode-taskid`: the session id, `title-<session id>` for a title.
    pub task_id: String,
    /// `x-kilocode-mode`: the agent's name, or `title`.
    pub mode: String,
    /// The model id as the gateway lists it.
    pub model: String,
    /// The conversation, the system prompt included.
    pub messages: Vec<ChatMessage>,
    /// The names of the tools that are offered.
    pub tools: Vec<String>,
    /// Whether the answer is wanted as a stream.
    pub stream: bool,
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text parts, joined by line ends.
    pub text: String,
}

impl ChatRequest {
    /// Reads the body of a request.
    pub(super) fn parse(
        task_id: String,
        mode: String,
        body: &[u8],
    ) -> Result<Self, serde_json::Error> {
        let body: Body = serde_json::from_slice(body)?;
        Ok(Self {
            task_id,
            mode,
            model: body.model,
            messages: body.messages.into_iter().map(Message::reduce).collect(),
            tools: body
                .tools
                .into_iter()
                .map(|tool| tool.function.name)
                .collect(),
            stream: body.stream,
        })
    }

    /// The texts of the user's messages, oldest first.
    pub fn user_texts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.messages
            .iter()
            .filter(|message| message.role == "user")
            .map(|m| m.text.as_str())
    }

    /// Whether a tool has just been run: the last message is its result.
    pub fn tool_has_answered(&self) -> bool {
        self.messages
            .last()
            .is_some_and(|message| message.role == "tool")
    }

    /// Whether a tool of this name is offered.
    pub fn offers(&self, tool: &str) -> bool {
        self.tools.iter().any(|name| name == tool)
    }

    /// Characters of the whole conversation, for a plausible token count.
    pub(super) fn chars(&self) -> usize {
        self.messages.iter().map(|message| message.text.len()).sum()
    }
}

#[derive(Deserialize)]
struct Body {
    model: String,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Tool {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

impl Message {
    fn reduce(self) -> ChatMessage {
        let text = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => parts
                .into_iter()
                .filter_map(|part| part.text)
                .collect::<Vec<_>>()
                .join("\n"),
        };
        ChatMessage {
            role: self.role,
            text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_from_strings_and_from_parts() {
        let body = br#"{"model":"m","stream":true,"messages":[
            {"role":"system","content":"s"},
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},
                {"type":"text","text":"b"}]},
            {"role":"assistant","content":null},
            {"role":"tool","content":"done"}],
            "tools":[{"type":"function","function":{"name":"bash"}}]}"#;
        let request = ChatRequest::parse("ses_1".into(), "code".into(), body).unwrap();
        assert_eq!(request.user_texts().collect::<Vec<_>>(), ["a\nb"]);
        assert!(request.tool_has_answered() && request.offers("bash"));
        assert!(!request.offers("question"));
    }
}
