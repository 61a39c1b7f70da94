//! The log as lines of JSON, for other programs and for the eye, and back: same positions, ids, instants and bytes.
//! `docs/formats.md` shows the lines.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tasklog_log::{
    Checkpoint, Commit, CommitId, CommitMeta, Event, Log, LogId, LogInfo, Millis, NewCommit, Outcome, Position, Revs,
    StoreError, Stored, check_adopted, read_checked,
};
use tasklog_replay::follow::Source;

use crate::rejection::{Error, Rejection};

/// The newest format of exports.
pub const EXPORT_VERSION: u32 = 1;
/// Events read at once.
const PAGE_EVENTS: usize = 4_000;
/// A line has at most this many bytes: the payload of a commit, twice.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Events between two places of a file that are remembered.
const INDEX_EVENTS: u64 = 4_000;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    tasklog_export: u32,
    log_id: LogId,
    epoch: u64,
    from: Position,
    /// Whether sensitive values are masked; then the bytes are left out, and it cannot be imported.
    masked: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recording_from: Option<Millis>,
}

/// An event.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    position: Position,
    commit_id: CommitId,
    /// The position of its commit's first event.
    commit_first: Position,
    recorded_at: Millis,
    /// `recorded_at` for the eye.
    time: String,
    actor: String,
    reason: Option<String>,
    request_id: Option<String>,
    table: String,
    key: String,
    r#type: String,
    type_version: u32,
    prev: Option<Position>,
    payload: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Footer {
    events: u64,
    last: Position,
    /// Of all lines before, with their line ends, in hex.
    sha256: String,
}

/// Shows an event: its key, and its payload as JSON.
pub type Show<'e> = dyn FnMut(&Event) -> Result<(String, String), Error> + 'e;

/// What is exported, and how it is shown.
pub struct Exporting<'e> {
    /// From the commit that holds this position on.
    pub from: Position,
    /// Through the commit that holds this position; the head if there is none.
    pub to: Option<Position>,
    /// Whether `show` masks sensitive values: then the bytes are left out.
    pub masked: bool,
    /// ms: what offset 0 stands for, if the store keeps a recording's time.
    pub recording_from: Option<Millis>,
    /// What is shown of an event.
    pub show: &'e mut Show<'e>,
}

/// Writes a log as lines; answers how many events there were, and the last position.
///
/// # Errors
/// `invalid` for a position that the log does not have; `corrupt` for an event with a wrong checksum; `unavailable` if
/// `out` fails.
pub fn export(log: &dyn Log, what: Exporting<'_>, out: &mut dyn Write) -> Result<(u64, Position), Error> {
    let Exporting { from, to, masked, recording_from, show } = what;
    let (head, first) = (log.head()?, log.first()?);
    let to = to.unwrap_or(head.position);
    if from < first || from > head.position.next() || to > head.position {
        let why = format!("events {from} to {to}: the log has events {first} to {}", head.position);
        return Err(Rejection::invalid(why).into());
    }
    let mut out = Hashing { out, sha256: Sha256::new() };
    let begin = log.event(from)?.map_or(from, |(commit, _)| commit.first());
    let LogInfo { id, epoch } = head.log;
    let header = Header { tasklog_export: EXPORT_VERSION, log_id: id, epoch, from: begin, masked, recording_from };
    out.line(&header)?;
    let (mut after, mut events) = (begin.before(), 0);
    while after < to {
        for commit in read_checked(log, after, PAGE_EVENTS)? {
            if after >= to {
                break;
            }
            after = commit.last();
            for event in &commit.events {
                let (key, payload) = show(event)?;
                out.line(&line(&commit, event, masked, key, payload)?)?;
                events += 1;
            }
        }
    }
    let sha256 = hex::encode(out.sha256.clone().finalize());
    out.line(&Footer { events, last: after, sha256 })?;
    Ok((events, after))
}

fn line(commit: &Commit, event: &Event, masked: bool, key: String, payload: String) -> Result<Line, StoreError> {
    let CommitMeta { id, actor, reason, request_id } = &commit.meta;
    let recorded_at = commit.recorded_at;
    let time = jiff::Timestamp::from_millisecond(recorded_at).map_or_else(|_| String::new(), |at| format!("{at:.3}"));
    let payload =
        RawValue::from_string(payload).map_err(|error| StoreError::corrupt(event.position, error.to_string()))?;
    Ok(Line {
        position: event.position,
        commit_id: *id,
        commit_first: commit.first(),
        recorded_at,
        time,
        actor: actor.to_string(),
        reason: reason.as_deref().map(str::to_owned),
        request_id: request_id.as_deref().map(str::to_owned),
        table: event.table.to_string(),
        key,
        r#type: event.event_type.to_string(),
        type_version: event.type_version,
        prev: event.prev,
        payload,
        payload_base64: (!masked).then(|| BASE64_STANDARD.encode(&event.payload)),
        checksum: (!masked).then(|| format!("{:08x}", event.checksum)),
    })
}

struct Hashing<'o> {
    out: &'o mut dyn Write,
    sha256: Sha256,
}

impl Hashing<'_> {
    fn line(&mut self, value: &impl Serialize) -> Result<(), StoreError> {
        let failed = |error: std::io::Error| StoreError::unavailable_because("writing an export", error);
        let mut text = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        self.sha256.update(&text);
        self.out.write_all(&text).map_err(failed)
    }
}

/// An exported log, for reading: its digest and every event were checked when it was opened.
pub struct Exported {
    path: PathBuf,
    header: Header,
    head: Checkpoint,
    /// Where commits begin in the file: some of them.
    index: Vec<(Position, u64)>,
}

impl Exported {
    /// Reads the whole file once, and checks it.
    ///
    /// # Errors
    /// `invalid` for a file that is no export, is not whole, or is masked; `corrupt` at the first event that is wrong;
    /// `schema_ahead` for a newer format; `unavailable`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut lines = Lines::open(path, 0)?;
        let refuse = |why: String| Error::from(Rejection::invalid(format!("{}: {why}", path.display())));
        let first = lines.next()?.unwrap_or_default();
        let header: Header = serde_json::from_str(&first)
            .map_err(|error| refuse(format!("its first line is not that of an exported log: {error}")))?;
        if header.tasklog_export > EXPORT_VERSION {
            let (found, known) = (header.tasklog_export, EXPORT_VERSION);
            return Err(StoreError::SchemaAhead { what: "export".into(), found, known }.into());
        }
        if header.masked {
            return Err(refuse(
                "its sensitive values are masked: only an export with --show-sensitive has all of the log".into(),
            ));
        }
        let log = LogInfo { id: header.log_id, epoch: header.epoch };
        let mut head = Checkpoint { position: header.from.before(), ..Checkpoint::start(log) };
        let mut index: Vec<(Position, u64)> = Vec::new();
        let mut sha256 = Sha256::new().chain_update(&first);
        let (mut at, mut events) = (lines.at, 0);
        let mut commit: Option<Commit> = None;
        let mut commit_at = at;
        let mut take = |commit: Option<Commit>, at: u64| -> Result<(), StoreError> {
            let Some(commit) = commit else { return Ok(()) };
            head = check_adopted(&head, std::slice::from_ref(&commit))?;
            if index.last().is_none_or(|(last, _)| commit.first().0 >= last.0 + INDEX_EVENTS) {
                index.push((commit.first(), at));
            }
            Ok(())
        };
        loop {
            let text = lines.next()?.ok_or_else(|| refuse("it is not whole: its last line is missing".into()))?;
            if let Ok(footer) = serde_json::from_str::<Footer>(&text) {
                take(commit.take(), commit_at)?;
                let found = hex::encode(sha256.finalize());
                if found != footer.sha256 || footer.events != events || footer.last != head.position {
                    return Err(refuse(format!(
                        "expected {} events through {} with SHA-256 {}, found {events} through {} with {found}",
                        footer.events, footer.last, footer.sha256, head.position
                    )));
                }
                if lines.next()?.is_some() {
                    return Err(refuse("it goes on after its last line".into()));
                }
                break;
            }
            sha256.update(&text);
            let parsed = Parsed::of(&text).map_err(|why| refuse(format!("line {}: {why}", events + 2)))?;
            events += 1;
            match &mut commit {
                Some(commit) if commit.first() == parsed.commit_first => parsed.join(commit),
                _ => {
                    take(commit.take(), commit_at)?;
                    commit_at = at;
                    commit = Some(parsed.begin());
                }
            }
            at = lines.at;
        }
        Ok(Self { path: path.into(), header, head, index })
    }

    /// ms: what offset 0 stands for, if the store kept a recording's time.
    #[must_use]
    pub fn recording_from(&self) -> Option<Millis> {
        self.header.recording_from
    }
}

struct Lines {
    reader: BufReader<File>,
    at: u64,
    path: PathBuf,
}

impl Lines {
    fn open(path: &Path, at: u64) -> Result<Self, StoreError> {
        let failed = |error| StoreError::unavailable_because(format!("reading {}", path.display()), error);
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        reader.seek(SeekFrom::Start(at)).map_err(failed)?;
        Ok(Self { reader, at, path: path.into() })
    }

    /// The next line with its line end.
    fn next(&mut self) -> Result<Option<String>, StoreError> {
        let mut text = String::new();
        let read = std::io::Read::take(&mut self.reader, LINE_BYTES_MAX).read_line(&mut text);
        let read =
            read.map_err(|error| StoreError::unavailable_because(format!("reading {}", self.path.display()), error))?;
        self.at += read as u64;
        Ok((read > 0).then_some(text))
    }
}

/// An event's line, with what is common to its commit.
struct Parsed {
    meta: CommitMeta,
    recorded_at: Millis,
    commit_first: Position,
    event: Event,
}

impl Parsed {
    fn of(text: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let payload = line.payload_base64.ok_or("it has no payload_base64")?;
        let payload = BASE64_STANDARD.decode(payload).map_err(|error| format!("payload_base64: {error}"))?;
        let checksum = line.checksum.and_then(|checksum| u32::from_str_radix(&checksum, 16).ok());
        let meta = CommitMeta {
            id: line.commit_id,
            actor: line.actor.into(),
            reason: line.reason.map(Arc::from),
            request_id: line.request_id.map(Arc::from),
        };
        let event = Event {
            position: line.position,
            table: Arc::<str>::from(line.table).into(),
            key: line.key.into(),
            event_type: Arc::<str>::from(line.r#type).into(),
            type_version: line.type_version,
            prev: line.prev,
            payload,
            checksum: checksum.ok_or("its checksum is not eight hexadecimal digits")?,
        };
        Ok(Self { meta, recorded_at: line.recorded_at, commit_first: line.commit_first, event })
    }

    fn begin(self) -> Commit {
        Commit { meta: self.meta, recorded_at: self.recorded_at, events: vec![self.event] }
    }

    /// What is common is taken from the first event; if it differs, the checksum of this one is wrong.
    fn join(self, commit: &mut Commit) {
        commit.events.push(self.event);
    }
}

fn refused() -> StoreError {
    StoreError::ReadOnly("an exported log takes no commits".into())
}

impl Log for Exported {
    fn info(&self) -> Result<LogInfo, StoreError> {
        Ok(self.head.log)
    }

    fn now(&self) -> Result<Millis, StoreError> {
        Ok(self.head.recorded_at)
    }

    fn append(&mut self, _: Millis, _: &[NewCommit], _: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        Err(refused())
    }

    fn adopt(&mut self, _: &[Commit]) -> Result<(), StoreError> {
        Err(refused())
    }

    fn adopt_identity(&mut self, _: LogInfo) -> Result<(), StoreError> {
        Err(refused())
    }

    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let at = self.index.partition_point(|(first, _)| *first <= after.next());
        let Some((_, at)) = at.checked_sub(1).and_then(|at| self.index.get(at)).or(self.index.first()) else {
            return Ok(Vec::new());
        };
        let mut lines = Lines::open(&self.path, *at)?;
        let mut commits: Vec<Commit> = Vec::new();
        let mut events = 0;
        let mut current: Option<Commit> = None;
        while let Some(text) = lines.next()? {
            // The last line is no event; everything before it was read once already.
            let Ok(parsed) = Parsed::of(&text) else { break };
            match &mut current {
                Some(commit) if commit.first() == parsed.commit_first => parsed.join(commit),
                _ => {
                    let whole = current.replace(parsed.begin()).filter(|commit| commit.last() > after);
                    events += whole.as_ref().map_or(0, |commit| commit.events.len());
                    commits.extend(whole);
                    if events >= limit {
                        return Ok(commits);
                    }
                }
            }
        }
        commits.extend(current.filter(|commit| commit.last() > after));
        Ok(commits)
    }

    fn head(&self) -> Result<Checkpoint, StoreError> {
        Ok(self.head)
    }

    fn first(&self) -> Result<Position, StoreError> {
        Ok(self.header.from)
    }

    fn find(&self, _: CommitId) -> Result<Option<Stored>, StoreError> {
        Ok(None)
    }

    fn wait(&self, _: Position, _: Duration) -> Result<Position, StoreError> {
        Ok(self.head.position)
    }
}

impl Source for Exported {
    fn session(&self, look: &mut dyn FnMut(&dyn Log) -> Result<(), StoreError>) -> Result<(), StoreError> {
        look(self)
    }
}
