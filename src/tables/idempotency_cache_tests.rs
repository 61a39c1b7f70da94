#![allow(clippy::unwrap_used)]

use crate::{store::TaskStore, wire};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Queues one request per hash for one key, all before any is answered.
fn answers<'h>(hashes: impl Iterator<Item = &'h str>) -> Vec<String> {
    let store = TaskStore::open("memory:").unwrap();
    let queued: Vec<_> = hashes
        .enumerate()
        .map(|(task, hash)| {
            let args = format!(r#"{{"key":"k","body_sha256":"{hash}","miroir_task_id":"m{task}"}}"#);
            let line = format!(r#"{{"command":"idempotency_cache.check_or_record","args":{args}}}"#);
            store.queue(wire::parse(&line).unwrap().request).unwrap()
        })
        .collect();
    let shown = |answer: Result<crate::engine::AnyReply, crate::Error>| match answer {
        Ok(reply) => reply.answers.to_json().join(" "),
        Err(error) => error.kind().to_owned(),
    };
    queued.into_iter().map(|queued| shown(queued.wait())).collect()
}

#[test]
fn of_equal_requests_at_once_one_is_a_miss_and_the_others_get_its_task() {
    let answers = answers(std::iter::repeat_n(A, 200));
    let misses = answers.iter().filter(|answer| answer.contains(r#""outcome":"miss""#)).count();
    let dedups = answers.iter().filter(|answer| answer.contains(r#""outcome":"dedup""#)).count();
    assert_eq!((misses, dedups), (1, 199));
    assert!(answers.iter().all(|answer| answer.contains(r#""miroir_task_id":"m0""#)));
}

#[test]
fn of_different_requests_at_once_one_wins_and_the_others_conflict() {
    let answers = answers([A, B, B, A].into_iter());
    assert!(answers[0].contains("miss") && answers[3].contains("dedup"));
    assert_eq!(answers[1..3], ["conflict", "conflict"]);
}
