use std::time::Instant;

use clap::Args;
use serde_json::json;
use tasklog_log::{
    Position, StoreError,
    archive::{SEGMENT_EVENTS_DEFAULT, Sealing},
};

use super::{
    Context, Ended,
    output::{self, BAD, GOOD, number},
};
use crate::{
    Error, Rejection, StoreUrl, TaskStore,
    blobs::place_name,
    config::HOUR_MS,
    store::{Bound, Keep, OpenElsewhere, archive},
};

/// Segments smaller than usual that one call makes.
const SEGMENTS_AT_ONCE: u64 = 1_000;

/// Seal the log into segments at another place, or verify these.
///
/// A segment has whole commits, compressed, with a digest; it is never changed. Whole segments of N events are sealed, and
/// with --all also what is left. Repeat it whenever you like, also after it was killed: it goes on where the archive ends.
/// The place is remembered in the store, and from then on whoever reads this log reads on into its archive. Beside another
/// process that has the file open for writing it is sealed all the same, but not remembered until this is said again.
#[derive(Args)]
pub(crate) struct Archive {
    /// Where to: a folder, or a URL of an object store (secrets in the environment); remembered
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Also seal the log's end into a shorter segment
    #[arg(long)]
    all: bool,
    /// Events in a segment
    #[arg(long, default_value_t = SEGMENT_EVENTS_DEFAULT, value_name = "N")]
    segment_events: usize,
    /// Read every segment against its digest and every event against its checksum
    #[arg(long, conflicts_with_all = ["all", "segment_events"])]
    verify: bool,
}

impl Archive {
    /// Every segment is listed in a manifest that is written again with the next one: many small ones take far longer, and
    /// far more room while they are made, than their events.
    fn check_segments(&self, store: &TaskStore) -> Result<(), Error> {
        let events = events_of(store)?;
        let segments = events / (self.segment_events as u64).max(1);
        if self.segment_events >= SEGMENT_EVENTS_DEFAULT || segments <= SEGMENTS_AT_ONCE {
            return Ok(());
        }
        let least = number(events.div_ceil(SEGMENTS_AT_ONCE));
        let (events, segments) = (number(events), number(segments));
        Err(Rejection::invalid(format!(
            "--segment-events {}: {events} events would become {segments} segments, at most {} are made at once: say {least} or more",
            self.segment_events,
            number(SEGMENTS_AT_ONCE),
        ))
        .into())
    }
}

/// Events that the log itself has.
fn events_of(store: &TaskStore) -> Result<u64, Error> {
    store.read(|log, _| Ok((log.head()?.position.0 + 1).saturating_sub(log.first()?.0)))
}

/// Remove from the log what the archive and a snapshot have, oldest events first.
///
/// Nothing is removed that either of them does not have, and every segment that is relied on is read against its digest
/// first. The trim is an event of the log. Reads, history, verify, rebuild and followers reach into the archive afterwards.
#[derive(Args)]
pub(crate) struct Trim {
    /// Keep the newest N events; without --keep-hours too, what retention says
    #[arg(long, value_name = "N")]
    keep_events: Option<u64>,
    /// Keep what is younger than T hours
    #[arg(long, value_name = "T")]
    keep_hours: Option<u32>,
}

/// Show or say how much of the log is kept where.
///
/// With an archive and something to keep, the process that writes to the store archives, makes snapshots and trims in the
/// background.
#[derive(Args)]
pub(crate) struct Retention {
    /// Archive there
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
    /// Keep the newest N events in the log
    #[arg(long, value_name = "N")]
    keep_events: Option<u64>,
    /// Keep what is younger than T hours in the log
    #[arg(long, value_name = "T")]
    keep_hours: Option<u32>,
    /// Trim nothing in the background any more; the archive stays where it is
    #[arg(long, conflicts_with_all = ["archive", "keep_events", "keep_hours"])]
    off: bool,
}

fn keep_of(events: Option<u64>, hours: Option<u32>) -> Keep {
    Keep { events, age_ms: hours.map(|hours| i64::from(hours) * HOUR_MS) }
}

impl Archive {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let url = match &self.to {
            Some(to) => place_name(to)?,
            None => context.open_to_read()?.retention()?.archive.ok_or_else(|| {
                Rejection::invalid("this store has no archive yet: say where it is to be with --to URL")
            })?,
        };
        if self.verify {
            return verify(context, &url);
        }
        let mut store = context.open_to_read()?;
        self.check_segments(&store)?;
        let mut not_remembered = None;
        if store.retention()?.archive.as_deref() != Some(&url) {
            match context.open() {
                Ok(writing) => {
                    store = writing;
                    store.set_archive(Some(&url))?;
                }
                // Nothing depends on an archive that the log does not know of: it can be sealed beside whoever writes.
                Err(error) => not_remembered = Some(OpenElsewhere::of(&error).map(why_not_remembered).ok_or(error)?),
            }
        }
        let began = Instant::now();
        let head = store.head()?;
        let bar = output::progress(Some(head.0), "events");
        let (mut segments, mut bytes, mut events) = (0_u64, 0, 0);
        let how = Sealing { segment_events: self.segment_events, all: self.all, ..Sealing::default() };
        let manifest = store.archive(&url, &how, &mut |segment| {
            segments += 1;
            bytes += segment.bytes;
            events += segment.last.0 + 1 - segment.first.0;
            bar.set_position(segment.last.0);
        })?;
        bar.finish_and_clear();
        let seconds = began.elapsed().as_secs_f64();
        if context.out.json {
            let value = json!({
                "archive": url, "segments": segments, "events": events, "bytes": bytes,
                "archived": manifest.last(), "head": head, "seconds": seconds, "remembered": not_remembered.is_none(),
            });
            context.out.line(value.to_string())?;
            return Ok(Ended::Well);
        }
        if manifest.last() == Position::ZERO {
            context.out.line(format!(
                "nothing is sealed yet: the log has {} events, a segment {} (--all seals what there is); {url} has nothing of it",
                number(head.0),
                number(self.segment_events as u64),
            ))?;
            return not_remembered.map_or(Ok(Ended::Well), |why| {
                output::say(&why);
                Ok(Ended::Well)
            });
        }
        let each = if events == 0 { String::new() } else { format!(" ({:.1} a event)", bytes as f64 / events as f64) };
        context.out.line(format!(
            "{} events in {} new segments, {} bytes{}, in {seconds:.1} s; {url} has events 1 to {} of {}",
            number(events),
            number(segments),
            number(bytes),
            each.replace("a event", "an event"),
            manifest.last(),
            head,
        ))?;
        if let Some(why) = not_remembered {
            output::say(&why);
        }
        Ok(Ended::Well)
    }
}

fn why_not_remembered(elsewhere: &OpenElsewhere) -> String {
    format!(
        "the place is not remembered, because the store is open for writing by {}: nobody reads on into it, and nothing is \
         trimmed for it. Say the same once that process has ended: what is sealed stays",
        elsewhere.holder
    )
}

/// Opens the store for writing; beside another process that does, says what to do about `doing`.
fn open_for(context: &Context, doing: &str, instead: &str) -> Result<TaskStore, Error> {
    context.open().map_err(|error| match OpenElsewhere::of(&error) {
        Some(OpenElsewhere { holder }) => {
            StoreError::unavailable(format!("{doing}, but the store is open for writing by {holder}: {instead}")).into()
        }
        None => error,
    })
}

fn verify(context: &Context, url: &str) -> Result<Ended, Error> {
    let past = archive::open(url)?;
    let Some(manifest) = past.manifest()? else {
        return Err(Rejection::not_found(format!("there is no archive at {url}: nothing is sealed there")).into());
    };
    if let Ok(store) = context.open_to_read() {
        let log = store.epoch()?.head.log;
        if log.id != manifest.log {
            return Err(Rejection::conflict(&format!("archive at {url}: log"), log.id, manifest.log).into());
        }
    }
    let began = Instant::now();
    let bar = output::progress(Some(manifest.last().0), "events");
    let report = past.verify(&mut |segment| bar.set_position(segment.last.0))?;
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    for finding in &report.findings {
        if context.out.json {
            context.out.line(json!({ "finding": finding.full() }).to_string())?;
        } else {
            context.out.line(format!("{}✗{} {}", BAD.render(), BAD.render_reset(), finding.full()))?;
        }
    }
    let ok = report.findings.is_empty();
    if !context.out.json {
        for position in &report.damaged {
            context
                .out
                .line(format!("event {position} was sealed as it stood in the log: its checksum was wrong there"))?;
        }
    }
    if context.out.json {
        let value = json!({
            "ok": ok, "archive": url, "segments": report.segments, "first": report.first, "last": report.last,
            "events": report.events, "commits": report.commits, "bytes": report.bytes,
            "findings": report.findings.len(), "damaged": report.damaged, "seconds": seconds,
        });
        context.out.line(value.to_string())?;
    } else {
        let verdict = if ok {
            format!("{}✓{} everything holds", GOOD.render(), GOOD.render_reset())
        } else {
            format!("{}{} damaged segments{}", BAD.render(), report.findings.len(), BAD.render_reset())
        };
        context.out.line(format!(
            "{verdict}: {} events in {} commits read from {} segments, {} bytes, in {seconds:.1} s",
            number(report.events),
            number(report.commits),
            number(report.segments),
            number(report.bytes),
        ))?;
    }
    Ok(if ok { Ended::Well } else { Ended::Refused })
}

impl Trim {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        // A store that is not there must not be made by this.
        let on = context.open_to_read()?.retention()?.is_on();
        let instead = match on {
            true => "it trims by itself, as tasklog retention says, and looks every half minute",
            false => {
                "stop it, say tasklog retention --archive URL --keep-events N (or --keep-hours T), and start it again: from \
                 then on it trims by itself"
            }
        };
        let store = open_for(context, "a trim is written to the store", instead)?;
        let asked = keep_of(self.keep_events, self.keep_hours);
        let keep = if asked == Keep::default() { store.retention()?.keep } else { asked };
        let began = Instant::now();
        let trimmed = store.trim(&keep)?;
        let removed = trimmed.first.0 - trimmed.before.0;
        if context.out.json {
            let value = json!({
                "removed": removed, "first": trimmed.first, "head": trimmed.head, "archived": trimmed.archived,
                "snapshot": trimmed.snapshot, "bound": bound_word(trimmed.bound), "seconds": began.elapsed().as_secs_f64(),
            });
            context.out.line(value.to_string())?;
            return Ok(Ended::Well);
        }
        let why = match trimmed.bound {
            Bound::Archive => format!("the archive ends at event {}", trimmed.archived),
            Bound::Snapshot => format!("the newest snapshot is of event {}", trimmed.snapshot),
            Bound::Events => format!("the newest {} events are kept", number(keep.events.unwrap_or_default())),
            Bound::Age => {
                format!("what is younger than {} hours is kept", keep.age_ms.unwrap_or_default() / HOUR_MS)
            }
            Bound::Newest => "the newest commit always stays".into(),
        };
        context.out.line(format!(
            "{} events removed; the log keeps events {} to {}, because {why} (archive through {}, snapshot of {})",
            number(removed),
            trimmed.first,
            trimmed.head,
            trimmed.archived,
            trimmed.snapshot
        ))?;
        Ok(Ended::Well)
    }
}

fn bound_word(bound: Bound) -> &'static str {
    match bound {
        Bound::Archive => "archive",
        Bound::Snapshot => "snapshot",
        Bound::Events => "keep_events",
        Bound::Age => "keep_hours",
        Bound::Newest => "newest",
    }
}

impl Retention {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        if matches!(context.url, StoreUrl::Memory) {
            return Err(Rejection::invalid("a store in memory ends with its process").into());
        }
        let changes = self.off || self.archive.is_some() || self.keep_events.is_some() || self.keep_hours.is_some();
        let mut store = context.open_to_read()?;
        if changes {
            let instead = "stop it, say this again, and start it again: from then on it does what retention says";
            store = open_for(context, "settings are written to the store", instead)?;
            self.change(&store)?;
        }
        let retention = store.retention()?;
        let Keep { events, age_ms } = retention.keep;
        let on = retention.is_on();
        if context.out.json {
            let value = json!({
                "on": on, "archive": retention.archive, "keep_events": events,
                "keep_hours": age_ms.map(|age| age / HOUR_MS),
            });
            context.out.line(value.to_string())?;
            return Ok(Ended::Well);
        }
        let line = |name: &str, value: String| context.out.line(format!("{name:<12} {value}"));
        let nothing = || "everything".to_owned();
        line("archive", retention.archive.unwrap_or_else(|| "none".into()))?;
        line("keep events", events.map_or_else(nothing, |events| format!("the newest {}", number(events))))?;
        line("keep hours", age_ms.map_or_else(nothing, |age| (age / HOUR_MS).to_string()))?;
        line("background", if on { "the writing process archives and trims" } else { "nothing is trimmed" }.into())
            .map(|()| Ended::Well)
    }

    fn change(&self, store: &TaskStore) -> Result<(), Error> {
        if let Some(url) = &self.archive {
            store.set_archive(Some(url))?;
        }
        if self.off {
            return store.set_keep(&Keep::default());
        }
        let asked = keep_of(self.keep_events, self.keep_hours);
        let held = store.retention()?.keep;
        store.set_keep(&Keep { events: asked.events.or(held.events), age_ms: asked.age_ms.or(held.age_ms) })
    }
}
