//! `jobs`: how pods put work into the queue, claim it, and end it.
//!
//! A claim is checked by its token, never by the pod's name: a pod that paused beyond its claim wakes up with the same
//! name. Rows do not die with a claim, so liveness is compared here.

mod chunks;
#[cfg(feature = "serve")]
pub(crate) mod due;
mod purge;
mod queries;

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, Found, Json, PAGE_ROWS_MAX, Scan,
    tables::jobs::{
        DEF, JobClaimExpired, JobClaimExtended, JobClaimReleased, JobClaimed, JobCompleted, JobEnqueued, JobFailed,
        JobProgressSaved, JobRow, JobState, Jobs,
    },
};

pub use self::{
    chunks::{CHUNKS_MAX, SettleAnswer, SettleParent, Split, SplitAnswer},
    purge::{Purge, PurgeAnswer},
    queries::{Children, Depth, ExpiredClaims, Get, List},
};
use crate::{
    command::{Command, Completion},
    decision::{Decision, EventIndex},
    rejection::{Error, Rejection},
    tables::{Nothing, side},
    text,
};

side! {
    /// `jobs`
    pub struct JobsHandle for DEF as jobs {
        commands {
            enqueue(Enqueue),
            claim_next(ClaimNext),
            heartbeat(Heartbeat),
            save_progress(SaveProgress),
            complete(Complete),
            fail(Fail),
            release(Release),
            requeue_expired(RequeueExpired),
            split(Split),
            settle_parent(SettleParent),
            purge(Purge),
        }
        queries {
            get(Get),
            list(List),
            children(Children),
            depth(Depth),
            expired_claims(ExpiredClaims),
        }
    }
}

/// How many rows one claim looks at.
pub const CANDIDATES_MAX: usize = 100;
/// How many types one claim may name: one candidate each, and the other half is for dead claims.
pub const TYPES_MAX: usize = 50;
/// The default number of rows a chunked command works on.
pub const CHUNK_LIMIT: u64 = 10_000;
/// The error of a job whose last claim ended unfinished.
pub const ATTEMPTS_EXHAUSTED: &str = "attempts exhausted";

/// Puts work into the queue.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Enqueue {
    /// The job; a UUID is minted if absent.
    pub id: Option<String>,
    /// Kind of work.
    pub r#type: String,
    /// Input, an object.
    pub params: Json,
    /// How often it may be claimed; `jobs.max_attempts` by default.
    pub max_attempts: Option<i64>,
}

/// The job as enqueued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnqueueAnswer {
    /// The job.
    pub id: String,
    /// Its place in the queue.
    pub enqueued_at_position: i64,
    #[serde(skip)]
    #[doc(hidden)]
    pub enqueued: Option<EventIndex>,
}

impl Command for Enqueue {
    const NAME: &'static str = "jobs.enqueue";
    const ABOUT: &'static str = "Puts work into the queue";
    type Answer = EnqueueAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<EnqueueAnswer, Error> {
        let id = self.id.clone().unwrap_or_else(|| cx.mint_id());
        text::key("id", &id)?;
        text::key("type", &self.r#type)?;
        text::object("params", &self.params)?;
        let max_attempts = self.max_attempts.or(cx.config().job_attempts_max);
        max_attempts.map_or(Ok(()), |max| text::at_least("max_attempts", 1, max))?;
        cx.subject::<Jobs>(&id);
        if let Some(row) = cx.get::<Jobs>(&id)? {
            let same =
                row.r#type == self.r#type && row.max_attempts == max_attempts && row.params.same_content(&self.params);
            if same {
                let enqueued = cx.own_event(row.enqueued_at_position);
                let enqueued_at_position = if enqueued.is_some() { 0 } else { row.enqueued_at_position };
                return Ok(EnqueueAnswer { id, enqueued_at_position, enqueued });
            }
            return Err(Rejection::already_exists(format!("job {id} exists with other content")).into());
        }
        let event = JobEnqueued {
            r#type: self.r#type.clone(),
            params: self.params.clone(),
            parent_id: None,
            chunk_index: None,
            total_chunks: None,
            max_attempts,
        };
        let enqueued = cx.emit::<Jobs>(&id, event)?;
        Ok(EnqueueAnswer { id, enqueued_at_position: 0, enqueued: Some(enqueued) })
    }

    fn complete(answer: &mut EnqueueAnswer, done: &Completion<'_>) {
        if let Some(enqueued) = answer.enqueued {
            answer.enqueued_at_position = done.position(enqueued).to_i64();
        }
    }
}

/// Takes the job that has been in the queue for longest.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimNext {
    /// The pod that takes it.
    pub pod: String,
    /// Only jobs of these types, at most 50 of them; any type if absent.
    // The same type twice is once.
    #[schemars(with = "Option<Vec<String>>")]
    pub types: Option<BTreeSet<String>>,
}

/// The job that was claimed, if there was one to claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimAnswer {
    /// The row.
    pub job: Option<Found<JobRow>>,
    /// The fencing token.
    pub claim_token: Option<i64>,
    /// ms: end of the claim.
    pub claim_expires_at: Option<Millis>,
    #[serde(skip)]
    #[doc(hidden)]
    pub claimed: Option<(String, EventIndex)>,
}

impl Command for ClaimNext {
    const NAME: &'static str = "jobs.claim_next";
    const ABOUT: &'static str = "Takes the job that has been in the queue for longest";
    type Answer = ClaimAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<ClaimAnswer, Error> {
        text::key("pod", &self.pod)?;
        let Some(row) = next_claimable(cx, self.types.as_ref())? else { return Ok(ClaimAnswer::default()) };
        let (now, id) = (cx.now(), row.id.clone());
        let claim_expires_at = now + cx.config().job_claim_ms;
        cx.subject::<Jobs>(&id);
        if row.state == JobState::InProgress {
            let (pod, token) = claimant(&row);
            cx.emit::<Jobs>(&id, JobClaimExpired { pod, token, expired_at: now })?;
        }
        let attempt = row.attempt + 1;
        let event = JobClaimed { pod: self.pod.clone(), claimed_at: now, claim_expires_at, attempt };
        let claim = cx.emit::<Jobs>(&id, event)?;
        Ok(ClaimAnswer {
            job: None,
            claim_token: None,
            claim_expires_at: Some(claim_expires_at),
            claimed: Some((id, claim)),
        })
    }

    fn complete(answer: &mut ClaimAnswer, done: &Completion<'_>) {
        let Some((id, claim)) = &answer.claimed else { return };
        answer.job = done.row::<Jobs>(id).map(|(row, rev)| Found { row, rev });
        answer.claim_token = Some(done.position(*claim).to_i64());
    }
}

/// The job with the smallest place in the queue among those waiting and those whose claim is dead.
fn next_claimable(cx: &mut Decision<'_>, types: Option<&BTreeSet<String>>) -> Result<Option<Arc<JobRow>>, Error> {
    let queues = types.map_or(1, BTreeSet::len);
    if queues > TYPES_MAX {
        return Err(Rejection::invalid(format!("types: at most {TYPES_MAX}, found {queues}")).into());
    }
    // One whose attempts are exhausted is not for claiming: requeue_expired will fail it.
    let wanted = |row: &JobRow| !row.is_exhausted() && types.is_none_or(|types| types.contains(&row.r#type));
    // Dead claims first: where others write meanwhile, a job that goes from there back into the queue is met in one of them.
    let mut candidates = cx.scan::<Jobs>(&dead_claims(cx.now()).limit(CANDIDATES_MAX - queues))?;
    candidates.retain(|row| wanted(row));
    let queued = Cell::from(JobState::Queued.as_str());
    match types {
        None => candidates.extend(cx.scan::<Jobs>(&Scan::equal("by_state", [queued]).limit(1))?),
        Some(types) => {
            for name in types {
                let first = Scan::equal("by_type", [queued.clone(), Cell::from(&**name)]).limit(1);
                candidates.extend(cx.scan::<Jobs>(&first)?);
            }
        }
    }
    Ok(candidates.into_iter().min_by_key(|row| row.enqueued_at_position))
}

/// Claims that are dead at `now`, in the order of their ends.
pub(crate) fn dead_claims(now: Millis) -> Scan<'static> {
    Scan::all("by_claim_expiry").to(Bound::Included(vec![Cell::Integer(now)]))
}

/// Goes on with a claimed job.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The job.
    pub id: String,
    /// The claim.
    pub token: i64,
    /// How far the work has come, an object.
    pub progress: Option<Json>,
}

/// How long the claim lasts now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatAnswer {
    /// ms: its end.
    pub claim_expires_at: Millis,
}

impl Command for Heartbeat {
    const NAME: &'static str = "jobs.heartbeat";
    const ABOUT: &'static str = "Extends a claim, and records how far the work has come";
    type Answer = HeartbeatAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<HeartbeatAnswer, Error> {
        let Self { id, token, progress } = self;
        check_progress(progress.as_ref())?;
        let row = existing(cx, id)?;
        still_claimed(cx, &row, *token)?;
        let claim_expires_at = cx.now() + cx.config().job_claim_ms;
        let progress = progress.clone().filter(|progress| !row.progress.same_content(progress));
        if progress.is_some() || row.claim_expires_at != Some(claim_expires_at) {
            cx.emit::<Jobs>(id, JobClaimExtended { token: *token, claim_expires_at, progress })?;
        }
        Ok(HeartbeatAnswer { claim_expires_at })
    }
}

/// Records how far the work has come.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveProgress {
    /// The job.
    pub id: String,
    /// The claim.
    pub token: i64,
    /// How far the work has come, an object.
    pub progress: Json,
}

impl Command for SaveProgress {
    const NAME: &'static str = "jobs.save_progress";
    const ABOUT: &'static str = "Records how far the work has come";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { id, token, progress } = self;
        check_progress(Some(progress))?;
        let row = existing(cx, id)?;
        still_claimed(cx, &row, *token)?;
        if !row.progress.same_content(progress) {
            cx.emit::<Jobs>(id, JobProgressSaved { token: *token, progress: progress.clone() })?;
        }
        Ok(Nothing {})
    }
}

/// Ends a job: the work is done.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// The job.
    pub id: String,
    /// The claim.
    pub token: i64,
    /// The last progress, an object; as it was if absent.
    pub progress: Option<Json>,
}

impl Command for Complete {
    const NAME: &'static str = "jobs.complete";
    const ABOUT: &'static str = "Ends a job: the work is done";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { id, token, progress } = self;
        check_progress(progress.as_ref())?;
        let row = existing(cx, id)?;
        if row.state == JobState::Completed && row.claim_token == Some(*token) {
            return Ok(Nothing {});
        }
        still_claimed(cx, &row, *token)?;
        chunks::all_completed(cx, id)?;
        let event = JobCompleted {
            pod: row.claimed_by.clone(),
            token: Some(*token),
            progress: progress.clone().unwrap_or_else(|| row.progress.clone()),
            finished_at: cx.now(),
        };
        cx.emit::<Jobs>(id, event)?;
        Ok(Nothing {})
    }
}

/// Ends a job: the work cannot be done.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// The job.
    pub id: String,
    /// The claim.
    pub token: i64,
    /// Why.
    pub error: String,
    /// The last progress, an object; as it was if absent.
    pub progress: Option<Json>,
}

impl Command for Fail {
    const NAME: &'static str = "jobs.fail";
    const ABOUT: &'static str = "Ends a job: the work cannot be done";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { id, token, error, progress } = self;
        check_progress(progress.as_ref())?;
        let row = existing(cx, id)?;
        if row.state == JobState::Failed && row.claim_token == Some(*token) {
            return Ok(Nothing {});
        }
        still_claimed(cx, &row, *token)?;
        fail(cx, &row, text::error(error), progress.clone())?;
        Ok(Nothing {})
    }
}

/// Gives a job back unfinished.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The job.
    pub id: String,
    /// The claim.
    pub token: i64,
    /// How far the work has come, an object; as it was if absent.
    pub progress: Option<Json>,
}

/// The job after a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseAnswer {
    /// `queued`, or `failed` if its attempts are exhausted.
    pub state: JobState,
}

impl Command for Release {
    const NAME: &'static str = "jobs.release";
    const ABOUT: &'static str = "Gives a job back unfinished";
    type Answer = ReleaseAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<ReleaseAnswer, Error> {
        let Self { id, token, progress } = self;
        check_progress(progress.as_ref())?;
        let row = existing(cx, id)?;
        let given_back = row.state == JobState::Queued
            || (row.state == JobState::Failed && row.error.as_deref() == Some(ATTEMPTS_EXHAUSTED));
        if given_back && row.claim_token == Some(*token) {
            return Ok(ReleaseAnswer { state: row.state });
        }
        still_claimed(cx, &row, *token)?;
        if row.is_exhausted() {
            fail(cx, &row, ATTEMPTS_EXHAUSTED.into(), progress.clone())?;
            return Ok(ReleaseAnswer { state: JobState::Failed });
        }
        let (pod, token) = claimant(&row);
        cx.emit::<Jobs>(id, JobClaimReleased { pod, token, progress: progress.clone() })?;
        Ok(ReleaseAnswer { state: JobState::Queued })
    }
}

/// Puts jobs whose claims are dead back into the queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequeueExpired {
    /// At most this many; 10,000 by default.
    pub limit: Option<u64>,
    /// How many are back in the queue already.
    #[serde(skip)]
    #[doc(hidden)]
    pub requeued: u64,
    /// How many have failed already.
    #[serde(skip)]
    #[doc(hidden)]
    pub failed: u64,
}

/// The outcome of a requeue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequeueAnswer {
    /// How many jobs are back in the queue.
    pub requeued: u64,
    /// How many jobs have failed, because their attempts are exhausted.
    pub failed: u64,
    /// Whether work is left.
    pub more: bool,
}

impl Command for RequeueExpired {
    const NAME: &'static str = "jobs.requeue_expired";
    const ABOUT: &'static str = "Puts jobs whose claims are dead back into the queue";
    const CHUNKED: bool = true;
    type Answer = RequeueAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<RequeueAnswer, Error> {
        let limit = self.limit.unwrap_or(CHUNK_LIMIT);
        let room = room(cx, limit - self.requeued - self.failed);
        let now = cx.now();
        // One more than there is room for tells whether work is left.
        let mut rows = cx.scan::<Jobs>(&dead_claims(now).limit(room + 1))?;
        let more = rows.len() > room;
        rows.truncate(room);
        for row in rows {
            if row.is_exhausted() {
                fail(cx, &row, ATTEMPTS_EXHAUSTED.into(), None)?;
                self.failed += 1;
            } else {
                let (pod, token) = claimant(&row);
                cx.emit::<Jobs>(&row.id, JobClaimExpired { pod, token, expired_at: now })?;
                self.requeued += 1;
            }
        }
        if more && self.requeued + self.failed < limit {
            cx.more();
        }
        Ok(RequeueAnswer { requeued: self.requeued, failed: self.failed, more })
    }
}

/// How many rows this commit may work on, so that one more fits a page.
fn room(cx: &Decision<'_>, left: u64) -> usize {
    cx.room_for(left).min(PAGE_ROWS_MAX - 1)
}

fn existing(cx: &mut Decision<'_>, id: &str) -> Result<Arc<JobRow>, Error> {
    cx.existing::<Jobs>("job", id)
}

/// The claim must be live and its token the current one.
fn still_claimed(cx: &Decision<'_>, row: &JobRow, token: i64) -> Result<(), Rejection> {
    if row.is_claimed(cx.now()) && row.claim_token == Some(token) {
        return Ok(());
    }
    let JobRow { id, state, claim_token, claim_expires_at, .. } = row;
    let shown = |value: &Option<i64>| value.map_or_else(|| "none".into(), |value| value.to_string());
    Err(Rejection::lease_lost(format!(
        "job {id}: expected a live claim {token}, found {state}, claim {} until {}, now {}",
        shown(claim_token),
        shown(claim_expires_at),
        cx.now()
    )))
}

/// Who claimed the row, and the claim. A row without a claim has neither, and the fold refuses the event.
fn claimant(row: &JobRow) -> (String, i64) {
    (row.claimed_by.clone().unwrap_or_default(), row.claim_token.unwrap_or_default())
}

fn check_progress(progress: Option<&Json>) -> Result<(), Rejection> {
    progress.map_or(Ok(()), |progress| text::object("progress", progress))
}

/// Fails a claimed job.
fn fail(cx: &mut Decision<'_>, row: &JobRow, error: String, progress: Option<Json>) -> Result<(), Error> {
    let event = JobFailed {
        pod: row.claimed_by.clone(),
        token: row.claim_token,
        error,
        progress: progress.unwrap_or_else(|| row.progress.clone()),
        finished_at: cx.now(),
    };
    cx.emit::<Jobs>(&row.id, event)?;
    Ok(())
}
