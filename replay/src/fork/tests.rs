#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use tasklog_log::{CommitId, CommitMeta};
use tasklog_projections::{
    Json, TableEvent,
    tables::jobs::{JobClaimed, JobEvent, JobProgressSaved},
};

use super::*;

fn commit(events: Vec<(u64, Option<u64>, &str, JobEvent)>) -> Commit {
    let meta = CommitMeta { id: CommitId::mint(), actor: "me".into(), reason: None, request_id: None };
    let mut events: Vec<_> = events
        .into_iter()
        .map(|(position, prev, key, event)| Event {
            position: Position(position),
            table: "jobs".into(),
            key: key.into(),
            event_type: Arc::<str>::from(event.event_type().name).into(),
            type_version: 1,
            prev: prev.map(Position),
            payload: event.encode(),
            checksum: 0,
        })
        .collect();
    for event in &mut events {
        event.checksum = checksum(&meta, 5, event);
    }
    Commit { meta, recorded_at: 5, events }
}

fn claimed() -> JobEvent {
    let event = JobClaimed { pod: "pod-é".into(), claimed_at: 5, claim_expires_at: 1 << 40, attempt: 1 };
    JobEvent::JobClaimed(event)
}

fn saved(token: i64) -> JobEvent {
    JobEvent::JobProgressSaved(JobProgressSaved { token, progress: Json::parse(r#"{"token":900}"#).unwrap() })
}

fn forker(skip: &[u64]) -> Forker {
    Forker::new(skip.iter().copied().map(Position).collect(), Vec::new())
}

#[test]
fn with_nothing_left_out_a_commit_is_the_same_byte_for_byte() {
    let commit = commit(vec![(1, None, "a", claimed()), (2, Some(1), "a", saved(1))]);
    assert_eq!(forker(&[]).commit(&commit).unwrap(), Some(commit));
}

#[test]
fn links_and_positions_in_payloads_follow_and_the_rest_of_a_payload_stays() {
    let mut forker = forker(&[1, 302]);
    assert_eq!(forker.commit(&commit(vec![(1, None, "b", claimed())])).unwrap(), None);
    let first: Vec<_> = (2..=300).map(|at| (at, None, "x", claimed())).collect();
    forker.commit(&commit(first)).unwrap();
    let page = commit(vec![
        (301, None, "a", claimed()),
        (302, Some(301), "a", saved(301)),
        (303, Some(302), "a", saved(301)),
        (304, Some(303), "a", saved(302)),
        (305, Some(1), "b", saved(1)),
    ]);
    let forked = forker.commit(&page).unwrap().unwrap();
    let links: Vec<_> = forked.events.iter().map(|event| (event.position.0, event.prev.map(|prev| prev.0))).collect();
    assert_eq!(links, [(300, None), (301, Some(300)), (302, Some(301)), (303, None)]);
    let decoded = |at: usize| {
        let event = &forked.events[at];
        JobEvent::decode(&event.event_type, 1, &event.payload).unwrap()
    };
    assert_eq!([decoded(0), decoded(1), decoded(2), decoded(3)], [claimed(), saved(300), saved(0), saved(0)]);
    forked.events.iter().for_each(|event| forked.check(event).unwrap());
    assert_eq!(forker.left_out_of("jobs", "a"), [Position(302)]);
    let origins = [1, 299, 300, 301, 303].map(|at| forker.origin(Position(at)).0);
    assert_eq!(origins, [2, 300, 301, 303, 305]);
    assert_eq!([1, 2, 302, 303].map(|at| forker.moved(Position(at)).map(|at| at.0)), [None, Some(1), None, Some(301)]);
}

#[test]
fn bytes_that_are_no_payload_are_refused_and_never_a_panic() {
    let good = saved(300).encode();
    for cut in 0..good.len() {
        assert!(payload::with_positions(&good[..cut], &["token"], &|at| at).is_err());
    }
    assert_eq!(payload::with_positions(&good, &["token"], &|at| at).unwrap(), good);
    let mut longer = good;
    longer.push(0);
    assert!(payload::with_positions(&longer, &["token"], &|at| at).is_err());
}
