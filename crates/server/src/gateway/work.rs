//! The work that a scripted agent does: a note whose name and content come from the task, written
//! and committed by a shell command.
//!
//! Pure text. Whatever the task says, only letters, digits and plain punctuation reach the shell.

use sha2::{Digest, Sha256};

use super::request::ChatRequest;
use super::script::without_directives;

const SLUG_CHARS_MAX: usize = 40;
const SUBJECT_CHARS_MAX: usize = 60;
const TITLE_CHARS_MAX: usize = 200;

/// A note in the working tree that differs from task to task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Path from the working directory, safe unquoted.
    pub(super) path: String,
    /// First line of the task, safe between single quotes.
    pub(super) title: String,
}

impl Note {
    /// The note for what the user said first: a nudge or a "continue" is the same for many tasks.
    pub(super) fn of(request: &ChatRequest) -> Self {
        let said = request.user_texts().next().unwrap_or_default();
        let task = without_directives(without_environment(said));
        let line = task
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("task");
        let title = plain(line, TITLE_CHARS_MAX);
        Self {
            path: format!("notes/{}-{}.md", slug(&title), digest(&task)),
            title,
        }
    }

    /// A command that appends the note. Appending leaves a change even when the same task comes
    /// twice.
    pub(super) fn write_command(&self) -> String {
        let Self { path, title } = self;
        format!("mkdir -p notes && printf '%s\\n' '{title}' >> {path}")
    }

    /// A command that writes the note and commits it alone.
    pub(super) fn commit_command(&self) -> String {
        let path = &self.path;
        let subject: String = self.title.chars().take(SUBJECT_CHARS_MAX).collect();
        // The identity counts only where neither the environment nor the repository has one: the
        // environment outranks -c.
        format!(
            "{} && git add -- {path} && git -c user.name='Scripted Agent' \
             -c user.email=agent@scripted.invalid -c commit.gpgsign=false \
             commit -q -m 'note: {}' -- {path} && git log -1 --oneline",
            self.write_command(),
            subject.trim_end(),
        )
    }
}

/// The program adds the time and the working directory to each message; the task ends before.
fn without_environment(text: &str) -> &str {
    text.split_once("<environment_details>")
        .map_or(text, |(task, _)| task)
        .trim_end()
}

fn plain(text: &str, chars_max: usize) -> String {
    let safe = |c: &char| c.is_ascii_alphanumeric() || " .,:;()_/#+-".contains(*c);
    let text: String = text.chars().filter(safe).take(chars_max).collect();
    text.trim().to_owned()
}

fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.chars() {
        if slug.len() >= SLUG_CHARS_MAX {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    match slug.trim_end_matches('-') {
        "" => "task".to_owned(),
        slug => slug.to_owned(),
    }
}

/// Eight hexadecimal digits, so that tasks with the same first line get files of their own.
fn digest(task: &str) -> String {
    let digest = Sha256::digest(task.as_bytes());
    digest
        .iter()
        .take(4)
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::ChatMessage;

    fn note(task: &str) -> Note {
        let message = ChatMessage {
            role: "user".into(),
            text: task.into(),
        };
        Note::of(&ChatRequest {
            messages: vec![message],
            ..ChatRequest::default()
        })
    }

    #[test]
    fn tasks_get_files_of_their_own() {
        let one = note("Add a greeting\n\nin English");
        let other = note("Add a greeting\n\nin French");
        assert!(
            one.path.starts_with("notes/add-a-greeting-"),
            "{}",
            one.path
        );
        assert_ne!(one.path, other.path);
        assert_eq!(one, note("Add a greeting\n\nin English"));
    }

    #[test]
    fn the_time_of_a_message_is_no_part_of_the_task() {
        let later = "Add\n\n<environment_details>\nMessage time: 2026\n</environment_details>";
        assert_eq!(note("Add"), note(later));
    }

    #[test]
    fn nothing_of_the_task_is_run_by_the_shell() {
        let note = note("'; rm -rf / #`id`$(id) \\ \" > x");
        assert!(
            !note.title.contains(['\'', '`', '$', '\\', '"', '>']),
            "{}",
            note.title
        );
        assert!(
            note.path
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-/.".contains(c))
        );
        assert!(!note.path.contains(".."));
    }

    #[test]
    fn a_task_without_words_still_has_a_name() {
        assert!(note("").path.starts_with("notes/task-"));
        assert!(note("日本語").path.starts_with("notes/task-"));
    }
}
