//! The demo: a whole town on this machine, without a key and without cost.
//!
//! Owns the order of the show: program, scripted gateway, sample repository, server, beads, and
//! what each of them has to come to. Everything that it starts is the real thing but for the model
//! behind the gateway.
//!
//! ```text
//! stage (what is started) ─► cast (rigs and beads) ─► story (what happens) ─► report (how it ended)
//!                                                          └► crash (a second server, killed)
//! ```

mod cast;
mod crash;
mod report;
pub mod sample;
mod stage;
mod story;

use std::{path::PathBuf, process::ExitCode};

/// What the demo is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Keep everything here: state, kilo, repositories, logs
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Use kilo from this npm directory instead of installing it below the data directory
    #[arg(long, value_name = "DIR", hide = true)]
    pub kilo_install: Option<PathBuf>,
    /// End when everything is settled; exit code 0 only if each bead ended as it should
    #[arg(long)]
    pub exit: bool,
    /// End with one JSON object on stdout instead of telling the story
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo to its end; 0 when every bead ended as it should.
pub async fn run(args: Args) -> ExitCode {
    match Box::pin(show(&args)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            tracing::error!("{error}");
            eprint_line(&format!("demo: {error}"));
            ExitCode::from(1)
        }
    }
}

/// Why the demo could not go on. The text names the fix.
pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

async fn show(args: &Args) -> Result<bool, Trouble> {
    let stage = Box::pin(stage::Stage::build(args)).await?;
    let played = tokio::select! {
        played = Box::pin(play(&stage, args)) => played,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            stage.say("interrupted: ending everything");
            Ok(None)
        }
    };
    // Whatever happened, nothing of it is left running.
    let ended = stage.end().await;
    match played? {
        // Interrupted before the end: not a result.
        None => Ok(!args.exit),
        Some(ending) => {
            let report = report::Report::new(&ending, &ended);
            if args.json {
                print_line(&serde_json::to_string(&report)?);
            } else {
                report.tell();
            }
            Ok(report.is_as_it_should_be())
        }
    }
}

/// Slings the beads and tells what happens; without `--exit` the town stays up until Ctrl-C.
async fn play(stage: &stage::Stage, args: &Args) -> Result<Option<story::Ending>, Trouble> {
    let cast = cast::Cast::call(stage).await?;
    let mut ending = story::tell(stage, &cast).await?;
    ending.crash = Some(Box::pin(crash::play(stage)).await?);
    if args.exit {
        return Ok(Some(ending));
    }
    stage.say("all is settled; the town stays up until Ctrl-C");
    tokio::signal::ctrl_c().await?;
    Ok(Some(ending))
}

#[expect(
    clippy::print_stdout,
    reason = "the result of a command belongs on stdout"
)]
fn print_line(line: &str) {
    println!("{line}");
}

#[expect(
    clippy::print_stderr,
    reason = "what a person has to mend is said without a log filter"
)]
fn eprint_line(line: &str) {
    eprintln!("{line}");
}
