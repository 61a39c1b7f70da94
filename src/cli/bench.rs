use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Context, Ended,
    output::{self, BAD, FAINT, GOOD},
};
#[cfg(feature = "serve")]
use crate::bench::http::Load;
use crate::{
    Error, StoreUrl,
    bench::{self, Aim, Plan},
};

/// Measure speed and size against a raw baseline in the same run.
///
/// The baseline is rusqlite by hand: the same event row inserted and the same table row upserted by prepared statements,
/// with the same pragmas, durability and payloads. Ratios are the store's speed over the baseline's; rates count events.
///
/// With `--store redis://…` the store in Redis is measured on that server, with its settings, against a plain Lua script
/// that checks one revision, appends the same bytes, writes the same row and adds it to its index. Keys are written under
/// prefixes of their own and deleted afterwards.
#[derive(Args)]
pub(crate) struct Bench {
    /// Events in the log of the figures about reading it: rebuild, fold, archive, earlier moments
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Only figures whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Where to write the databases; a temporary folder of the present one by default, so that they are on a real disk
    #[arg(long, value_name = "FOLDER")]
    folder: Option<std::path::PathBuf>,
    /// Measure the service instead, with a file whatever --store says: commands and live tails over HTTP against the
    /// library in the same run
    #[cfg(feature = "serve")]
    #[arg(long)]
    http: bool,
    #[cfg(feature = "serve")]
    #[command(flatten)]
    load: LoadArgs,
    /// Be one of the writing processes: as many callers as that
    #[arg(long, hide = true, value_name = "CALLERS")]
    worker: Option<usize>,
}

/// What a loading process is told.
#[cfg(feature = "serve")]
#[derive(Args)]
struct LoadArgs {
    /// Be the process that puts load on the service there
    #[arg(long, hide = true, value_name = "IP:PORT")]
    load: Option<String>,
    #[arg(long, hide = true, value_name = "N", default_value_t = 1)]
    connections: usize,
    #[arg(long, hide = true, value_name = "N", default_value_t = 1)]
    lives: usize,
    #[arg(long, hide = true, value_name = "N")]
    tails: Option<usize>,
    /// Events for each tail
    #[arg(long, hide = true, value_name = "N", default_value_t = 0)]
    tail_events: u64,
}

impl Bench {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        #[cfg(feature = "serve")]
        if let Some(address) = &self.load.load {
            let LoadArgs { connections, lives, tails, tail_events: events, .. } = self.load;
            let load = tails.map_or(Load::Commands { connections, lives }, |tails| Load::Tails { tails, events });
            bench::http::load(address, load)?;
            return Ok(Ended::Well);
        }
        if let Some(callers) = self.worker {
            bench::redis::work(&context.url, callers)?;
            return Ok(Ended::Well);
        }
        let parent = self.folder.unwrap_or_else(|| ".".into());
        let scratch = tempfile::Builder::new()
            .prefix("tasklog-bench-")
            .tempdir_in(parent)
            .map_err(|error| output::io("making a scratch folder", error))?;
        let mut flat = Map::new();
        let mut missed = 0;
        let mut written = Ok(());
        if !context.out.json {
            context.out.line(format!("{:<34}{:>14}   aim", "figure", "value"))?;
        }
        let plan = Plan { events: self.events, only: self.only };
        let tell = |figure: bench::Figure| {
            flat.insert(figure.name.clone(), json!((figure.value * 1e4).round() / 1e4));
            missed += usize::from(!figure.is_met());
            if context.out.json || written.is_err() {
                return;
            }
            let aim = match figure.aim {
                None => String::new(),
                Some(Aim::AtLeast(aim)) => format!("at least {aim}"),
                Some(Aim::AtMost(aim)) => format!("at most {aim}"),
            };
            let style = match (figure.aim.is_some(), figure.is_met()) {
                (false, _) => FAINT,
                (true, true) => GOOD,
                (true, false) => BAD,
            };
            let value =
                if figure.value < 100.0 { format!("{:.3}", figure.value) } else { format!("{:.0}", figure.value) };
            written = context.out.line(format!(
                "{}{:<34}{value:>14}{}   {aim}",
                style.render(),
                figure.name,
                style.render_reset()
            ));
        };
        match &context.url {
            #[cfg(feature = "serve")]
            _ if self.http => bench::http::run(&plan, scratch.path(), tell)?,
            StoreUrl::Redis(server) => bench::redis::run(&plan, server, scratch.path(), tell)?,
            _ => bench::run(&plan, scratch.path(), tell)?,
        }
        written?;
        if context.out.json {
            context.out.line(Value::Object(flat).to_string())?;
        }
        Ok(if missed == 0 { Ended::Well } else { Ended::Refused })
    }
}
