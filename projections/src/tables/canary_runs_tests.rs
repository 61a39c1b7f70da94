#![allow(clippy::unwrap_used)]
use super::*;
use crate::TableEvent;
use tasklog_log::Position;

fn fold_at(
    key: &str,
    row: Option<CanaryRunRow>,
    event: impl Into<CanaryRunEvent>,
) -> Result<Option<CanaryRunRow>, Impossible> {
    CanaryRuns::evolve(row, event.into(), &At { position: Position(7), recorded_at: 2_000, key })
}

fn fold(row: Option<CanaryRunRow>, event: impl Into<CanaryRunEvent>) -> Result<Option<CanaryRunRow>, Impossible> {
    fold_at("a%2Fb/1000", row, event)
}

fn record(status: RunStatus, failed: Option<&str>) -> CanaryRunRecorded {
    CanaryRunRecorded {
        status,
        latency_ms: 12,
        failed_assertions_json: failed.map(|text| Json::parse(text).unwrap()),
        history_limit: 100,
        runner_pod: None,
    }
}

const FAILED: &str = r#"[{"type":"min_hits"}]"#;

#[test]
fn a_recorded_run_takes_its_key_from_the_envelope() {
    let row = fold(None, record(RunStatus::Fail, Some(FAILED))).unwrap().unwrap();
    assert_eq!((&*row.canary_id, row.ran_at), ("a/b", 1_000));
    assert_eq!((row.status, row.latency_ms), (RunStatus::Fail, 12));
    assert_eq!(row.failed_assertions_json.unwrap().as_str(), FAILED);
}

#[test]
fn a_recorded_run_with_no_run_key_is_impossible() {
    assert!(fold_at("c1", None, record(RunStatus::Pass, None)).is_err());
    assert!(fold_at("c1/soon", None, record(RunStatus::Pass, None)).is_err());
    assert!(fold_at("c1/01", None, record(RunStatus::Pass, None)).is_err());
}

#[test]
fn a_run_is_recorded_once() {
    let row = fold(None, record(RunStatus::Pass, None)).unwrap();
    assert_eq!(fold(row, record(RunStatus::Pass, None)), Err(Impossible::row_exists("canary_run_recorded")));
}

#[test]
fn only_a_pass_needs_no_failed_assertions_and_only_a_fail_needs_some() {
    let possible = |status, failed| fold(None, record(status, failed)).is_ok();
    assert!(possible(RunStatus::Pass, None));
    assert!(!possible(RunStatus::Pass, Some(FAILED)));
    assert!(!possible(RunStatus::Fail, None));
    assert!(!possible(RunStatus::Fail, Some("[ \n]")));
    assert!(!possible(RunStatus::Fail, Some("{}")));
    assert!(possible(RunStatus::Fail, Some(FAILED)));
    assert!(possible(RunStatus::Error, None));
    assert!(possible(RunStatus::Error, Some(FAILED)));
    assert!(!possible(RunStatus::Error, Some("[]")));
}

#[test]
fn a_dropped_run_is_gone_whatever_the_reason() {
    for why in [DropReason::Limit, DropReason::Age, DropReason::CanaryDeleted] {
        let row = fold(None, record(RunStatus::Pass, None)).unwrap();
        assert_eq!(fold(row, CanaryRunDropped { why }), Ok(None));
        assert_eq!(fold(None, CanaryRunDropped { why }), Err(Impossible::no_row("canary_run_dropped")));
    }
}

#[test]
fn the_bytes_of_each_event_stay_as_they_are() {
    let fail = CanaryRunRecorded { runner_pod: Some("pod-1".into()), ..record(RunStatus::Fail, Some(FAILED)) };
    let events: [(CanaryRunEvent, &str); 3] = [
        (
            fail.into(),
            "85a6737461747573a46661696caa6c6174656e63795f6d730cb66661696c65645f617373657274696f6e735f6a736f6e\
             b55b7b2274797065223a226d696e5f68697473227d5dad686973746f72795f6c696d697464aa72756e6e65725f706f64\
             a5706f642d31",
        ),
        (
            record(RunStatus::Pass, None).into(),
            "83a6737461747573a470617373aa6c6174656e63795f6d730cad686973746f72795f6c696d697464",
        ),
        (CanaryRunDropped { why: DropReason::Limit }.into(), "81a3776879a56c696d6974"),
    ];
    for (event, bytes) in events {
        assert_eq!(hex::encode(event.encode()), bytes, "{event:?}");
        let known = event.event_type();
        assert_eq!(CanaryRunEvent::decode(known.name, 1, &hex::decode(bytes).unwrap()).unwrap(), event);
    }
}
