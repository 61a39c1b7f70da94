#![allow(clippy::unwrap_used)]

use tasklog_log::Position;

use super::*;
use crate::TableEvent;

const SCOPE: &str = "rebalance:products";

fn at(position: u64, recorded_at: i64) -> At<'static> {
    At { position: Position(position), recorded_at, key: SCOPE }
}

/// pod-a holds the scope in term 3 until 11,000 ms.
fn held_by_a() -> LeaseRow {
    LeaseRow {
        scope: SCOPE.into(),
        holder: "pod-a".into(),
        expires_at: 11_000,
        term: 3,
        phase: Some(phase("backfill")),
        acquired_at: 1_000,
    }
}

fn phase(name: &str) -> Json {
    Json::parse(&format!("{{\"name\":\"{name}\"}}")).unwrap()
}

fn grant(holder: &str, now: i64, previous: Option<&LeaseRow>) -> LeaseEvent {
    LeaseEvent::from(LeaseAcquired {
        holder: holder.into(),
        acquired_at: now,
        expires_at: now + 10_000,
        takeover: previous.is_some_and(|row| row.holder != holder),
        previous: previous.map(|row| PreviousLease {
            holder: row.holder.clone(),
            term: row.term,
            expires_at: row.expires_at,
        }),
    })
}

fn renewal(holder: &str, term: i64) -> LeaseEvent {
    LeaseRenewed { holder: holder.into(), term, expires_at: 14_000 }.into()
}

fn fold(row: Option<LeaseRow>, event: impl Into<LeaseEvent>, at: &At<'_>) -> Result<Option<LeaseRow>, Impossible> {
    LeaderLease::evolve(row, event.into(), at)
}

#[test]
fn a_grant_makes_a_row_whose_term_is_its_own_position() {
    let row = fold(None, grant("pod-a", 1_000, None), &at(3, 1_000)).unwrap().unwrap();
    assert_eq!(row, LeaseRow { phase: None, ..held_by_a() });
}

#[test]
fn a_takeover_keeps_the_phase_and_raises_the_term() {
    let before = held_by_a();
    let row = fold(Some(before.clone()), grant("pod-b", 11_000, Some(&before)), &at(9, 11_000)).unwrap().unwrap();
    assert_eq!((row.holder.as_str(), row.term, row.expires_at), ("pod-b", 9, 21_000));
    assert_eq!(row.phase, Some(phase("backfill")));
}

#[test]
fn a_grant_over_a_live_lease_is_possible_for_the_same_holder_name_only() {
    let before = held_by_a();
    let again = fold(Some(before.clone()), grant("pod-a", 10_999, Some(&before)), &at(9, 10_999)).unwrap().unwrap();
    assert_eq!(again.term, 9);
    let refused = fold(Some(before.clone()), grant("pod-b", 10_999, Some(&before)), &at(9, 10_999)).unwrap_err();
    assert!(refused.0.contains("lasts until 11000"), "{}", refused.0);
}

#[test]
fn a_grant_that_names_another_predecessor_is_impossible() {
    let before = held_by_a();
    assert!(fold(Some(before.clone()), grant("pod-b", 12_000, None), &at(9, 12_000)).is_err());
    assert!(fold(None, grant("pod-b", 12_000, Some(&before)), &at(9, 12_000)).is_err());
}

#[test]
fn a_renewal_moves_the_end_for_its_holder_and_term_only() {
    let row = fold(Some(held_by_a()), renewal("pod-a", 3), &at(4, 4_000)).unwrap().unwrap();
    assert_eq!(row, LeaseRow { expires_at: 14_000, ..held_by_a() });
    assert!(fold(Some(held_by_a()), renewal("pod-b", 3), &at(4, 4_000)).is_err());
    assert!(fold(Some(held_by_a()), renewal("pod-a", 2), &at(4, 4_000)).is_err());
    assert_eq!(fold(None, renewal("pod-a", 3), &at(4, 4_000)), Err(Impossible::no_row("lease_renewed")));
}

#[test]
fn a_phase_is_stored_for_the_current_term_only() {
    let commit = |term| LeasePhaseCommitted { term, phase: phase("verify") };
    let row = fold(Some(held_by_a()), commit(3), &at(4, 4_000)).unwrap().unwrap();
    assert_eq!(row, LeaseRow { phase: Some(phase("verify")), ..held_by_a() });
    assert!(fold(Some(held_by_a()), commit(2), &at(4, 4_000)).is_err());
    assert_eq!(fold(None, commit(3), &at(4, 4_000)), Err(Impossible::no_row("lease_phase_committed")));
}

#[test]
fn a_release_by_the_holder_removes_the_row() {
    let release = |holder: &str, term| LeaseReleased { holder: holder.into(), term };
    assert_eq!(fold(Some(held_by_a()), release("pod-a", 3), &at(4, 4_000)), Ok(None));
    assert!(fold(Some(held_by_a()), release("pod-b", 3), &at(4, 4_000)).is_err());
    assert!(fold(Some(held_by_a()), release("pod-a", 2), &at(4, 4_000)).is_err());
    assert_eq!(fold(None, release("pod-a", 3), &at(4, 4_000)), Err(Impossible::no_row("lease_released")));
}

#[test]
fn only_an_ended_right_is_cleared() {
    let clear = || LeaseCleared { holder: "pod-a".into(), term: 3, expires_at: 11_000, phase: None };
    assert_eq!(fold(Some(held_by_a()), clear(), &at(9, 11_000)), Ok(None));
    assert!(fold(Some(held_by_a()), clear(), &at(9, 10_999)).is_err());
    assert!(fold(Some(held_by_a()), LeaseCleared { term: 2, ..clear() }, &at(9, 11_000)).is_err());
    assert_eq!(fold(None, clear(), &at(9, 11_000)), Err(Impossible::no_row("lease_cleared")));
}

#[test]
fn payload_bytes_stay_as_they_were_written() {
    let released = LeaseReleased { holder: "pod-a".into(), term: 3 };
    let cleared = LeaseCleared { holder: "pod-a".into(), term: 3, expires_at: 11_000, phase: Some(phase("verify")) };
    let events: [LeaseEvent; 6] = [
        grant("pod-a", 1_000, None),
        grant("pod-b", 11_000, Some(&held_by_a())),
        renewal("pod-a", 3),
        LeasePhaseCommitted { term: 3, phase: phase("verify") }.into(),
        released.into(),
        cleared.into(),
    ];
    let written: Vec<_> = events.iter().map(|event| (event.event_type().name, hex::encode(event.encode()))).collect();
    let golden = [
        (
            "lease_acquired",
            "84a6686f6c646572a5706f642d61ab61637175697265645f6174cd03e8aa657870697265735f6174cd2af8a874616b656f766572c2",
        ),
        (
            "lease_acquired",
            "85a6686f6c646572a5706f642d62ab61637175697265645f6174cd2af8aa657870697265735f6174cd5208a874616b656f766572c3a870726576696f757383a6686f6c646572a5706f642d61a47465726d03aa657870697265735f6174cd2af8",
        ),
        ("lease_renewed", "83a6686f6c646572a5706f642d61a47465726d03aa657870697265735f6174cd36b0"),
        ("lease_phase_committed", "82a47465726d03a57068617365b17b226e616d65223a22766572696679227d"),
        ("lease_released", "82a6686f6c646572a5706f642d61a47465726d03"),
        (
            "lease_cleared",
            "84a6686f6c646572a5706f642d61a47465726d03aa657870697265735f6174cd2af8a57068617365b17b226e616d65223a22766572696679227d",
        ),
    ];
    assert_eq!(written, golden.map(|(name, bytes)| (name, bytes.to_owned())));
    for (event, (name, bytes)) in events.iter().zip(golden) {
        assert_eq!(LeaseEvent::decode(name, 1, &hex::decode(bytes).unwrap()).unwrap(), *event);
    }
}
