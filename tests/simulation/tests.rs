//! The simulation notices what it is there to notice, and says it in few steps.

use std::collections::BTreeSet;

use crate::{
    commands::Pick,
    run::{report, run},
    shrink::shrink,
    step::{Plan, Step},
    world::Kind,
};

/// Seeds in which everything must have happened.
const SEEDS_MAX: u64 = 60;

/// A history of commands of tasks, most of them from a seed, with `step` after all of them.
fn with(kind: Kind, step: Step) -> Plan {
    let mut plan = Plan::of(7, kind);
    plan.names = crate::commands::names(&["tasks"]);
    plan.steps.retain(|step| matches!(step, Step::Run(_) | Step::Batch(_) | Step::Transact(_) | Step::Clock(_)));
    let register = plan.names.iter().position(|name| *name == "tasks.register").unwrap();
    plan.steps.push(Step::Run(Pick { command: register as u8, a: 1, b: 1, c: 1, d: 1, lease: 0 }));
    assert!(run(&plan).is_ok());
    plan.steps.push(step);
    plan
}

/// The steps that are left of a history that must fail.
#[track_caller]
fn left(plan: &Plan, says: &str) -> Vec<String> {
    let report = report(plan).expect("it must be noticed");
    let (whole, shrunk) = report.split_once("steps are left").unwrap();
    assert!(whole.contains(&format!("seed {}", plan.seed)) && shrunk.contains(says), "{report}");
    shrunk.lines().skip(1).filter(|line| line.starts_with("   ")).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_row_that_was_changed_by_hand_is_noticed() {
    let plan = with(Kind::Sqlite, Step::Tamper);
    let steps = left(&plan, "tasks/");
    assert!(steps.len() == 2 && steps[0].contains("tasks.register") && steps[1].ends_with("tamper"), "{steps:?}");
}

#[test]
fn a_commit_that_was_acknowledged_and_is_not_there_is_noticed() {
    let steps = left(&with(Kind::Memory, Step::Lie), "an acknowledged commit");
    assert_eq!(steps, ["0  lie"]);
}

#[test]
fn a_write_ahead_log_that_was_never_synced_is_noticed() {
    let plan = with(Kind::Sqlite, Step::LoseTheWriteAheadLog);
    let steps = left(&plan, "an acknowledged commit");
    assert!(steps.len() <= 2 && steps.iter().any(|step| step.ends_with("losethewriteaheadlog")), "{steps:?}");
}

#[test]
fn no_step_is_left_that_can_be_left_out() {
    let steps: Vec<_> = (0..40).map(Step::Clock).collect();
    let has = |steps: &[Step], ms: i64| steps.iter().any(|step| matches!(step, Step::Clock(at) if *at == ms));
    let shrunk = shrink(&steps, |steps| has(steps, 3) && (has(steps, 17) || has(steps, 18)) && has(steps, 39));
    let left: Vec<_> = shrunk.steps.iter().map(|step| step.line(&[])).collect();
    assert!(shrunk.smallest);
    assert_eq!(left, ["clock +3", "clock +18", "clock +39"]);
}

/// Histories in which nothing happens would prove nothing.
#[test]
fn what_is_rare_happens_in_some_history() {
    let mut missing =
        BTreeSet::from(["a trim", "a batch that failed", "a quarantine", "a lifted quarantine", "a torn end"]);
    missing.extend(["a follower that has caught up", "a follower that began with a snapshot"]);
    for seed in 1..=SEEDS_MAX {
        let did = run(&Plan::of(seed, Kind::Sqlite)).unwrap();
        missing.retain(|what| !did.contains(what));
        if missing.is_empty() {
            return;
        }
    }
    panic!("never happened: {missing:?}");
}
