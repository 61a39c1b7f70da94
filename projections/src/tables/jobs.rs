//! `jobs`: one row per piece of long background work, in a queue that pods claim from.
//!
//! A claim lasts until `claim_expires_at`; then the row stays and somebody else may claim it. The position of the latest
//! claim is the fencing token. A job split into chunks is *delegated*: in progress without a claim, until its children
//! have ended.

use crate::{At, Impossible, Index, Json, Table, TableDef, Tombstones, events, row, words};

words! {
    /// The state of a job.
    pub enum JobState {
        /// waits for a claim
        Queued = "queued",
        /// claimed, or delegated to its chunks
        InProgress = "in_progress",
        /// done
        Completed = "completed",
        /// ended with an error
        Failed = "failed",
    }
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 4] = [Self::Queued, Self::InProgress, Self::Completed, Self::Failed];

    /// Whether it is final.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

row! {
    /// One piece of background work.
    pub struct JobRow {
        key {
            /// UUID, or `<parent>-c0000` for a chunk
            id: String,
        }
        /// kind of work
        r#type: String,
        /// input, an object
        params: Json,
        /// where it stands
        state: JobState,
        /// pod id of the claimant
        claimed_by: Option<String>,
        /// ms: end of the claim
        claim_expires_at: Option<i64>,
        /// how far the work has come, an object
        progress: Json,
        /// job this is a chunk of
        parent_id: Option<String>,
        /// claims so far
        attempt: i64,
        /// NULL = unlimited
        max_attempts: Option<i64>,
        /// position of the latest claim event: the fencing token; kept when the claim ends
        claim_token: Option<i64>,
        /// position of the enqueue event: the queue order
        enqueued_at_position: i64,
        /// only with `failed`
        error: Option<String>,
        /// ms: change to a terminal state
        finished_at: Option<i64>,
    }
}

impl JobRow {
    /// Whether somebody's claim still holds.
    #[must_use]
    pub fn is_claimed(&self, now: i64) -> bool {
        self.claim_expires_at.is_some_and(|end| now < end)
    }

    /// Whether its chunks do the work.
    #[must_use]
    pub fn is_delegated(&self) -> bool {
        self.state == JobState::InProgress && self.claimed_by.is_none()
    }

    /// Whether it may not be claimed again.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.max_attempts.is_some_and(|max| self.attempt >= max)
    }
}

events! {
    /// What happens to jobs.
    pub enum JobEvent {
        /// Work was put into the queue.
        "job_enqueued" v1 => JobEnqueued {
            /// kind of work
            r#type: String,
            /// input
            params: Json,
            /// job this is a chunk of
            parent_id: Option<String>,
            /// number of the chunk, from 0
            chunk_index: Option<i64>,
            /// how many chunks the parent has
            total_chunks: Option<i64>,
            /// how often it may be claimed
            max_attempts: Option<i64>,
        },
        /// A pod took the job.
        "job_claimed" v1 => JobClaimed {
            /// pod id
            pod: String,
            /// ms
            claimed_at: i64,
            /// ms: end of the claim
            claim_expires_at: i64,
            /// which claim of the job this is, from 1
            attempt: i64,
        },
        /// The claimant goes on.
        "job_claim_extended" v1 => JobClaimExtended {
            /// its claim
            token: i64,
            /// ms: end of the claim
            claim_expires_at: i64,
            /// only if it moved
            progress: Option<Json>,
        },
        /// The claimant recorded how far it is.
        "job_progress_saved" v1 => JobProgressSaved {
            /// its claim
            token: i64,
            /// how far
            progress: Json,
        },
        /// The claimant gave the job back unfinished.
        "job_claim_released" v1 => JobClaimReleased {
            /// pod id
            pod: String,
            /// its claim
            token: i64,
            /// how far it came, if it says so
            progress: Option<Json>,
        },
        /// The claim ended without a word of the claimant.
        "job_claim_expired" v1 => JobClaimExpired {
            /// pod id
            pod: String,
            /// its claim
            token: i64,
            /// ms: when that was noticed
            expired_at: i64,
        },
        /// The claimant split the job into chunks.
        "job_split" v1 => JobSplit {
            /// its claim
            token: i64,
            /// number of the first chunk of this step
            first_chunk: i64,
            /// how many chunks this step covers
            chunks: i64,
            /// how many chunks the job has in all
            total_chunks: i64,
            /// whether all are enqueued and the claim is over
            delegated: bool,
            /// the job's progress from now on
            progress: Json,
        },
        /// The work is done.
        "job_completed" v1 => JobCompleted {
            /// the claimant; none for a delegated job
            pod: Option<String>,
            /// its claim; none for a delegated job
            token: Option<i64>,
            /// the job's last progress
            progress: Json,
            /// ms
            finished_at: i64,
        },
        /// The work cannot be done.
        "job_failed" v1 => JobFailed {
            /// the claimant; none for a delegated job
            pod: Option<String>,
            /// its claim; none for a delegated job
            token: Option<i64>,
            /// why
            error: String,
            /// the job's last progress
            progress: Json,
            /// ms
            finished_at: i64,
        },
        /// An old finished job was removed.
        "job_purged" v1 => JobPurged {
            /// its last state
            state: JobState,
            /// ms
            finished_at: i64,
            /// ms: it had finished before this
            cutoff_ms: i64,
        },
    }
}

/// The table.
pub struct Jobs;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<Jobs>();

impl Table for Jobs {
    const NAME: &'static str = "jobs";
    const SCHEMA_VERSION: u32 = 1;
    const TOMBSTONES: Tombstones = Tombstones::Short;
    const INDEXES: &'static [Index] = &[
        Index::on("by_state", &["state", "enqueued_at_position"]),
        // A claim by type starts here, and the depth per type is counted here.
        Index::on("by_type", &["state", "type", "enqueued_at_position"]),
        Index::on("by_claim_expiry", &["claim_expires_at"]),
        // With the state, so that a parent learns how many chunks are left without reading them.
        Index::on("by_parent", &["parent_id", "state"]),
        Index::on("by_finished", &["finished_at"]),
    ];
    const KEY_PREFIX: &'static str = "jobs";
    const POSITIONS: &'static [&'static str] = &["claim_token", "enqueued_at_position"];
    const PAYLOAD_POSITIONS: &'static [&'static str] = &["token"];
    type Row = JobRow;
    type Event = JobEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<JobRow>, event: JobEvent, at: &At<'_>) -> Result<Option<JobRow>, Impossible> {
        match event {
            JobEvent::JobEnqueued(event) => enqueued(row, event, at),
            JobEvent::JobClaimed(event) => claimed(row, event, at),
            JobEvent::JobClaimExtended(event) => {
                let mut row = working(row, "job_claim_extended", None, event.token)?;
                row.claim_expires_at = Some(event.claim_expires_at);
                row.progress = event.progress.unwrap_or(row.progress);
                Ok(Some(row))
            }
            JobEvent::JobProgressSaved(event) => {
                let mut row = working(row, "job_progress_saved", None, event.token)?;
                row.progress = event.progress;
                Ok(Some(row))
            }
            JobEvent::JobClaimReleased(event) => {
                let mut row = working(row, "job_claim_released", Some(&event.pod), event.token)?;
                row.progress = event.progress.unwrap_or(row.progress);
                Ok(Some(unclaimed(row, JobState::Queued)))
            }
            JobEvent::JobClaimExpired(event) => {
                let row = working(row, "job_claim_expired", Some(&event.pod), event.token)?;
                if row.is_claimed(event.expired_at) {
                    let end = row.claim_expires_at.unwrap_or_default();
                    return Err(Impossible(format!(
                        "job_claim_expired at {} on a claim until {end}",
                        event.expired_at
                    )));
                }
                Ok(Some(unclaimed(row, JobState::Queued)))
            }
            JobEvent::JobSplit(event) => {
                let mut row = working(row, "job_split", None, event.token)?;
                row.progress = event.progress;
                Ok(Some(if event.delegated { unclaimed(row, JobState::InProgress) } else { row }))
            }
            JobEvent::JobCompleted(event) => {
                let mut row = ending(row, "job_completed", event.pod.as_deref(), event.token)?;
                row.progress = event.progress;
                row.finished_at = Some(event.finished_at);
                Ok(Some(unclaimed(row, JobState::Completed)))
            }
            JobEvent::JobFailed(event) => {
                let mut row = ending(row, "job_failed", event.pod.as_deref(), event.token)?;
                row.progress = event.progress;
                row.error = Some(event.error);
                row.finished_at = Some(event.finished_at);
                Ok(Some(unclaimed(row, JobState::Failed)))
            }
            JobEvent::JobPurged(event) => purged(row, &event),
        }
    }
}

fn enqueued(row: Option<JobRow>, event: JobEnqueued, at: &At<'_>) -> Result<Option<JobRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("job_enqueued"));
    }
    Ok(Some(JobRow {
        id: at.key.into(),
        r#type: event.r#type,
        params: event.params,
        state: JobState::Queued,
        claimed_by: None,
        claim_expires_at: None,
        progress: Json::from_value(&serde_json::json!({})),
        parent_id: event.parent_id,
        attempt: 0,
        max_attempts: event.max_attempts,
        claim_token: None,
        enqueued_at_position: at.position.to_i64(),
        error: None,
        finished_at: None,
    }))
}

fn claimed(row: Option<JobRow>, event: JobClaimed, at: &At<'_>) -> Result<Option<JobRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("job_claimed"))?;
    if row.state != JobState::Queued || event.attempt != row.attempt + 1 {
        let (state, attempt) = (row.state, row.attempt);
        return Err(Impossible(format!(
            "job_claimed for the {}th time on a job that is {state} after {attempt} claims",
            event.attempt
        )));
    }
    row.state = JobState::InProgress;
    row.claimed_by = Some(event.pod);
    row.claim_expires_at = Some(event.claim_expires_at);
    row.claim_token = Some(at.position.to_i64());
    row.attempt = event.attempt;
    Ok(Some(row))
}

fn purged(row: Option<JobRow>, event: &JobPurged) -> Result<Option<JobRow>, Impossible> {
    let row = row.ok_or_else(|| Impossible::no_row("job_purged"))?;
    if !row.state.is_terminal() || row.state != event.state || row.finished_at != Some(event.finished_at) {
        return Err(Impossible(format!("job_purged as {} on a job that is {}", event.state, row.state)));
    }
    Ok(None)
}

/// The row, if it is claimed with this token, and by this pod where the event names one.
fn working(row: Option<JobRow>, event: &str, pod: Option<&str>, token: i64) -> Result<JobRow, Impossible> {
    let row = row.ok_or_else(|| Impossible::no_row(event))?;
    let claimant = row.claimed_by.as_deref();
    if claimant.is_none() || row.claim_token != Some(token) || pod.is_some_and(|pod| claimant != Some(pod)) {
        return Err(Impossible(format!(
            "{event} with token {token} of {:?} on a job that is {}, claimed by {claimant:?} with token {:?}",
            pod.or(claimant).unwrap_or_default(),
            row.state,
            row.claim_token
        )));
    }
    Ok(row)
}

/// The row, if it may end: claimed with this token, or delegated if the event names none.
fn ending(row: Option<JobRow>, event: &str, pod: Option<&str>, token: Option<i64>) -> Result<JobRow, Impossible> {
    if let Some(token) = token {
        return working(row, event, pod, token);
    }
    let row = row.ok_or_else(|| Impossible::no_row(event))?;
    if !row.is_delegated() {
        return Err(Impossible(format!("{event} without a token on a job that is not delegated but {}", row.state)));
    }
    Ok(row)
}

fn unclaimed(row: JobRow, state: JobState) -> JobRow {
    JobRow { state, claimed_by: None, claim_expires_at: None, ..row }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
