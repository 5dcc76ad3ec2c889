//! The programs that agents and their repositories need: git, kilo, and npm for its install.

use std::{path::Path, process::Stdio, time::Duration};

use super::finding::Finding;

/// A `--version` that takes longer does not come.
const DEADLINE: Duration = Duration::from_secs(10);
const GIT_LEAST: (u32, u32) = (2, 28);
const NODE_LEAST: u32 = 20;
const INSTALL_NODE: &str = "install Node.js 20 or newer: https://nodejs.org/en/download";

pub(super) async fn git() -> Finding {
    let fix = "sudo apt-get install git";
    let text = match version_of("git").await {
        Ok(text) => text,
        Err(why) => return Finding::fail("git", format!("git does not run: {why}"), fix),
    };
    match numbers(&text) {
        Some(version) if version >= GIT_LEAST => Finding::ok("git", text),
        Some(_) => Finding::fail("git", format!("{text} is older than 2.28"), fix),
        None => Finding::fail("git", "git does not say its version", fix),
    }
}

pub(super) async fn kilo(setting: Option<&Path>, data_dir: &Path) -> Finding {
    let install = data_dir.join("kilo");
    // Never into the data directory: one without a marker that holds files is taken for another's.
    let fix = format!(
        "npm install -g @kilocode/cli@{}",
        runtime::checkup::KILO_TESTED
    );
    match runtime::checkup::kilo(setting, install).await {
        Ok(found) => {
            let text = format!("kilo {} at {}", found.version, found.path.display());
            match found.warning {
                None => Finding::ok("kilo", text),
                Some(why) => Finding::warn("kilo", format!("{text}: {why}"), fix),
            }
        }
        Err(why) => Finding::fail("kilo", why, fix),
    }
}

/// Only the demo and an install of kilo need it.
pub(super) async fn node() -> Finding {
    match version_of("node").await {
        Ok(text) if numbers(&text).is_some_and(|(major, _)| major >= NODE_LEAST) => {
            Finding::ok("node", format!("Node.js {text}"))
        }
        Ok(text) => Finding::warn("node", format!("Node.js {text} is too old"), INSTALL_NODE),
        Err(why) => {
            let text = format!("node does not run, which an install of kilo needs: {why}");
            Finding::warn("node", text, INSTALL_NODE)
        }
    }
}

pub(super) async fn npm() -> Finding {
    match version_of("npm").await {
        Ok(text) => Finding::ok("npm", format!("npm {text}")),
        Err(why) => {
            let text = format!("npm does not run, which installs kilo for the demo: {why}");
            Finding::warn("npm", text, INSTALL_NODE)
        }
    }
}

/// The first line that a program says of itself, found on the PATH.
async fn version_of(program: &str) -> Result<String, String> {
    let mut command = tokio::process::Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .map_err(|_| format!("no answer within {} s", DEADLINE.as_secs()))?
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "it is not on the PATH".to_owned(),
            _ => error.to_string(),
        })?;
    if !output.status.success() {
        return Err(format!("--version ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().trim();
    Ok(line.chars().take(80).collect())
}

/// The first two numbers of a text.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let mut parts = text.get(start..)?.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_out_of_what_programs_say() {
        assert_eq!(numbers("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(numbers("v22.1.0"), Some((22, 1)));
        assert_eq!(numbers("nothing"), None);
    }
}
