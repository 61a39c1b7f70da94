#![allow(clippy::unwrap_used)]

use tasklog_log::Position;

use super::*;
use crate::TableEvent;

const TOKEN: i64 = 7;

fn at(position: u64) -> At<'static> {
    At { position: Position(position), recorded_at: 2_000, key: "j1" }
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn enqueue() -> JobEnqueued {
    JobEnqueued {
        r#type: "dump_import".into(),
        params: json("{\"a\": 1}"),
        parent_id: None,
        chunk_index: None,
        total_chunks: None,
        max_attempts: Some(3),
    }
}

/// Enqueued at position 5.
fn queued() -> JobRow {
    JobRow {
        id: "j1".into(),
        r#type: "dump_import".into(),
        params: json("{\"a\": 1}"),
        state: JobState::Queued,
        claimed_by: None,
        claim_expires_at: None,
        progress: json("{}"),
        parent_id: None,
        attempt: 0,
        max_attempts: Some(3),
        claim_token: None,
        enqueued_at_position: 5,
        error: None,
        finished_at: None,
    }
}

/// Claimed by pod-a at position 7, until 31,000 ms.
fn in_progress() -> JobRow {
    JobRow {
        state: JobState::InProgress,
        claimed_by: Some("pod-a".into()),
        claim_expires_at: Some(31_000),
        attempt: 1,
        claim_token: Some(TOKEN),
        ..queued()
    }
}

/// As it was before the claim, but for what a claim leaves behind.
fn back_in_queue() -> JobRow {
    unclaimed(in_progress(), JobState::Queued)
}

fn delegated() -> JobRow {
    JobRow {
        progress: json(r#"{"delegated":true,"total_chunks":2}"#),
        ..unclaimed(in_progress(), JobState::InProgress)
    }
}

fn finished(state: JobState) -> JobRow {
    JobRow { finished_at: Some(9_000), ..unclaimed(in_progress(), state) }
}

fn claim(attempt: i64) -> JobClaimed {
    JobClaimed { pod: "pod-a".into(), claimed_at: 1_000, claim_expires_at: 31_000, attempt }
}

fn complete(pod: Option<&str>, token: Option<i64>) -> JobCompleted {
    JobCompleted { pod: pod.map(Into::into), token, progress: json("{\"n\":2}"), finished_at: 9_000 }
}

fn fail(pod: Option<&str>, token: Option<i64>) -> JobFailed {
    JobFailed {
        pod: pod.map(Into::into),
        token,
        error: "disk full".into(),
        progress: json("{\"n\":2}"),
        finished_at: 9_000,
    }
}

fn split(token: i64, delegated: bool) -> JobSplit {
    let progress = if delegated { r#"{"delegated":true,"total_chunks":2}"# } else { "{}" };
    JobSplit { token, first_chunk: 0, chunks: 2, total_chunks: 2, delegated, progress: json(progress) }
}

fn expire(token: i64, expired_at: i64) -> JobClaimExpired {
    JobClaimExpired { pod: "pod-a".into(), token, expired_at }
}

fn release(token: i64, progress: Option<Json>) -> JobClaimReleased {
    JobClaimReleased { pod: "pod-a".into(), token, progress }
}

fn fold(
    row: impl Into<Option<JobRow>>,
    event: impl Into<JobEvent>,
    position: u64,
) -> Result<Option<JobRow>, Impossible> {
    Jobs::evolve(row.into(), event.into(), &at(position))
}

/// Every event that a claimant causes, with its token.
fn of_claimant(token: i64) -> Vec<JobEvent> {
    vec![
        JobClaimExtended { token, claim_expires_at: 41_000, progress: None }.into(),
        JobProgressSaved { token, progress: json("{}") }.into(),
        release(token, None).into(),
        expire(token, 31_000).into(),
        split(token, false).into(),
        split(token, true).into(),
        complete(Some("pod-a"), Some(token)).into(),
        fail(Some("pod-a"), Some(token)).into(),
    ]
}

#[test]
fn an_enqueued_job_waits_at_its_own_position() {
    assert_eq!(fold(None, enqueue(), 5), Ok(Some(queued())));
    assert_eq!(fold(queued(), enqueue(), 6), Err(Impossible::row_exists("job_enqueued")));
}

#[test]
fn a_claim_takes_its_own_position_as_token() {
    assert_eq!(fold(queued(), claim(1), 7), Ok(Some(in_progress())));
    let again = fold(back_in_queue(), claim(2), 12).unwrap().unwrap();
    assert_eq!((again.claim_token, again.attempt, again.enqueued_at_position), (Some(12), 2, 5));
}

#[test]
fn only_a_queued_job_is_claimed_and_every_claim_counts() {
    assert_eq!(fold(None, claim(1), 7), Err(Impossible::no_row("job_claimed")));
    assert!(fold(queued(), claim(2), 7).is_err());
    for row in [in_progress(), delegated(), finished(JobState::Completed), finished(JobState::Failed)] {
        assert!(fold(row.clone(), claim(2), 9).is_err(), "{}", row.state);
    }
}

#[test]
fn only_the_current_token_of_a_claimed_job_counts() {
    for event in of_claimant(TOKEN) {
        let name = event.event_type().name;
        assert!(fold(in_progress(), event.clone(), 9).is_ok(), "{name}");
        assert_eq!(fold(None, event.clone(), 9), Err(Impossible::no_row(name)));
        for row in [back_in_queue(), delegated(), finished(JobState::Completed), finished(JobState::Failed)] {
            assert!(fold(row.clone(), event.clone(), 9).is_err(), "{name} on {}", row.state);
        }
    }
    for event in of_claimant(TOKEN - 1) {
        assert!(fold(in_progress(), event.clone(), 9).is_err(), "{event:?}");
    }
}

#[test]
fn another_pod_than_the_claimant_is_impossible() {
    let other = || Some("pod-b".to_owned());
    assert!(fold(in_progress(), JobCompleted { pod: other(), ..complete(None, Some(TOKEN)) }, 9).is_err());
    assert!(fold(in_progress(), JobFailed { pod: other(), ..fail(None, Some(TOKEN)) }, 9).is_err());
    assert!(fold(in_progress(), JobClaimReleased { pod: "pod-b".into(), ..release(TOKEN, None) }, 9).is_err());
    assert!(fold(in_progress(), JobClaimExpired { pod: "pod-b".into(), ..expire(TOKEN, 31_000) }, 9).is_err());
}

#[test]
fn a_heartbeat_moves_the_end_and_the_progress_if_it_carries_one() {
    let beat = |progress| JobClaimExtended { token: TOKEN, claim_expires_at: 41_000, progress };
    let later = JobRow { claim_expires_at: Some(41_000), ..in_progress() };
    assert_eq!(fold(in_progress(), beat(None), 9), Ok(Some(later.clone())));
    let moved = JobRow { progress: json("{\"n\":1}"), ..later };
    assert_eq!(fold(in_progress(), beat(Some(json("{\"n\":1}"))), 9), Ok(Some(moved)));
}

#[test]
fn saved_progress_leaves_the_claim_as_it_is() {
    let saved = JobProgressSaved { token: TOKEN, progress: json("{\"n\":1}") };
    assert_eq!(fold(in_progress(), saved, 9), Ok(Some(JobRow { progress: json("{\"n\":1}"), ..in_progress() })));
}

#[test]
fn a_released_job_keeps_its_place_and_its_token() {
    assert_eq!(fold(in_progress(), release(TOKEN, None), 9), Ok(Some(back_in_queue())));
    let told = release(TOKEN, Some(json("{\"n\":1}")));
    assert_eq!(fold(in_progress(), told, 9), Ok(Some(JobRow { progress: json("{\"n\":1}"), ..back_in_queue() })));
}

#[test]
fn a_claim_expires_at_its_end_and_not_before() {
    assert_eq!(fold(in_progress(), expire(TOKEN, 31_000), 9), Ok(Some(back_in_queue())));
    assert!(fold(in_progress(), expire(TOKEN, 30_999), 9).is_err());
}

#[test]
fn a_split_delegates_only_when_it_says_so() {
    assert_eq!(fold(in_progress(), split(TOKEN, true), 9), Ok(Some(delegated())));
    assert_eq!(fold(in_progress(), split(TOKEN, false), 9), Ok(Some(in_progress())));
    assert!(delegated().is_delegated() && !in_progress().is_delegated() && !back_in_queue().is_delegated());
}

#[test]
fn a_job_ends_by_its_claimant() {
    let done = JobRow { progress: json("{\"n\":2}"), ..finished(JobState::Completed) };
    assert_eq!(fold(in_progress(), complete(Some("pod-a"), Some(TOKEN)), 9), Ok(Some(done)));
    let failed = JobRow { error: Some("disk full".into()), progress: json("{\"n\":2}"), ..finished(JobState::Failed) };
    assert_eq!(fold(in_progress(), fail(Some("pod-a"), Some(TOKEN)), 9), Ok(Some(failed)));
}

#[test]
fn only_a_delegated_job_ends_without_a_token() {
    assert_eq!(fold(delegated(), complete(None, None), 9).unwrap().unwrap().state, JobState::Completed);
    assert_eq!(fold(delegated(), fail(None, None), 9).unwrap().unwrap().state, JobState::Failed);
    for row in [queued(), in_progress(), finished(JobState::Completed), finished(JobState::Failed)] {
        assert!(fold(row.clone(), complete(None, None), 9).is_err(), "{}", row.state);
        assert!(fold(row.clone(), fail(None, None), 9).is_err(), "{}", row.state);
    }
    assert_eq!(fold(None, complete(None, None), 9), Err(Impossible::no_row("job_completed")));
    assert_eq!(fold(None, fail(None, None), 9), Err(Impossible::no_row("job_failed")));
}

#[test]
fn only_finished_jobs_are_purged() {
    let purge = |state| JobPurged { state, finished_at: 9_000, cutoff_ms: 10_000 };
    for state in [JobState::Completed, JobState::Failed] {
        assert_eq!(fold(finished(state), purge(state), 9), Ok(None));
    }
    assert!(fold(finished(JobState::Completed), purge(JobState::Failed), 9).is_err());
    assert!(
        fold(finished(JobState::Completed), JobPurged { finished_at: 1, ..purge(JobState::Completed) }, 9).is_err()
    );
    for row in [queued(), in_progress(), delegated()] {
        assert!(fold(row.clone(), purge(row.state), 9).is_err(), "{}", row.state);
    }
    assert_eq!(fold(None, purge(JobState::Failed), 9), Err(Impossible::no_row("job_purged")));
}

#[test]
fn the_column_named_type_has_its_plain_name() {
    assert_eq!(DEF.columns[1].name, "type");
}

#[test]
fn payload_bytes_stay_as_they_were_written() {
    let child = JobEnqueued {
        parent_id: Some("j0".into()),
        chunk_index: Some(1),
        total_chunks: Some(2),
        max_attempts: None,
        ..enqueue()
    };
    let events: [JobEvent; 15] = [
        enqueue().into(),
        child.into(),
        claim(1).into(),
        JobClaimExtended { token: TOKEN, claim_expires_at: 41_000, progress: None }.into(),
        JobClaimExtended { token: TOKEN, claim_expires_at: 41_000, progress: Some(json("{\"n\": 1}")) }.into(),
        JobProgressSaved { token: TOKEN, progress: json("{\"n\": 1}") }.into(),
        release(TOKEN, None).into(),
        release(TOKEN, Some(json("{}"))).into(),
        expire(TOKEN, 31_000).into(),
        split(TOKEN, true).into(),
        complete(Some("pod-a"), Some(TOKEN)).into(),
        complete(None, None).into(),
        fail(Some("pod-a"), Some(TOKEN)).into(),
        fail(None, None).into(),
        JobPurged { state: JobState::Failed, finished_at: 9_000, cutoff_ms: 10_000 }.into(),
    ];
    let written: Vec<_> = events.iter().map(|event| (event.event_type().name, hex::encode(event.encode()))).collect();
    let golden = [
        (
            "job_enqueued",
            "83a474797065ab64756d705f696d706f7274a6706172616d73a87b2261223a20317dac6d61785f617474656d70747303",
        ),
        (
            "job_enqueued",
            "85a474797065ab64756d705f696d706f7274a6706172616d73a87b2261223a20317da9706172656e745f6964a26a30ab6368756e6b5f696e64657801ac746f74616c5f6368756e6b7302",
        ),
        (
            "job_claimed",
            "84a3706f64a5706f642d61aa636c61696d65645f6174cd03e8b0636c61696d5f657870697265735f6174cd7918a7617474656d707401",
        ),
        ("job_claim_extended", "82a5746f6b656e07b0636c61696d5f657870697265735f6174cda028"),
        (
            "job_claim_extended",
            "83a5746f6b656e07b0636c61696d5f657870697265735f6174cda028a870726f6772657373a87b226e223a20317d",
        ),
        ("job_progress_saved", "82a5746f6b656e07a870726f6772657373a87b226e223a20317d"),
        ("job_claim_released", "82a3706f64a5706f642d61a5746f6b656e07"),
        ("job_claim_released", "83a3706f64a5706f642d61a5746f6b656e07a870726f6772657373a27b7d"),
        ("job_claim_expired", "83a3706f64a5706f642d61a5746f6b656e07aa657870697265645f6174cd7918"),
        (
            "job_split",
            "86a5746f6b656e07ab66697273745f6368756e6b00a66368756e6b7302ac746f74616c5f6368756e6b7302a964656c656761746564c3a870726f6772657373d9237b2264656c656761746564223a747275652c22746f74616c5f6368756e6b73223a327d",
        ),
        (
            "job_completed",
            "84a3706f64a5706f642d61a5746f6b656e07a870726f6772657373a77b226e223a327dab66696e69736865645f6174cd2328",
        ),
        ("job_completed", "82a870726f6772657373a77b226e223a327dab66696e69736865645f6174cd2328"),
        (
            "job_failed",
            "85a3706f64a5706f642d61a5746f6b656e07a56572726f72a96469736b2066756c6ca870726f6772657373a77b226e223a327dab66696e69736865645f6174cd2328",
        ),
        (
            "job_failed",
            "83a56572726f72a96469736b2066756c6ca870726f6772657373a77b226e223a327dab66696e69736865645f6174cd2328",
        ),
        ("job_purged", "83a57374617465a66661696c6564ab66696e69736865645f6174cd2328a96375746f66665f6d73cd2710"),
    ];
    assert_eq!(written, golden.map(|(name, bytes)| (name, bytes.to_owned())));
    for (event, (name, bytes)) in events.iter().zip(golden) {
        assert_eq!(JobEvent::decode(name, 1, &hex::decode(bytes).unwrap()).unwrap(), *event);
    }
}
