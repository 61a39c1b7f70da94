//! The `tasklog` program. Everything it does is in the library, under `cli`.

use std::process::ExitCode;

/// Commands are made on one thread and end on another: an allocator that is good at that is worth a third of the speed of
/// many callers at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tasklog::cli::main()
}
