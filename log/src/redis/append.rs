use std::{sync::LazyLock, time::Duration};

use super::{ENTRY_LUA, Keys, Link, Script, is_answer_lost, log::PARTS_LUA, read};
use crate::{Checkpoint, Commit, CommitId, LogInfo, Millis, Position, StoreError};

static APPEND: LazyLock<Script> =
    LazyLock::new(|| Script::of_parts(&[ENTRY_LUA, PARTS_LUA, include_str!("append.lua")]));
/// A call whose answer is lost is made again this many times: it names the head it follows, so it happens once at most.
const CALLS_MAX: usize = 2;

/// A commit as the appending script takes it.
pub(super) struct Entry {
    last: Position,
    recorded_at: Millis,
    commit: CommitId,
    /// Field `c`.
    pub(super) bytes: Vec<u8>,
    /// What its answer key will hold.
    answer: Option<Vec<u8>>,
}

impl Entry {
    pub(super) fn of(commit: &Commit, bytes: Vec<u8>, answer: Option<&[u8]>) -> Self {
        let answer = answer.map(|answer| {
            let head = format!("{} {} {}\n", commit.first(), commit.last(), commit.recorded_at);
            [head.as_bytes(), answer].concat()
        });
        Self { last: commit.last(), recorded_at: commit.recorded_at, commit: commit.meta.id, bytes, answer }
    }

    /// The head after it.
    pub(super) fn checkpoint(&self, log: LogInfo) -> Checkpoint {
        Checkpoint { log, position: self.last, commit: self.commit, recorded_at: self.recorded_at }
    }
}

/// Appends `entries`, all or none, right after `head`. False if the head is another one by now.
pub(super) fn add(
    link: &Link,
    keys: &Keys,
    head: &Checkpoint,
    entries: &[Entry],
    answer_retention: Duration,
) -> Result<bool, StoreError> {
    let [Some(first), ..] = [entries.first()] else { return Ok(true) };
    let mut names = vec![keys.log().to_owned(), keys.head().to_owned(), keys.identity().to_owned()];
    let mut args = vec![
        head.position.to_string().into_bytes(),
        head.commit.to_string().into_bytes(),
        answer_retention.as_millis().max(1).to_string().into_bytes(),
    ];
    for entry in entries {
        args.push(entry.last.to_string().into_bytes());
        args.push(entry.recorded_at.to_string().into_bytes());
        args.push(entry.commit.to_string().into_bytes());
        args.push(entry.bytes.clone());
        args.push(entry.answer.clone().unwrap_or_default());
        if entry.answer.is_some() {
            names.push(keys.answer(entry.commit));
        }
    }
    let mut answer_lost = None;
    for _ in 0..CALLS_MAX {
        let mut is_lost = false;
        let called = link.call(|conn| {
            APPEND.run::<bool, _, _>(conn, &names, &args).inspect_err(|error| is_lost = is_answer_lost(error))
        });
        match called {
            Ok(true) => return Ok(true),
            // Perhaps it was moved by the call before, whose answer was lost.
            Ok(false) if answer_lost.is_some() => {
                let stored = read::commit_from(link, keys, first.last)?;
                return Ok(stored.is_some_and(|commit| commit.meta.id == first.commit && commit.last() == first.last));
            }
            Ok(false) => return Ok(false),
            Err(error) if is_lost || answer_lost.is_some() => answer_lost = Some(error),
            Err(error) => return Err(error),
        }
    }
    let doing = format!("appending commit {}: whether it is in the log is unknown", first.commit);
    Err(match answer_lost {
        Some(error) => StoreError::unavailable_because(doing, error),
        None => StoreError::unavailable(doing),
    })
}
