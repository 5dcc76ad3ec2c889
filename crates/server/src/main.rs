//! The `wellhead` command. Everything it does is in the library.

use std::process::ExitCode;

/// Answers are made of small allocations that other threads free; the system's allocator spends a
/// quarter of a request on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    wellhead::cli::main()
}
