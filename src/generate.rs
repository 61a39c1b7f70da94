//! A recorded day of one orchestrator, made up from a seed: what `tasklog generate` prints and `examples/day.ndjson` holds.
//!
//! Terms, claim tokens and versions are given out by the store, so a recording cannot be written without one. The
//! generator runs every command through a store in memory as it goes, at the instant the recording gives it, and takes
//! from the replies what the following commands need. Applied to a fresh store the recording gets the same replies
//! again, except for ids that the store mints: the recording names every row itself.
//!
//! ```text
//! queue of actors by their next instant ─► actor looks at the world, says lines ─► store ─► replies ─► world
//!                                                          └─► the recording
//! ```
//! An actor is one thing that goes on for a while: a client's write, a pod that works on jobs, a settings broadcast,
//! the holder of a lease. An actor whose command is refused although it must not be ends the generation with an error,
//! so a generated day is also a test of the commands.

mod actor;
mod admins;
mod canaries;
mod closing;
mod cursors;
mod dice;
mod indexes;
mod jobs;
mod leases;
mod lifecycle;
mod line;
mod mistakes;
mod opening;
mod recorder;
mod sessions;
mod settings;
#[cfg(test)]
mod tests;
mod world;
mod writes;

use std::io::{self, Write};

use actor::Day;
pub use recorder::{Summary, Tally};

/// How long a recording is.
pub const DAY_MS: u64 = 86_400_000;
/// The number of lines that the rates of the actors are written for; other numbers speed everything up or slow it down.
const LINES_TYPICAL: u64 = 20_000;

/// Writes the recording that belongs to `seed`: at least `commands` lines, a command or a transact each. The same seed
/// and number give the same bytes. A very small number gives more lines than asked for, because every command occurs.
///
/// # Errors
/// Those of `out`, and an error that says which line the store answered in a way it must not.
pub fn generate(seed: u64, commands: u64, out: &mut impl Write) -> io::Result<Summary> {
    let mut day = Day::new(seed, commands, out)?;
    opening::open(&mut day)?;
    day.go_on()?;
    closing::close(&mut day)?;
    day.recorder.finish()
}
