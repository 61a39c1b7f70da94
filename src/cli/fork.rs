use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    Context, Ended,
    apply::Apply,
    input,
    output::{self, number},
    signals::stop_flag,
};
use crate::{
    Error, StoreUrl,
    fork::{Forked, Skip, fork},
    store::When,
};

/// What if: make a store of its own with the log up to a moment, some events left out, other commands added. The
/// store at --store is only read. `tasklog diff --with` compares the two.
#[derive(Args)]
pub(crate) struct Fork {
    /// Through which moment; the present if none is given
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    at: Option<When>,
    /// Events to leave out, by their positions, such as 5,7-9
    #[arg(long, value_name = "POSITIONS")]
    skip: Option<Skip>,
    /// Commands to apply to the fork afterwards, as `apply` does
    #[arg(long, value_name = "FILE")]
    apply: Option<PathBuf>,
    /// The new store: sqlite:PATH, which must not be there yet
    #[arg(long, value_name = "URL")]
    into: StoreUrl,
}

impl Fork {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        if let Some(file) = &self.apply {
            input::check(file, "fork");
        }
        let stop = stop_flag()?;
        let store = context.open_to_read()?;
        let bar = output::progress(Some(store.head()?.0), "events");
        let skip = self.skip.unwrap_or_default();
        let forked = fork(&store, self.at, &skip, &self.into, &stop, &mut |at| bar.set_position(at.0));
        bar.finish_and_clear();
        let Forked { through, head, left_out } = forked?;
        if context.out.json {
            let value =
                json!({ "into": self.into.to_string(), "through": through, "head": head, "left_out": left_out });
            context.out.line(value.to_string())?;
        } else {
            // Answers of --apply go to standard output.
            eprintln!(
                "{} has the log of {} through event {}, {} events left out; it ends at event {}",
                self.into,
                context.url,
                number(through.0),
                number(left_out),
                number(head.0)
            );
        }
        match self.apply {
            Some(file) => Apply::file(file).run(&Context { url: self.into, out: context.out }),
            None => Ok(Ended::Well),
        }
    }
}
