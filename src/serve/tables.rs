//! Rows: one, or a page of them.

use std::ops::ControlFlow;

use axum::extract::{Path, rejection::PathRejection};
use tasklog_log::Position;
use tasklog_projections::{Cell, TableDef};

use super::{
    answer::Answer,
    asked::{Asked, path, table_named},
    cursor::{Cursor, CursorKey},
    problem::Problem,
};
use crate::{
    Error, TaskStore,
    show::{
        mask::Mask,
        rows::{condition, fields, object, scan},
    },
};

/// Rows looked at for one page. A page that found fewer than it may have says where it stopped.
const LOOKED_AT_MAX: usize = 50_000;
/// Bytes of rows after which a page takes no further one.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// `GET /v1/tables/{table}/{*key}`
pub(crate) async fn row(parts: Result<Path<(String, String)>, PathRejection>, asked: Asked) -> Result<Answer, Problem> {
    let (name, key) = path(parts)?;
    let table = table_named(&name)?;
    let missing = format!("no row {key:?} in {name}");
    asked
        .read(
            || missing,
            move |store, mask| {
                store.read_tables(|read| {
                    let position = read.position()?;
                    let found = read.get_any(table, &key)?;
                    let row = found.map(|held| fields(table, &held.row, held.rev, mask)).transpose()?;
                    Ok((row.map(object), position))
                })
            },
        )
        .await
}

/// `GET /v1/tables/{table}`
pub(crate) async fn list(parts: Result<Path<String>, PathRejection>, mut asked: Asked) -> Result<Answer, Problem> {
    let table = table_named(&path(parts)?)?;
    let key = asked.app.cursor_key();
    let page = Page::asked(table, &mut asked, key)?;
    asked.read(String::new, move |store, mask| page.read(store, mask)).await
}

/// Which rows.
struct Page {
    table: &'static TableDef,
    wanted: Vec<(usize, Cell<'static>)>,
    limit: usize,
    after: Option<Vec<Cell<'static>>>,
    key: CursorKey,
    /// Whether cursors, which hold values of columns, must not show them.
    sealed: bool,
}

impl Page {
    fn asked(table: &'static TableDef, asked: &mut Asked, key: CursorKey) -> Result<Self, Problem> {
        let at = asked.params.take("at");
        let limit = asked.params.take_limit()?;
        let cursor = asked.params.take("cursor");
        let mut wanted = Vec::new();
        for (name, value) in asked.params.rest() {
            let condition = condition(table, &name, &value);
            let condition = condition.map_err(|why| Problem::malformed(format!("{name}: {why}")))?;
            if !asked.caller.sees_sensitive && table.sensitive.contains(&&*name) {
                let detail = format!("{name}: this token does not see that column, so it cannot look for its values");
                return Err(Problem::forbidden(detail));
            }
            wanted.push(condition);
        }
        asked.params.put("at", at);
        let sealed = !asked.caller.sees_sensitive && !table.sensitive.is_empty();
        let scan = scan(table, &wanted);
        let after = cursor.map(|text| Cursor::open(&text, table, &scan, &key)).transpose();
        let after = after.map_err(|why| Problem::malformed(format!("cursor: {why}")))?;
        Ok(Self { table, wanted, limit, after, key, sealed })
    }

    fn read(self, store: &TaskStore, mask: &mut Mask) -> Result<(Option<String>, Position), Error> {
        let Self { table, wanted, limit, after, key, sealed } = self;
        store.read_tables(|read| {
            let position = read.position()?;
            let mut scan = scan(table, &wanted);
            let (index, equal) = (scan.index, scan.equal.len());
            if let Some(after) = after {
                scan = scan.after(after);
            }
            let (mut rows, mut last, mut more) = (Vec::new(), None, false);
            let (mut looked_at, mut bytes) = (0, 0);
            read.walk_any(table, scan, |row, rev| {
                if rows.len() == limit || looked_at == LOOKED_AT_MAX || bytes > PAGE_BYTES_MAX {
                    more = true;
                    return Ok(ControlFlow::Break(()));
                }
                looked_at += 1;
                if wanted.iter().all(|(at, value)| row.cells()[*at] == *value) {
                    let row = object(fields(table, &row, rev, mask)?);
                    bytes += row.len();
                    rows.push(row);
                }
                last = Some(row);
                Ok(ControlFlow::Continue(()))
            })?;
            let next = match last.filter(|_| more) {
                None => "null".to_owned(),
                Some(row) => {
                    let cells = table.cursor(index, equal, &row)?;
                    format!("\"{}\"", Cursor { table: table.name, index, cells: &cells }.close(&key, sealed))
                }
            };
            Ok((Some(format!(r#"{{"rows":[{}],"next":{next}}}"#, rows.join(","))), position))
        })
    }
}
