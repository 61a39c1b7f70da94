use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    sync::atomic::Ordering,
    time::Instant,
};

use clap::Args;
use serde_json::json;
use tasklog_log::{Event, Position, StoreError};
use tasklog_projections::PROJECTED;

use super::{Context, Ended, input, mask::Mask, output, output::number, signals::stop_flag};
use crate::{
    Error, Rejection, StoreUrl,
    beside::Beside,
    copy::take_over,
    export::{Exported, Exporting, export},
    follow::Note,
};

/// Write the log as lines of JSON: a header, an event a line, and at the end how many there were and their digest.
///
/// With --show-sensitive it is all of the log, for its owner only, and can be imported. Without, sensitive values are masked and the bytes left
/// out: it is good for reading only, and says so.
#[derive(Args)]
pub(crate) struct Export {
    /// From the commit that has this event
    #[arg(long, default_value_t = 1, value_name = "POSITION")]
    from: u64,
    /// Through the commit that has this event
    #[arg(long, value_name = "POSITION")]
    to: Option<u64>,
    /// The file to write, which must not be there; standard output without
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Makes a store of an exported log: same positions, commit ids, instants and bytes. The destination must be empty or a
/// prefix of it; an import that was interrupted is repeated to go on.
#[derive(Args)]
pub(crate) struct ImportLog {
    /// The exported log, with its sensitive values
    file: PathBuf,
    /// The store to make
    #[arg(long, value_name = "URL")]
    into: StoreUrl,
}

impl Export {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = context.open_to_read()?;
        let began = Instant::now();
        let recording_from = store.recording().map(|recording| recording.from);
        let mut mask = Mask::new(context.out.show_sensitive);
        let masked = !mask.shows();
        let mut show = |event: &Event| shown(&mut mask, event);
        let what =
            Exporting { from: Position(self.from), to: self.to.map(Position), masked, recording_from, show: &mut show };
        let Some(path) = &self.out else {
            let mut out = BufWriter::new(std::io::stdout().lock());
            store.read_log(|log| export(log, what, &mut out))?;
            out.flush().map_err(|error| output::io("writing to standard output", error))?;
            return Ok(Ended::Well);
        };
        let failed = |error| output::io(&format!("writing {}", path.display()), error);
        let stop = stop_flag()?;
        let beside = Beside::begin(path)?.private(!masked);
        let mut out = BufWriter::new(File::create_new(beside.file()).map_err(failed)?);
        let mut show = |event: &Event| {
            if stop.load(Ordering::Acquire) {
                return Err(StoreError::unavailable("the export was stopped: nothing of it is left").into());
            }
            (what.show)(event)
        };
        let what = Exporting { show: &mut show, ..what };
        let (events, last) = store.read_log(|log| export(log, what, &mut out))?;
        out.flush().map_err(failed)?;
        drop(out);
        beside.place()?;
        let seconds = began.elapsed().as_secs_f64();
        context.out.line(if context.out.json {
            json!({
                "file": path.display().to_string(), "events": events, "last": last, "masked": masked, "seconds": seconds,
            })
            .to_string()
        } else {
            let how = if masked { ", sensitive values masked: it cannot be imported" } else { "" };
            format!("{} events through {last} in {}{how}, in {seconds:.1} s", number(events), path.display())
        })?;
        Ok(Ended::Well)
    }
}

/// The key and the payload of an event, masked where they are sensitive.
fn shown(mask: &mut Mask, event: &Event) -> Result<(String, String), Error> {
    let table = PROJECTED.iter().find(|table| table.name == &*event.table);
    let Some(table) = table else { return Ok((event.key.to_string(), "null".into())) };
    // Bytes that this program cannot read are exported all the same.
    let Ok(payload) = table.payload_json(event) else { return Ok((mask.key(table, &event.key), "null".into())) };
    if mask.shows() {
        return Ok((event.key.to_string(), payload));
    }
    let value = serde_json::from_str(&payload).map_err(|error| Rejection::invalid(error.to_string()))?;
    Ok((mask.key(table, &event.key), mask.payload(table, value).to_string()))
}

impl ImportLog {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let began = Instant::now();
        input::check(&self.file, "import");
        let exported = Exported::open(&self.file)?;
        let stop = stop_flag()?;
        let bar = output::progress(Some(0), "events");
        let taken = take_over(&exported, exported.recording_from(), &self.into, &stop, &mut |note| {
            if let Note::Progress { at, source, .. } = note {
                bar.set_length(source.position.0);
                bar.set_position(at.position.0);
            }
        });
        bar.finish_and_clear();
        let (from, to) = taken?;
        let (events, seconds) = (to.0 - from.0, began.elapsed().as_secs_f64());
        context.out.line(if context.out.json {
            json!({ "store": self.into.to_string(), "from": from, "head": to, "events": events, "seconds": seconds })
                .to_string()
        } else {
            format!("{} events imported to {}, which ends at event {to}, in {seconds:.1} s", number(events), self.into)
        })?;
        Ok(Ended::Well)
    }
}
