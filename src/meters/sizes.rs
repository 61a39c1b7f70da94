use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tasklog_projections::{
    TableDef,
    tables::{idempotency_cache, sessions, tasks},
};

/// How many rows the tables have that may have very many, kept by their writer: counting them in a file would read an
/// index from one end to the other. Dead rows count until they are swept.
#[derive(Default)]
pub(crate) struct Sizes {
    wanted: AtomicBool,
    /// One more than the number, so that 0 is "not known".
    rows: [AtomicU64; 3],
}

impl Sizes {
    /// The tables whose size is kept.
    pub(crate) const TABLES: [&'static TableDef; 3] = [&tasks::DEF, &sessions::DEF, &idempotency_cache::DEF];

    /// Whether anybody has asked for the sizes: until then they are not looked for.
    pub(crate) fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Remembers how many rows a table has.
    pub(crate) fn keep(&self, table: &TableDef, rows: u64) {
        if let Some(at) = place(table) {
            self.rows[at].store(rows.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Nothing is known any more.
    pub(crate) fn forget(&self) {
        for rows in &self.rows {
            rows.store(0, Ordering::Relaxed);
        }
    }

    /// How many rows a table has, if that is known; from now on it will be.
    pub(crate) fn ask(&self, table: &TableDef) -> Option<u64> {
        self.wanted.store(true, Ordering::Relaxed);
        self.rows[place(table)?].load(Ordering::Relaxed).checked_sub(1)
    }
}

fn place(table: &TableDef) -> Option<usize> {
    Sizes::TABLES.iter().position(|known| known.name == table.name)
}
