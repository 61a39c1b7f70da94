//! Reading the task queue of a Meilisearch v6 dump.
//!
//! A dump is a gzipped tar archive in no promised order: `metadata.json` says which version it has, and
//! `tasks/queue.jsonl` holds one task a line. Both are found by their exact path, so that the stray entries of real
//! dumps (`tasks/._queue.jsonl`) are never taken for them. The archive is walked twice, first for the version alone: a
//! dump that cannot be imported is refused before its first task is handed out. Memory is bounded by the longest line.
//!
//! ```text
//!   open dump ──► metadata.json: V6? ──rewind──► tasks/queue.jsonl ──line by line──► tasks.import, one command a task
//! ```
//!
//! Architecture invariant: this module makes commands and runs none.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Seek},
    ops::ControlFlow,
    path::{Component, Path},
};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tasklog_projections::{check_key, tables::tasks::TaskStatus};

use crate::tables::tasks::Import;

/// The only version that can be imported.
pub const DUMP_VERSION: &str = "V6";
/// The longest line of a queue, in bytes; a longer one is skipped with an error.
pub const LINE_BYTES_MAX: usize = 64 << 20;
/// The longest `metadata.json`, in bytes.
const METADATA_BYTES_MAX: u64 = 64 << 10;

const METADATA: [&str; 1] = ["metadata.json"];
const QUEUE: [&str; 2] = ["tasks", "queue.jsonl"];

/// Why a dump cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The file is no gzipped tar archive, is damaged, or is cut short.
    #[error("reading the dump: {0}")]
    Io(#[from] io::Error),
    /// The archive has no `metadata.json`.
    #[error("the archive has no metadata.json: it is no Meilisearch dump")]
    NoMetadata,
    /// The `metadata.json` does not say which version the dump has.
    #[error("metadata.json: {0}")]
    Metadata(#[source] serde_json::Error),
    /// The dump has another version.
    #[error("dump version: expected {DUMP_VERSION:?}, found {found:?}")]
    Version {
        /// What `metadata.json` says.
        found: String,
    },
    /// The archive has no task queue.
    #[error("the dump has no tasks/queue.jsonl")]
    NoQueue,
    /// The node id is no key.
    #[error("{0}")]
    Node(String),
}

/// A line of the queue that is no task. The lines after it are read all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tasks/queue.jsonl line {line}: {why}")]
pub struct LineError {
    /// Counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What a dump was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The version of the server that wrote it, if it says.
    pub db_version: Option<String>,
    /// How many tasks were handed out.
    pub tasks: u64,
    /// How many lines were no task.
    pub refused: u64,
}

/// Reads the task queue of a dump and hands out one [`Import`] a task in the order of the queue, or what is wrong with a
/// line, until `meet` breaks. `node` is the id of the node that wrote the dump. The same dump and node give the same
/// commands, so a repeated import changes nothing.
///
/// # Errors
/// [`DumpError`]. Everything but [`DumpError::Io`] comes before the first task.
pub fn read_dump<B>(
    mut file: impl Read + Seek,
    node: &str,
    mut meet: impl FnMut(Result<Import, LineError>) -> ControlFlow<B>,
) -> Result<ControlFlow<B, Dump>, DumpError> {
    check_key("node", node).map_err(DumpError::Node)?;
    let start = file.stream_position()?;
    let metadata = read_metadata(&mut file)?;
    file.seek(io::SeekFrom::Start(start))?;
    let mut dump = Dump { db_version: metadata.db_version, tasks: 0, refused: 0 };
    let read = in_entry(&mut file, &QUEUE, |queue| {
        lines(queue, |line, text| {
            let task = text.and_then(|text| import(text, node)).map_err(|why| LineError { line, why });
            let counter = if task.is_ok() { &mut dump.tasks } else { &mut dump.refused };
            *counter += 1;
            meet(task)
        })
    })?;
    match read {
        None => Err(DumpError::NoQueue),
        Some(ControlFlow::Break(value)) => Ok(ControlFlow::Break(value)),
        Some(ControlFlow::Continue(())) => Ok(ControlFlow::Continue(dump)),
    }
}

/// The id that a node's task gets here: `mtask-<uuid>`, where the UUID (version 8) is made of a SHA-256 over the node id
/// and the task's number, so that it is the same at every import.
#[must_use]
pub fn task_id(node: &str, uid: u64) -> String {
    let digest = Sha256::new().chain_update(b"meilisearch task\0").chain_update(uid.to_be_bytes()).chain_update(node);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    format!("mtask-{}", uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    dump_version: String,
    db_version: Option<String>,
}

fn read_metadata(file: impl Read) -> Result<Metadata, DumpError> {
    let text = in_entry(file, &METADATA, |entry| {
        let mut text = Vec::new();
        entry.take(METADATA_BYTES_MAX).read_to_end(&mut text)?;
        Ok(text)
    })?;
    let metadata: Metadata =
        serde_json::from_slice(&text.ok_or(DumpError::NoMetadata)?).map_err(DumpError::Metadata)?;
    if metadata.dump_version != DUMP_VERSION {
        return Err(DumpError::Version { found: metadata.dump_version });
    }
    Ok(metadata)
}

/// Reads the file with this path in the archive; none if there is none.
fn in_entry<T>(
    file: impl Read,
    path: &[&str],
    read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<Option<T>> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file)));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() && is_path(&entry.path()?, path) {
            let mut whole = Whole { left: entry.size(), entry: &mut entry };
            return read(&mut whole).map(Some);
        }
    }
    Ok(None)
}

/// Whether both are the same path. A leading `./` does not count.
fn is_path(found: &Path, wanted: &[&str]) -> bool {
    let found = found.components().filter(|component| *component != Component::CurDir);
    found.map(Component::as_os_str).eq(wanted.iter().copied())
}

/// An entry that does not end before its size: a cut archive is an error, not a short queue.
struct Whole<R> {
    entry: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.entry.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        if read == 0 && !buffer.is_empty() && self.left > 0 {
            let why = format!("the archive ends {} bytes before its entry does", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        Ok(read)
    }
}

/// Meets every line that is not blank, with its number.
fn lines<B>(
    queue: &mut dyn Read,
    mut meet: impl FnMut(u64, Result<&[u8], String>) -> ControlFlow<B>,
) -> io::Result<ControlFlow<B>> {
    let mut queue = BufReader::new(queue);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = queue.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut text)?;
        if read == 0 {
            break;
        }
        let met = if read > LINE_BYTES_MAX && !text.ends_with(b"\n") {
            text = Vec::new();
            queue.skip_until(b'\n')?;
            meet(line, Err(format!("longer than {LINE_BYTES_MAX} bytes")))
        } else if text.trim_ascii().is_empty() {
            continue;
        } else {
            meet(line, Ok(&text))
        };
        if let ControlFlow::Break(value) = met {
            return Ok(ControlFlow::Break(value));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A line of the queue, as far as it matters here: details, batches and whatever later versions add are passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueuedTask<'a> {
    uid: u64,
    index_uid: Option<String>,
    status: TaskStatus,
    #[serde(rename = "type", borrow)]
    kind: &'a RawValue,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    enqueued_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
}

fn import(line: &[u8], node: &str) -> Result<Import, String> {
    let task: QueuedTask<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let optional_instant =
        |what: &str, text: &Option<String>| text.as_deref().map(|text| instant(what, text)).transpose();
    Ok(Import {
        miroir_id: task_id(node, task.uid),
        node_id: node.to_owned(),
        task_uid: task.uid,
        status: task.status,
        created_at: instant("enqueuedAt", &task.enqueued_at)?,
        error: task.error.map(error_text),
        index_uid: task.index_uid,
        task_type: Some(kind_name(task.kind)?),
        started_at: optional_instant("startedAt", &task.started_at)?,
        finished_at: optional_instant("finishedAt", &task.finished_at)?,
    })
}

/// RFC 3339, up to nanoseconds, to whole milliseconds since the epoch.
fn instant(what: &str, text: &str) -> Result<i64, String> {
    let instant: Timestamp = text.parse().map_err(|error| format!("{what}: {error}"))?;
    Ok(instant.as_millisecond())
}

/// A kind is a string, or an object whose one key names it and whose value holds the details.
fn kind_name(kind: &RawValue) -> Result<String, String> {
    let text = kind.get();
    if let Ok(name) = serde_json::from_str(text) {
        return Ok(name);
    }
    let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(text).unwrap_or_default();
    let mut names = members.into_keys();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        _ => Err(format!("type: expected a string or an object with one key, found {text:.80}")),
    }
}

#[derive(Deserialize)]
struct QueuedError {
    message: String,
    code: Option<String>,
}

/// What Meilisearch says, and its code in parentheses; a form that is not known is kept as it stands.
fn error_text(error: &RawValue) -> String {
    let text = error.get();
    match serde_json::from_str::<QueuedError>(text) {
        Ok(QueuedError { message, code: Some(code) }) => format!("{message} ({code})"),
        Ok(QueuedError { message, code: None }) => message,
        Err(_) => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    }
}

#[cfg(test)]
#[path = "meilisearch_tests.rs"]
mod tests;
