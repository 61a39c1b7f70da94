use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Context, Ended,
    output::{self, BAD, FAINT, GOOD},
};
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
    /// Be one of the writing processes: as many callers as that
    #[arg(long, hide = true, value_name = "CALLERS")]
    worker: Option<usize>,
}

impl Bench {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
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
