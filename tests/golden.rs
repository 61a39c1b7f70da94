//! Golden scripts: commands in; replies, events, rows and rejections out. The same scripts run on every backend, and on
//! a mirror that runs two backends side by side and asserts that they answer alike.
//!
//! `UPDATE_GOLDENFILES=1 cargo test --test golden` records what the memory backend answers.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use support::script::{Mirror, Runner, Single};

fn scripts(table: &str) -> Vec<std::path::PathBuf> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(table);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no golden scripts for {table}");
    paths
}

fn run<S: support::script::Subject>(table: &str, open: impl Fn() -> S) {
    let updating = std::env::var("UPDATE_GOLDENFILES").is_ok_and(|value| value == "1");
    if updating && !open().records() {
        return;
    }
    for path in scripts(table) {
        goldenscript::run(&mut Runner::new(open()), &path).unwrap();
    }
}

macro_rules! golden {
    ($($table:ident),+ $(,)?) => {
        mod memory { $(#[test] fn $table() { super::run(stringify!($table), super::Single::memory); })+ }
        mod sqlite { $(#[test] fn $table() { super::run(stringify!($table), super::Single::sqlite); })+ }
        mod redis { $(#[test] fn $table() { super::run(stringify!($table), super::Single::redis); })+ }
        mod memory_beside_sqlite {
            $(#[test] fn $table() {
                super::run(stringify!($table), || super::Mirror(super::Single::memory(), super::Single::sqlite()));
            })+
        }
        mod memory_beside_redis {
            $(#[test] fn $table() {
                super::run(stringify!($table), || super::Mirror(super::Single::memory(), super::Single::redis()));
            })+
        }
        mod sqlite_beside_redis {
            $(#[test] fn $table() {
                super::run(stringify!($table), || super::Mirror(super::Single::sqlite(), super::Single::redis()));
            })+
        }
    };
}

// One line per table that has a folder under tests/golden/.
golden! {
    tasks,
    node_settings_version,
    aliases,
    sessions,
    idempotency_cache,
    jobs,
    leader_lease,
    canaries,
    canary_runs,
    cdc_cursors,
    tenant_map,
    rollover_policies,
    search_ui_config,
    admin_sessions,
}
