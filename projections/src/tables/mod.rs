//! The tables, one file each. Adding one is adding its file and its line in [`TABLES`].

pub mod admin_sessions;
pub mod aliases;
pub mod canaries;
pub mod canary_runs;
pub mod cdc_cursors;
pub mod idempotency_cache;
pub mod jobs;
pub mod leader_lease;
pub mod node_settings_version;
pub mod rollover_policies;
pub mod search_ui_config;
pub mod sessions;
pub mod tasks;
pub mod tenant_map;

use crate::{TableDef, facts};

/// Every table, in the order of the specification.
pub static TABLES: [&TableDef; 14] = [
    &tasks::DEF,
    &node_settings_version::DEF,
    &aliases::DEF,
    &sessions::DEF,
    &idempotency_cache::DEF,
    &jobs::DEF,
    &leader_lease::DEF,
    &canaries::DEF,
    &canary_runs::DEF,
    &cdc_cursors::DEF,
    &tenant_map::DEF,
    &rollover_policies::DEF,
    &search_ui_config::DEF,
    &admin_sessions::DEF,
];

/// Everything that is folded from the log: the 14 tables, and the facts about the log itself.
pub static PROJECTED: [&TableDef; TABLES.len() + 1] = {
    let mut all = [&facts::DEF; TABLES.len() + 1];
    let mut at = 0;
    while at < TABLES.len() {
        all[at] = TABLES[at];
        at += 1;
    }
    all
};

/// A table, or the facts about the log, by name.
#[must_use]
pub fn table(name: &str) -> Option<&'static TableDef> {
    PROJECTED.iter().find(|table| table.name == name).copied()
}
