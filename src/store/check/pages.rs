use rusqlite::Connection;
use tasklog_log::StoreError;
use tasklog_projections::PROJECTED;
use tasklog_replay::{Finding, Report};

/// Lines of SQLite's own check that are told.
const LINES_MAX: u32 = 100;

/// Has SQLite look at every page of the file, and at every index against its table.
///
/// # Errors
/// `unavailable`.
pub(super) fn check(conn: &Connection, report: &mut Report) -> Result<(), StoreError> {
    let owners = owners(conn)?;
    for line in lines(conn, LINES_MAX)? {
        let owner = owners.iter().find(|owner| owner.is_told_by(&line));
        let why = format!(
            "{line}; {}",
            owner.map_or(RESTORE, |owner| owner.mends).replace("TABLE", owner.map_or("", |owner| &owner.table))
        );
        let what = owner.map_or_else(|| "the file".to_owned(), |owner| format!("table {}", owner.table));
        report.add(Finding::Store { what, why });
    }
    Ok(())
}

/// The first thing that SQLite's own check finds in a file; none if it is whole.
///
/// # Errors
/// `unavailable`.
pub(in crate::store) fn damage(conn: &Connection) -> Result<Option<String>, StoreError> {
    Ok(lines(conn, 1)?.into_iter().next())
}

fn lines(conn: &Connection, max: u32) -> Result<Vec<String>, StoreError> {
    let read = || -> Result<Vec<String>, rusqlite::Error> {
        let mut check = conn.prepare(&format!("PRAGMA integrity_check({max})"))?;
        let text = |row: &rusqlite::Row<'_>| {
            Ok(String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).into_owned())
        };
        check.query_map([], text)?.collect()
    };
    match read().map_err(StoreError::from) {
        Ok(lines) => Ok(lines
            .into_iter()
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line != "ok")
            .collect()),
        // So damaged that not even that can be told.
        Err(StoreError::Corrupt { why, .. }) => Ok(vec![why]),
        Err(error) => Err(error),
    }
}

const RESTORE: &str = "restore a backup, or copy what can be read to a new store";
const REBUILD_ALL: &str = "`tasklog rebuild` writes it anew";
const REBUILD: &str = "`tasklog rebuild TABLE` writes it anew";

/// A table or an index of the file, and what mends it.
struct Owner {
    name: String,
    table: String,
    root: i64,
    mends: &'static str,
}

impl Owner {
    /// Whether a line of the check is about it: it names it, or the root page of its tree.
    fn is_told_by(&self, line: &str) -> bool {
        if let Some(root) = line.strip_prefix("Tree ").and_then(|rest| rest.split(' ').next()) {
            return root.parse() == Ok(self.root);
        }
        line.split([' ', '.', ':']).any(|word| word == self.name)
    }
}

fn owners(conn: &Connection) -> Result<Vec<Owner>, StoreError> {
    let mut select = conn.prepare("SELECT name, tbl_name, rootpage FROM sqlite_schema WHERE rootpage > 0")?;
    let owners = select.query_map([], |row| {
        let (name, table, root): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let of = PROJECTED.iter().find(|known| table == known.name || table.starts_with(&format!("_{}_", known.name)));
        let (table, mends) = match of {
            Some(known) if known.name.starts_with('_') => (table, REBUILD_ALL),
            Some(known) => (known.name.to_owned(), REBUILD),
            None if table == "_tombstones" => (table, REBUILD_ALL),
            None => (table, RESTORE),
        };
        Ok(Owner { name, table, root, mends })
    })?;
    Ok(owners.collect::<Result<_, _>>()?)
}
