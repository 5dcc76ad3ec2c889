//! The race of durable rig transitions over HTTP: this crate's host against its peers.
//!
//! One job for everybody: an HTTP request that creates a bead, hooks an agent and counts (three
//! records), answered when it is durable. One program in four roles: `run` (the default) starts
//! everything, `server` is our own entry, `load` asks, and the peers' programs lie beside it.
//! It must not favour anybody: same load, same records, same disk, by turns.
//!
//! `cargo bench --bench peers -- --help`

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to whoever runs it"
)]

mod histogram;
mod http;
mod load;
mod peer;
mod process;
mod run;
mod server;
mod table;

use std::process::ExitCode;

use clap::Parser;

/// The one that the shipped program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Durable rig transitions per second over HTTP, against workerd and Restate
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(clap::Subcommand)]
enum Role {
    /// Start each in turn and print the table
    Run(run::RunArgs),
    /// The rig transition on the durable object host
    Server(server::ServerArgs),
    /// Ask a server with many connections and report
    Load(load::LoadArgs),
}

fn main() -> ExitCode {
    // `cargo bench` adds a flag of its own.
    let args = std::env::args_os().filter(|arg| arg != "--bench");
    let done = match Args::parse_from(args).role {
        Some(Role::Server(args)) => server::main(&args),
        Some(Role::Load(args)) => load::main(&args),
        Some(Role::Run(args)) => run::main(&args),
        None => run::main(&run::RunArgs::default()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
