//! `wellhead doctor`: is this machine fit, and is this data directory?
//!
//! Owns the checks' order and their output. Changes nothing: it reads, asks, and names the command
//! that mends what it found. Every check is made, whatever the others found.

mod data;
mod finding;
mod login;
mod machine;
mod programs;

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use serde_json::json;

use data::Directory;
use finding::{Finding, Level};

/// What the doctor is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The data directory to look at [default: wellhead in `$XDG_DATA_HOME`]
    #[arg(long, value_name = "DIR", env = "WELLHEAD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The address that `up` is to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4180")]
    pub listen: SocketAddr,
    /// The kilo program [default: the data directory's own, then the one in PATH]
    #[arg(long, value_name = "PATH")]
    pub kilo: Option<PathBuf>,
    /// Do not ask the gateway
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Makes every check on that data directory; 0 when none failed, else 1.
pub async fn run(args: &Args, data_dir: PathBuf) -> ExitCode {
    let findings = examine(args, &data_dir).await;
    let is_fit = findings.iter().all(|one| one.level != Level::Fail);
    let mut text = String::new();
    if args.json {
        let all = json!({ "ok": is_fit, "data_dir": data_dir, "findings": findings });
        text = format!("{all}\n");
    } else {
        for one in &findings {
            text += &line(one);
        }
    }
    // Without a stdout only the exit code is left to say it.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::from(u8::from(!is_fit))
}

async fn examine(args: &Args, data_dir: &std::path::Path) -> Vec<Finding> {
    let directory = Directory::look(data_dir).await;
    let (git, kilo, node, npm, login) = tokio::join!(
        programs::git(),
        programs::kilo(args.kilo.as_deref(), data_dir),
        programs::node(),
        programs::npm(),
        login::check(args.offline),
    );
    vec![
        machine::platform(),
        git,
        kilo,
        login,
        node,
        npm,
        directory.finding(),
        directory.leftovers().await,
        machine::port(args.listen, directory.is_held()),
        machine::space(data_dir),
        machine::filesystem(data_dir),
        machine::clock(data_dir),
    ]
}

fn line(one: &Finding) -> String {
    let fix = one.fix.as_ref();
    let fix = fix.map_or_else(String::new, |fix| format!("      fix: {fix}\n"));
    format!(
        "{:<5} {}: {}\n{fix}",
        one.level.as_str(),
        one.check,
        one.text
    )
}
