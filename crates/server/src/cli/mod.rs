//! The command line: what people type.
//!
//! Owns arguments, exit codes and what goes to stdout (data) and stderr (diagnostics). It starts
//! and stops what other modules own.

mod backup;
mod exit;
mod paths;
mod up;

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

pub use backup::{BackupArgs, RestoreArgs};
pub use exit::Exit;
pub use up::UpArgs;

/// After the end of a command its threads get this long; nothing that counts runs in them.
const THREADS_END: Duration = Duration::from_secs(2);

#[derive(Debug, Parser)]
#[command(
    name = "wellhead",
    version,
    about = "Runs towns of coding agents and loses none of their work",
    after_help = exit::HELP
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server on a data directory
    #[command(after_help = exit::HELP)]
    Up(UpArgs),
    /// See a whole town work on this machine, without a key and without cost
    Demo(crate::demo::Args),
    /// Check this machine and a data directory, and name what mends them
    Doctor(crate::doctor::Args),
    /// Write the state of a data directory into a file, while no server uses it
    #[command(after_help = exit::HELP)]
    Backup(BackupArgs),
    /// Make the state of a new data directory out of a backup
    #[command(after_help = exit::HELP)]
    Restore(RestoreArgs),
}

/// Parses the arguments, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // The demo and the doctor tell their own story.
    start_log(
        if matches!(cli.command, Command::Demo(_) | Command::Doctor(_)) {
            "error"
        } else {
            "info"
        },
    );
    let threads = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(threads) => threads,
        Err(error) => {
            return exit::failed(Exit::Failure, &format!("cannot start threads: {error}"));
        }
    };
    let code = threads.block_on(async {
        match cli.command {
            Command::Up(args) => Box::pin(up::run(args)).await,
            Command::Backup(args) => backup::save(args).await,
            Command::Restore(args) => backup::restore(args).await,
            Command::Demo(args) => Box::pin(crate::demo::run(args)).await,
            Command::Doctor(args) => match paths::chosen(args.data_dir.as_deref()) {
                Ok(dir) => Box::pin(crate::doctor::run(&args, dir)).await,
                Err(why) => exit::failed(Exit::Usage, &why),
            },
        }
    });
    threads.shutdown_timeout(THREADS_END);
    code
}

/// Diagnostics go to stderr, as `WELLHEAD_LOG` (or `RUST_LOG`) says.
fn start_log(default: &str) {
    let filter = EnvFilter::try_from_env("WELLHEAD_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A host program may have its own; then that one is right.
    let _ = log.try_init();
}
