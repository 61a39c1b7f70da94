//! Jobs that are done in chunks: a parent is split by its claimant, and settles on its children.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tasklog_projections::{
    Cell, Json, Scan,
    tables::jobs::{JobCompleted, JobEnqueued, JobFailed, JobRow, JobSplit, JobState, Jobs},
};

use crate::{
    command::Command,
    decision::Decision,
    rejection::{Error, Rejection},
    tables::jobs::{existing, still_claimed},
    text,
};

/// How many chunks one split may name: with the parent's own event they fill a commit.
pub const CHUNKS_MAX: usize = 999;

/// Splits a claimed job into chunks, in one or more steps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The job.
    pub id: String,
    /// The claim.
    pub token: i64,
    /// The input of each chunk, an object. `parent_id`, `chunk_index` and `total_chunks` are added where they are missing.
    pub chunks: Vec<Json>,
    /// Number of the first of these chunks, from 0.
    pub first_chunk: i64,
    /// How many chunks the job has in all.
    pub total_chunks: i64,
    /// Whether these are the last ones: the job is then delegated to its chunks.
    pub last: bool,
}

/// The chunks of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SplitAnswer {
    /// Their job ids, in order.
    pub children: Vec<String>,
}

/// One chunk on its way into the queue.
struct Chunk {
    id: String,
    index: i64,
    params: Json,
}

impl Command for Split {
    const NAME: &'static str = "jobs.split";
    const ABOUT: &'static str = "Splits a claimed job into chunks, which are jobs of their own";
    type Answer = SplitAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<SplitAnswer, Error> {
        self.check()?;
        let chunks = self.chunks()?;
        let children = chunks.iter().map(|chunk| chunk.id.clone()).collect();
        let parent = existing(cx, &self.id)?;
        // A repeat of the last step, whose answer was lost, finds the claim over and its chunks there.
        let repeat = self.last && parent.is_delegated() && parent.claim_token == Some(self.token);
        if !repeat {
            still_claimed(cx, &parent, self.token)?;
        }
        for chunk in chunks {
            if !self.is_there(cx, &chunk)? {
                still_claimed(cx, &parent, self.token)?;
                self.enqueue(cx, &parent, chunk)?;
            }
        }
        if !repeat {
            self.mark_parent(cx, &parent)?;
        }
        Ok(SplitAnswer { children })
    }
}

impl Split {
    fn check(&self) -> Result<(), Rejection> {
        let (count, first, total) = (self.chunks.len(), self.first_chunk, self.total_chunks);
        if count > CHUNKS_MAX {
            return Err(Rejection::invalid(format!("chunks: at most {CHUNKS_MAX} a call, found {count}")));
        }
        text::at_least("first_chunk", 0, first)?;
        text::at_least("total_chunks", 1, total)?;
        let end = first.saturating_add(self.step());
        if end > total || (self.last && end != total) {
            let what = if self.last { "the last chunks end" } else { "chunks end" };
            return Err(Rejection::invalid(format!("{what} at {end} of total_chunks {total}")));
        }
        Ok(())
    }

    /// How many chunks this step covers.
    fn step(&self) -> i64 {
        // At most CHUNKS_MAX.
        self.chunks.len() as i64
    }

    fn chunks(&self) -> Result<Vec<Chunk>, Rejection> {
        let numbered = (self.first_chunk..).zip(&self.chunks);
        numbered
            .map(|(index, params)| {
                let id = format!("{}-c{index:04}", self.id);
                text::key("id of a chunk", &id)?;
                let params = self.child_params(index, params)?;
                Ok(Chunk { id, index, params })
            })
            .collect()
    }

    /// The input of a chunk, with what every chunk says of its place. A value that says it already passes unchanged.
    fn child_params(&self, index: i64, given: &Json) -> Result<Json, Rejection> {
        let what = format!("chunk {index}");
        text::object(&what, given)?;
        let wrong = |why: String| Rejection::invalid(format!("{what}: {why}"));
        let canonical = given.canonical().map_err(wrong)?;
        let mut members: BTreeMap<String, Json> =
            serde_json::from_str(&canonical).map_err(|error| wrong(error.to_string()))?;
        let place =
            [("parent_id", json!(self.id)), ("chunk_index", json!(index)), ("total_chunks", json!(self.total_chunks))];
        let mut complete = true;
        for (name, value) in place {
            let value = Json::from_value(&value);
            match members.get(name) {
                Some(said) if *said == value => {}
                Some(said) => return Err(wrong(format!("{name}: expected {value}, found {:.80}", said.as_str()))),
                None => {
                    complete = false;
                    members.insert(name.into(), value);
                }
            }
        }
        if complete {
            return Ok(given.clone());
        }
        let text = serde_json::to_string(&members).map_err(|error| wrong(error.to_string()))?;
        let params = Json::parse(&text).map_err(wrong)?;
        text::bounded(&what, &params)?;
        Ok(params)
    }

    /// Whether an earlier call has enqueued the chunk.
    fn is_there(&self, cx: &mut Decision<'_>, chunk: &Chunk) -> Result<bool, Error> {
        let Some(row) = cx.get::<Jobs>(&chunk.id)? else { return Ok(false) };
        if row.parent_id.as_ref() == Some(&self.id) && row.params.same_content(&chunk.params) {
            return Ok(true);
        }
        Err(Rejection::already_exists(format!("chunk {} exists with other params", chunk.id)).into())
    }

    fn enqueue(&self, cx: &mut Decision<'_>, parent: &JobRow, chunk: Chunk) -> Result<(), Error> {
        let event = JobEnqueued {
            r#type: parent.r#type.clone(),
            params: chunk.params,
            parent_id: Some(parent.id.clone()),
            chunk_index: Some(chunk.index),
            total_chunks: Some(self.total_chunks),
            max_attempts: parent.max_attempts,
        };
        cx.emit::<Jobs>(&chunk.id, event)?;
        Ok(())
    }

    /// Says on the parent how far the split has come, unless it says so already.
    fn mark_parent(&self, cx: &mut Decision<'_>, parent: &JobRow) -> Result<(), Error> {
        let total = self.total_chunks;
        let enqueued = cx.count::<Jobs>(&Scan::equal("by_parent", [Cell::from(&*self.id)]))?;
        if self.last && u64::try_from(total) != Ok(enqueued) {
            let id = &self.id;
            return Err(
                Rejection::invalid(format!("job {id}: last, with {enqueued} of {total} chunks enqueued")).into()
            );
        }
        let progress = Json::from_value(&if self.last {
            json!({ "delegated": true, "total_chunks": total })
        } else {
            json!({ "delegated": false, "enqueued_chunks": enqueued })
        });
        if !self.last && parent.progress.same_content(&progress) {
            return Ok(());
        }
        let event = JobSplit {
            token: self.token,
            first_chunk: self.first_chunk,
            chunks: self.step(),
            total_chunks: total,
            delegated: self.last,
            progress,
        };
        cx.emit::<Jobs>(&self.id, event)?;
        Ok(())
    }
}

/// Ends a delegated job once its chunks have ended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleParent {
    /// The job.
    pub id: String,
}

/// The outcome of settling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettleAnswer {
    /// Whether the job has ended, now or before.
    pub settled: bool,
    /// How many chunks have not.
    pub remaining: u64,
}

impl Command for SettleParent {
    const NAME: &'static str = "jobs.settle_parent";
    const ABOUT: &'static str = "Ends a delegated job once its chunks have ended";
    type Answer = SettleAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<SettleAnswer, Error> {
        let id = &self.id;
        let parent = existing(cx, id)?;
        if parent.state.is_terminal() && was_delegated(&parent) {
            return Ok(SettleAnswer { settled: true, remaining: 0 });
        }
        if !parent.is_delegated() {
            let why = format!("job {id} is {} and not delegated to chunks", parent.state);
            return Err(Rejection::invalid(why).into());
        }
        let remaining = unfinished(cx, id)?;
        if remaining > 0 {
            return Ok(SettleAnswer { settled: false, remaining });
        }
        let (progress, finished_at) = (parent.progress.clone(), cx.now());
        match failure(cx, id)? {
            None => cx.emit::<Jobs>(id, JobCompleted { pod: None, token: None, progress, finished_at })?,
            Some(error) => cx.emit::<Jobs>(id, JobFailed { pod: None, token: None, error, progress, finished_at })?,
        };
        Ok(SettleAnswer { settled: true, remaining: 0 })
    }
}

/// Whether a finished job had been delegated: nobody holds a claim by which its progress could have changed since.
fn was_delegated(row: &JobRow) -> bool {
    #[derive(Deserialize)]
    struct Progress {
        #[serde(default)]
        delegated: bool,
    }
    serde_json::from_str::<Progress>(row.progress.as_str()).is_ok_and(|progress| progress.delegated)
}

/// How many children of a delegated job have not ended. Told by those that have, of which there can only be more: between
/// a look at the queued ones and one at those in progress, a child that goes back into the queue was met by neither.
fn unfinished(cx: &mut Decision<'_>, parent_id: &str) -> Result<u64, Error> {
    let all = cx.count::<Jobs>(&Scan::equal("by_parent", [Cell::from(parent_id)]))?;
    let ended = children(cx, parent_id, JobState::Completed)? + children(cx, parent_id, JobState::Failed)?;
    Ok(all.saturating_sub(ended))
}

/// How many children of a job are in this state. Not a condition of the commit: a delegated job gets no more children,
/// an ended one stays ended, and none is purged before its parent has ended.
fn children(cx: &mut Decision<'_>, parent_id: &str, state: JobState) -> Result<u64, Error> {
    cx.count::<Jobs>(&Scan::equal("by_parent", [Cell::from(parent_id), Cell::from(state.as_str())]))
}

/// The error of a parent: how many of its chunks failed, and what the first of them said.
fn failure(cx: &mut Decision<'_>, parent_id: &str) -> Result<Option<String>, Error> {
    let failed = Scan::equal("by_parent", [Cell::from(parent_id), Cell::from(JobState::Failed.as_str())]);
    let Some(first) = cx.scan::<Jobs>(&failed.clone().limit(1))?.pop() else { return Ok(None) };
    let count = cx.count::<Jobs>(&failed)?;
    let total = count + children(cx, parent_id, JobState::Completed)?;
    let said = first.error.as_deref().unwrap_or_default();
    Ok(Some(text::error(&format!("{count} of {total} chunks failed; {}: {said}", first.id))))
}

/// A job that was split completes only after its chunks.
pub(super) fn all_completed(cx: &mut Decision<'_>, id: &str) -> Result<(), Error> {
    let all = cx.count::<Jobs>(&Scan::equal("by_parent", [Cell::from(id)]))?;
    if all == 0 {
        return Ok(());
    }
    let open = all - children(cx, id, JobState::Completed)?;
    if open > 0 {
        return Err(Rejection::invalid(format!("job {id}: {open} of its chunks are not completed")).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn split(chunks: &[&str], first_chunk: i64, total_chunks: i64) -> Split {
        let chunks = chunks.iter().map(|text| Json::parse(text).unwrap()).collect();
        Split { id: "p".into(), token: 1, chunks, first_chunk, total_chunks, last: false }
    }

    #[test]
    fn a_call_names_at_most_999_chunks() {
        assert!(split(&["{}"; CHUNKS_MAX], 0, 1_000).check().is_ok());
        let refused = split(&["{}"; CHUNKS_MAX + 1], 0, 1_000).check().unwrap_err();
        assert_eq!(refused.message, "chunks: at most 999 a call, found 1000");
    }

    #[test]
    fn ids_of_chunks_have_at_least_four_digits() {
        let chunks = split(&["{}", "{}"], 9_999, 20_000).chunks().unwrap();
        assert_eq!(chunks[0].id, "p-c9999");
        assert_eq!(chunks[1].id, "p-c10000");
        assert_eq!(split(&["{}"], 7, 8).chunks().unwrap()[0].id, "p-c0007");
    }

    #[test]
    fn missing_places_are_added_and_complete_params_pass_byte_for_byte() {
        let given = r#"{ "total_chunks":2, "parent_id":"p", "chunk_index":1, "from":9007199254740993.0 }"#;
        let chunks = split(&[r#"{"to":18446744073709551615, "a":[ 1e2 ]}"#, given], 0, 2).chunks().unwrap();
        assert_eq!(
            chunks[0].params.as_str(),
            r#"{"a":[1e2],"chunk_index":0,"parent_id":"p","to":18446744073709551615,"total_chunks":2}"#
        );
        assert_eq!(chunks[1].params.as_str(), given);
    }

    #[test]
    fn a_chunk_that_names_another_place_is_refused() {
        for wrong in [r#"{"parent_id":"q"}"#, r#"{"chunk_index":1}"#, r#"{"total_chunks":"2"}"#] {
            assert!(split(&[wrong], 0, 2).chunks().is_err(), "{wrong}");
        }
    }
}
