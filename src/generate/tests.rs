#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::OnceLock};

use super::*;
use crate::{
    OpenOptions, StoreUrl, TaskStore,
    rejection::{Error, RejectionKind},
    store::RECORDING_FROM,
    tables,
    wire::{self, ParsedLine},
};

/// The example that the repository holds.
fn example() -> &'static (Vec<u8>, Summary) {
    static EXAMPLE: OnceLock<(Vec<u8>, Summary)> = OnceLock::new();
    EXAMPLE.get_or_init(|| recording(42, 20_000))
}

fn recording(seed: u64, commands: u64) -> (Vec<u8>, Summary) {
    let mut bytes = Vec::new();
    let summary = generate(seed, commands, &mut bytes).unwrap();
    (bytes, summary)
}

fn lines() -> impl Iterator<Item = &'static str> {
    std::str::from_utf8(&example().0).unwrap().lines()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (one, summary) = recording(7, 3_000);
    let (same, _) = recording(7, 3_000);
    let (other, _) = recording(8, 3_000);
    assert!(one == same);
    assert!(one != other);
    assert!(summary.lines >= 3_000);
}

#[test]
fn days_of_other_seeds_and_sizes_go_well_too() {
    for (seed, commands) in [(0, 0), (1, 500), (2, 5_000), (3, 9_000)] {
        let (_, summary) = recording(seed, commands);
        assert!(summary.lines >= commands, "seed {seed}: {} lines of {commands}", summary.lines);
    }
}

#[test]
fn it_has_as_many_lines_as_were_asked_for_and_is_small() {
    let (bytes, summary) = example();
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!(summary.lines, lines().count() as u64);
    assert!((20_000..21_000).contains(&summary.lines), "{} lines", summary.lines);
    assert!(summary.bytes < 4_000_000, "{} bytes", summary.bytes);
}

#[test]
fn its_time_never_goes_back_and_spans_a_day() {
    let instants: Vec<_> = lines().map(|line| wire::parse(line).unwrap().at_ms.unwrap()).collect();
    assert!(instants.is_sorted());
    assert!(instants[0] < 1_000, "begins at {}", instants[0]);
    let last = instants[instants.len() - 1].cast_unsigned();
    assert!((DAY_MS - 3_600_000..DAY_MS).contains(&last), "ends at {last}");
}

#[test]
fn every_table_has_events() {
    for side in tables::SIDES {
        assert!(example().1.events.contains_key(side.table.name), "{} has none", side.table.name);
    }
}

#[test]
fn every_command_changes_something() {
    for def in tables::SIDES.iter().flat_map(|side| side.commands) {
        let tally = example().1.commands.get(def.name).copied().unwrap_or_default();
        assert!(tally.changed > 0, "{}: {tally:?}", def.name);
    }
}

#[test]
fn every_kind_of_rejection_occurs_and_all_together_are_a_few_percent() {
    use RejectionKind::{AlreadyExists, Conflict, Invalid, LeaseLost, NotFound, NotPermitted};
    let summary = &example().1;
    for kind in [NotFound, AlreadyExists, Conflict, Invalid, NotPermitted, LeaseLost] {
        let times = summary.rejections.get(kind.as_str()).copied().unwrap_or_default();
        assert!(times >= 20, "{} occurs {times} times", kind.as_str());
    }
    let percent = summary.refused() * 100 / summary.lines;
    assert!((2..=6).contains(&percent), "{percent} % are refused");
}

#[test]
fn most_of_the_day_is_about_clients_writes() {
    let summary = &example().1;
    let events: u64 = summary.events.values().sum();
    let of = |table: &str| summary.events[table] * 100 / events;
    assert!((35..75).contains(&of("tasks")), "{:?}", summary.events);
    assert!(of("idempotency_cache") >= 2 && of("sessions") >= 5, "{:?}", summary.events);
}

#[test]
fn what_dies_by_time_and_what_is_taken_over_occurs() {
    for event_type in ["job_claim_expired", "job_split", "lease_cleared", "canary_run_dropped", "task_pruned"] {
        assert!(example().1.event_types.contains_key(event_type), "no {event_type}");
    }
}

/// The generator runs one command at a time; a store commits those that wait in groups.
#[test]
fn a_fresh_store_that_commits_in_groups_gives_the_same_answers() {
    const GROUP: usize = 100;
    let options = OpenOptions { recording_from: Some(RECORDING_FROM), ..OpenOptions::default() };
    let store = TaskStore::open_with(&StoreUrl::Memory, options).unwrap();
    let mut refused = BTreeMap::new();
    let lines: Vec<_> = lines().collect();
    for group in lines.chunks(GROUP) {
        let answers: Vec<_> = group
            .iter()
            .map(|line| {
                let ParsedLine { mut request, at_ms } = wire::parse(line).unwrap();
                request.at = at_ms.map(|at| RECORDING_FROM + at);
                store.queue(request).unwrap()
            })
            .collect();
        for (answer, line) in answers.into_iter().zip(group) {
            match answer.wait() {
                Ok(_) => {}
                Err(Error::Rejected(rejection)) => *refused.entry(rejection.kind.as_str()).or_default() += 1,
                Err(Error::Store(error)) => panic!("{}: {line}", error.full()),
            }
        }
    }
    let (_, summary) = example();
    assert_eq!(refused, summary.rejections);
    let head = store.read(|log, _| Ok(log.head()?.position.0)).unwrap();
    assert_eq!(head, summary.events.values().sum::<u64>());
}
