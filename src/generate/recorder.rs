use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use serde_json::Value;
use tasklog_log::{Log, ManualClock, Position, READ_EVENTS_MAX};

use super::line::Line;
use crate::{
    backend::MemoryBackend,
    config::Config,
    engine::{AnyReply, Engine},
    rejection::{Error, RejectionKind},
    store::RECORDING_FROM,
    wire,
};

/// What a recording holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines: a command or a transact each.
    pub lines: u64,
    /// Their size, line ends included.
    pub bytes: u64,
    /// By command; those of a transact count each.
    pub commands: BTreeMap<&'static str, Tally>,
    /// Refused lines by kind of the rejection.
    pub rejections: BTreeMap<&'static str, u64>,
    /// Events by table.
    pub events: BTreeMap<String, u64>,
    /// Events by type.
    pub event_types: BTreeMap<String, u64>,
}

/// How often something was done, did nothing, and was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// With events.
    pub changed: u64,
    /// Without: the effect was already there.
    pub no_op: u64,
    /// Not at all.
    pub refused: u64,
}

impl Summary {
    /// Lines that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.rejections.values().sum()
    }
}

/// What the store said to a line.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Reply(Value),
    Refusal(RejectionKind, String),
}

/// Writes lines, after the store has answered them.
pub(super) struct Recorder<'o> {
    out: &'o mut dyn Write,
    engine: Engine<MemoryBackend>,
    pub(super) summary: Summary,
}

impl<'o> Recorder<'o> {
    pub(super) fn new(out: &'o mut dyn Write) -> io::Result<Self> {
        let clock = ManualClock::at(RECORDING_FROM);
        let backend = MemoryBackend::new(Arc::new(clock)).map_err(io::Error::other)?;
        let engine = Engine::new(backend, Config::default(), "generate".into()).map_err(io::Error::other)?;
        Ok(Self { out, engine, summary: Summary::default() })
    }

    /// Says a line at an instant of the recording.
    pub(super) fn say(&mut self, at_ms: u64, line: &Line) -> io::Result<Said> {
        let text = line.text(at_ms);
        writeln!(self.out, "{text}")?;
        self.summary.lines += 1;
        self.summary.bytes += text.len() as u64 + 1;
        let said = match self.answer(&text, at_ms) {
            Ok(reply) => Said::Reply(serde_json::from_str(&wire::reply_json(&reply))?),
            Err(Error::Rejected(rejection)) => Said::Refusal(rejection.kind, rejection.message),
            Err(Error::Store(error)) => return Err(io::Error::other(format!("{}: {text}", error.full()))),
        };
        self.count(line, &said);
        Ok(said)
    }

    /// What the store answers at an instant of the recording.
    fn answer(&mut self, text: &str, at_ms: u64) -> Result<AnyReply, Error> {
        let mut request = wire::parse(text)?.request;
        request.at = Some(RECORDING_FROM + at_ms.cast_signed());
        self.engine.execute(request)
    }

    fn count(&mut self, line: &Line, said: &Said) {
        for name in line.names() {
            let tally = self.summary.commands.entry(name).or_default();
            match said {
                Said::Reply(reply) if reply["changed"] == true => tally.changed += 1,
                Said::Reply(_) => tally.no_op += 1,
                Said::Refusal(..) => tally.refused += 1,
            }
        }
        if let Said::Refusal(kind, _) = said {
            *self.summary.rejections.entry(kind.as_str()).or_default() += 1;
        }
    }

    /// Counts the events.
    pub(super) fn finish(mut self) -> io::Result<Summary> {
        self.out.flush()?;
        let log = &self.engine.backend().log;
        let mut after = Position::ZERO;
        loop {
            let commits = log.read(after, READ_EVENTS_MAX).map_err(io::Error::other)?;
            let Some(last) = commits.last() else { return Ok(self.summary) };
            after = last.last();
            for event in commits.iter().flat_map(|commit| &commit.events) {
                *self.summary.events.entry(event.table.to_string()).or_default() += 1;
                *self.summary.event_types.entry(event.event_type.to_string()).or_default() += 1;
            }
        }
    }
}
