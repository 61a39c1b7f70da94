use clap::Args;
use tasklog_replay::Moment;

use super::{
    Context,
    output::{self, number},
    wait::MinPosition,
};
use crate::{Error, TaskStore, store::When};

/// Which state of the store is asked about.
#[derive(Args)]
pub(crate) struct AsOf {
    #[command(flatten)]
    at_least: MinPosition,
    /// Answer as of an earlier moment: a position, an RFC 3339 time, or how long ago, such as -15m or -2h30m
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    at: Option<When>,
}

impl AsOf {
    /// Opens the store for queries, as of the moment that was asked for.
    pub(crate) fn open(&self, context: &Context) -> Result<TaskStore, Error> {
        let store = self.at_least.open(context)?;
        let Some(when) = self.at else { return Ok(store) };
        let store = store.at(when)?;
        if let Some(moment) = store.moment().filter(|_| !context.out.json) {
            eprintln!("as of {}", told(&moment));
        }
        Ok(store)
    }
}

/// A moment in one line.
pub(crate) fn told(moment: &Moment) -> String {
    if moment.at.position.0 == 0 {
        return "the beginning, before event 1".into();
    }
    format!("event {}, {}", number(moment.at.position.0), output::time(moment.now))
}
