use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Instant,
};

use clap::Args;
use tasklog_log::StoreError;

use super::{
    Context, Ended,
    input::{self, Line, Lines},
    on_terminal,
    output::{self, FAINT, GOOD, HEAD, number},
    signals::stop_flag,
};
use crate::{
    Error, OpenOptions, Rejection, StoreUrl, TaskStore,
    engine::{AnyReply, Stream},
    show::visible::visible_json,
    store::{QueuedAnswer, RECORDING_FROM, Recording},
    wire::{self, ParsedLine},
};

/// Lines read ahead of their answers.
const LINES_AHEAD_MAX: usize = 8_192;

/// Apply commands, one JSON object a line:
/// {"command":"tasks.register","args":{…},"actor":…,"reason":…,"request_id":…,"command_id":…,"lease":…} or
/// {"transact":[{"command":…,"args":…},…]}.
///
/// In a pipe, or with --json, one line is answered per input line, in order, once its commit is durable. Lines with
/// "at_ms" are a recording: a store created by this call keeps the recording's time, any other store its own. SIGINT and
/// SIGTERM: what was sent is answered, and the last line that was is named.
#[derive(Args)]
pub(crate) struct Apply {
    /// NDJSON, plain or compressed by zstd or gzip; - for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Stop at the first malformed line
    #[arg(long)]
    strict: bool,
}

/// A line on its way.
struct Sent {
    number: u64,
    name: &'static str,
    commands: u64,
    answer: Result<QueuedAnswer, Error>,
    malformed: bool,
}

impl Apply {
    /// All lines of a file.
    pub(crate) fn file(file: PathBuf) -> Self {
        Self { file, strict: false }
    }

    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let stop = stop_flag()?;
        let mut lines = Lines::new(input::open(&self.file, "apply")?);
        let mut number = 0;
        let mut first = next(&mut lines, &stop)?;
        while first.as_ref().is_some_and(is_blank) {
            number += 1;
            first = next(&mut lines, &stop)?;
        }
        if stop.load(Ordering::Acquire) {
            return Err(stopped(0));
        }
        let (store, created) = open(context, first.as_ref())?;
        let recording = store.recording();
        let quiet = !context.out.json && on_terminal();
        say_clock(recording, created, first.as_ref());
        let began = Instant::now();
        let (sender, answers) = sync_channel(LINES_AHEAD_MAX);
        let strict = self.strict;
        let stream = Stream::default();
        let tally = thread::scope(|scope| {
            let tally = scope.spawn(move || collect(&answers, quiet, strict));
            while let Some(line) = first.take().map_or_else(|| next(&mut lines, &stop), |line| Ok(Some(line)))? {
                number += 1;
                if is_blank(&line) {
                    continue;
                }
                let sent = send(&store, &stream, number, line, recording);
                let stop = strict && sent.malformed;
                // The collector ends early when the store fails or the reader of its output went away.
                if sender.send(sent).is_err() || stop {
                    break;
                }
            }
            drop(sender);
            tally.join().unwrap_or_else(|_| Err(Rejection::invalid("the thread that collects answers panicked").into()))
        })?;
        tally.print(context, &store, began)?;
        match tally.store_error {
            Some(error) => Err(error),
            None if stop.load(Ordering::Acquire) => Err(stopped(number)),
            None if tally.rejected.is_empty() && tally.malformed == 0 => Ok(Ended::Well),
            None => Ok(Ended::Refused),
        }
    }
}

/// The next line; none once a signal asks to stop. What ended because of that may be a part of a line.
fn next(lines: &mut Lines, stop: &AtomicBool) -> Result<Option<Line>, Error> {
    if stop.load(Ordering::Acquire) {
        return Ok(None);
    }
    let read = lines.next();
    if stop.load(Ordering::Acquire) { Ok(None) } else { read }
}

fn stopped(number: u64) -> Error {
    StoreError::unavailable(match number {
        0 => "stopped by a signal before the first line".to_owned(),
        number => format!("stopped by a signal: lines 1 to {number} are answered, none after them was sent"),
    })
    .into()
}

/// Opens the store; one that is not there and is given a recording is created to keep the recording's time.
fn open(context: &Context, first: Option<&Line>) -> Result<(TaskStore, bool), Error> {
    context.refuse_folder()?;
    let created = match &context.url {
        StoreUrl::Sqlite(path) => !path.exists(),
        StoreUrl::Memory => true,
        // Opening it creates it; then nobody has written to it yet.
        StoreUrl::Redis(_) => false,
    };
    // Whether the store is created is its own to decide: a file may be there that is none yet.
    let recording_from = carries_time(first).then_some(RECORDING_FROM);
    let options = OpenOptions { recording_from, ..OpenOptions::default() };
    let store = TaskStore::open_with(&context.url, options)?;
    let created = created || (matches!(context.url, StoreUrl::Redis(_)) && store.head()?.0 == 0);
    Ok((store, created))
}

fn is_blank(line: &Line) -> bool {
    matches!(line, Line::Text(text) if text.trim().is_empty())
}

fn carries_time(line: Option<&Line>) -> bool {
    matches!(line, Some(Line::Text(text)) if wire::parse(text).is_ok_and(|parsed| parsed.at_ms.is_some()))
}

fn say_clock(recording: Option<Recording>, created: bool, first: Option<&Line>) {
    match recording {
        Some(Recording { from }) => {
            let from = output::time(from);
            let which = if created { "new store" } else { "store of a recording" };
            eprintln!("{which}: its clock is the recording's (\"at_ms\"), counted from {from}");
        }
        None if carries_time(first) => {
            eprintln!("\"at_ms\" is ignored: this store was not created for a recording and keeps its own time");
        }
        None => {}
    }
}

fn send(store: &TaskStore, stream: &Stream, number: u64, line: Line, recording: Option<Recording>) -> Sent {
    let parsed = match line {
        Line::Text(text) => wire::parse(&text),
        Line::Bad(why) => Err(Rejection::invalid(why)),
    };
    match parsed {
        Ok(ParsedLine { mut request, at_ms }) => {
            request.stream = Some(stream.clone());
            request.at = recording.zip(at_ms).map(|(recording, at)| recording.from.saturating_add(at));
            let name = request.commands.first().map_or("", |command| command.name());
            let commands = request.commands.len() as u64;
            Sent { number, name, commands, answer: store.queue(request), malformed: false }
        }
        Err(mut rejection) => {
            rejection.message = format!("line {number}: {}", rejection.message);
            Sent { number, name: "", commands: 0, answer: Err(rejection.into()), malformed: true }
        }
    }
}

/// What became of all lines.
#[derive(Default)]
struct Tally {
    commands: u64,
    changed: u64,
    no_ops: u64,
    repeated: u64,
    malformed: u64,
    events: u64,
    rejected: BTreeMap<&'static str, u64>,
    tables: BTreeMap<&'static str, (u64, u64)>,
    store_error: Option<Error>,
}

/// Waits for the answers in order, and writes them.
fn collect(answers: &Receiver<Sent>, quiet: bool, strict: bool) -> Result<Tally, Error> {
    let bar = if quiet { output::progress(None, "lines") } else { indicatif::ProgressBar::hidden() };
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout());
    let mut tally = Tally::default();
    let failed = |error| output::io("writing to standard output", error);
    loop {
        let sent = match answers.try_recv() {
            Ok(sent) => sent,
            Err(_) => {
                // Nothing is waiting: whoever reads should not wait either.
                out.flush().map_err(failed)?;
                let Ok(sent) = answers.recv() else { break };
                sent
            }
        };
        let Sent { number, name, commands, answer, malformed } = sent;
        let answer = answer.and_then(QueuedAnswer::wait);
        tally.note(name, commands, malformed, &answer);
        if quiet {
            bar.set_position(number);
            if number.is_multiple_of(512) {
                bar.set_message(format!("{} rejected", tally.rejected.values().sum::<u64>()));
            }
        } else {
            writeln!(out, "{}", visible_json(&wire::answer_line(number, &answer))).map_err(failed)?;
        }
        if let Err(error @ Error::Store(_)) = answer {
            tally.store_error = Some(error);
            break;
        }
        if strict && malformed {
            break;
        }
    }
    out.flush().map_err(failed)?;
    bar.finish_and_clear();
    Ok(tally)
}

impl Tally {
    fn note(&mut self, name: &'static str, commands: u64, malformed: bool, answer: &Result<AnyReply, Error>) {
        self.commands += commands;
        if malformed {
            self.malformed += 1;
            return;
        }
        let table = self.tables.entry(name.split('.').next().unwrap_or_default()).or_default();
        table.0 += commands;
        match answer {
            Ok(reply) if reply.meta.repeated => self.repeated += 1,
            Ok(reply) => match reply.meta.first {
                Some(first) => {
                    self.changed += 1;
                    self.events += reply.meta.position.0 + 1 - first.0;
                    table.1 += reply.meta.position.0 + 1 - first.0;
                }
                None => self.no_ops += 1,
            },
            Err(Error::Rejected(rejection)) => *self.rejected.entry(rejection.kind.as_str()).or_default() += 1,
            Err(Error::Store(_)) => {}
        }
    }

    /// Tells a person what happened; in a pipe it goes to standard error, beside the answers.
    fn print(&self, context: &Context, store: &TaskStore, began: Instant) -> Result<(), Error> {
        use std::fmt::Write;
        let seconds = began.elapsed().as_secs_f64();
        let rejected: u64 = self.rejected.values().sum();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}{}{} commands read and answered in {seconds:.1} s ({} a second): {} events, every one durable",
            GOOD.render(),
            number(self.commands),
            GOOD.render_reset(),
            number((self.commands as f64 / seconds.max(0.001)) as u64),
            number(self.events),
        );
        let _ = writeln!(text, "  {:>9}  changed something (a transact counts once)", number(self.changed));
        let _ = writeln!(text, "  {:>9}  had nothing to change", number(self.no_ops));
        if self.repeated > 0 {
            let _ = writeln!(
                text,
                "  {:>9}  were known by their command_id and answered as the first time",
                number(self.repeated)
            );
        }
        let kinds: Vec<_> = self.rejected.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let _ = writeln!(
            text,
            "  {:>9}  rejected, without a trace in the tables{}",
            number(rejected),
            if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) }
        );
        if self.malformed > 0 {
            let _ = writeln!(text, "  {:>9}  lines were no commands", number(self.malformed));
        }
        let _ = writeln!(
            text,
            "{}{:<24}{:>9}{:>10}{:>10}{}",
            HEAD.render(),
            "table",
            "commands",
            "events",
            "rows",
            HEAD.render_reset()
        );
        for (name, count) in store.counts()? {
            let (commands, events) = self.tables.get(name).copied().unwrap_or_default();
            let _ = writeln!(text, "{name:<24}{:>9}{:>10}{:>10}", number(commands), number(events), number(count));
        }
        let _ = writeln!(
            text,
            "{}(a transact is counted under the table of its first command){}",
            FAINT.render(),
            FAINT.render_reset()
        );
        let _ = writeln!(text, "The store is {}, its log ends at event {}. Now try:", context.url, store.head()?);
        let _ = write!(text, "  tasklog list tasks --where status=failed    tasklog log --reverse    tasklog verify");
        if !context.out.json && on_terminal() {
            return context.out.lines(&text);
        }
        output::say(&text);
        Ok(())
    }
}
