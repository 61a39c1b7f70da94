use rusqlite::Connection;
use tasklog_log::StoreError;
use tasklog_projections::{TableDef, sqlite::check_values};
use tasklog_replay::{Finding, Problem, Report};

/// Compares the side tables of indexes over several values with the rows that they lead to.
///
/// # Errors
/// `unavailable`.
pub(super) fn values(conn: &Connection, tables: &[&'static TableDef], report: &mut Report) -> Result<(), StoreError> {
    for table in tables {
        let checked = check_values(conn, table, |found| {
            let problem = if found.missing { Problem::Missing } else { Problem::Stray };
            let helper = format!("{} under {:?}", found.helper, found.value);
            report.add(Finding::Helper { table: table.name, key: found.key, helper, problem });
        });
        match checked {
            Ok(()) => {}
            // What is missing there, or cannot be read at all, was told.
            Err(StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
