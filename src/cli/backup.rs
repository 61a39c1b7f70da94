use std::{path::PathBuf, time::Instant};

use clap::Args;
use serde_json::json;

use super::{Context, Ended, output::number, signals::stop_flag};
use crate::{Error, Rejection, StoreUrl, store::restore_until};

/// Make a consistent copy of a store's file while it is written to.
///
/// It is as the store was at one moment, and on the disk when this ends. It has the log and all tables with everything in
/// them, also what is sensitive: only its owner may read it. An archive is not in it.
#[derive(Args)]
pub(crate) struct Backup {
    /// The file to write; it must not be there
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Make a store of a backup, in a new epoch.
///
/// Whoever has seen what was written after the backup (followers, an archive) notices that it is lost.
#[derive(Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The store to make: sqlite:PATH; it must not be there
    #[arg(long, value_name = "URL")]
    into: StoreUrl,
}

impl Backup {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let stop = stop_flag()?;
        let store = context.open_to_read()?;
        let began = Instant::now();
        let head = store.backup_until(&self.to, &stop)?;
        let bytes = std::fs::metadata(&self.to).map_or(0, |metadata| metadata.len());
        let (seconds, file) = (began.elapsed().as_secs_f64(), self.to.display());
        context.out.line(if context.out.json {
            json!({ "file": file.to_string(), "head": head.position, "bytes": bytes, "seconds": seconds }).to_string()
        } else {
            format!("{file} has the store through event {}, {} bytes, in {seconds:.1} s", head.position, number(bytes))
        })?;
        Ok(Ended::Well)
    }
}

impl Restore {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let StoreUrl::Sqlite(path) = &self.into else {
            return Err(Rejection::invalid(format!("{}: a backup becomes a file, sqlite:PATH", self.into)).into());
        };
        let accepted = restore_until(&self.from, path, "tasklog", &stop_flag()?)?;
        context.out.line(if context.out.json {
            json!({ "store": self.into.to_string(), "head": accepted.position, "epoch": accepted.epoch }).to_string()
        } else {
            format!("{} has {} events and goes on in epoch {}", self.into, accepted.position, accepted.epoch)
        })?;
        Ok(Ended::Well)
    }
}
