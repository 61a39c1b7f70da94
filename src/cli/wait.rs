use std::time::Duration;

use clap::Args;
use tasklog_log::Position;

use super::Context;
use crate::{Error, TaskStore};

/// The longest `--wait-ms`.
const WAIT_MS_MAX: u64 = 600_000;

/// Reads your writes: on a replica, what a command has just written to its source.
#[derive(Args)]
pub(crate) struct MinPosition {
    /// Wait until the store has reached this position, such as the one a command's reply has told
    #[arg(long, value_name = "POSITION")]
    min_position: Option<u64>,
    /// How long to wait for --min-position, in ms
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(..=WAIT_MS_MAX))]
    wait_ms: u64,
}

impl MinPosition {
    /// Opens the store for queries, once it has got so far.
    pub(crate) fn open(&self, context: &Context) -> Result<TaskStore, Error> {
        let store = context.open_to_read()?;
        if let Some(position) = self.min_position {
            store.wait_for(Position(position), Duration::from_millis(self.wait_ms))?;
        }
        Ok(store)
    }
}
