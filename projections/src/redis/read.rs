//! Rows as Redis holds them, back into rows.

use tasklog_log::{
    Checkpoint, CommitId, LogInfo, StoreError,
    redis::{Keys, Link},
};

use super::{
    names::{Names, suffix},
    position,
    shape::{Shape, rev_place, row_hash, runs, shape},
};
use crate::{Cell, Cells, Held, Kind, TableDef, found::json_cell};

/// Rows asked for in one pipeline.
const PIPELINE_ROWS_MAX: usize = 256;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

pub(super) fn rows(
    link: &Link,
    names: &Names,
    table: &'static TableDef,
    keys: &[String],
) -> Result<Vec<Option<Held>>, StoreError> {
    let mut rows = Vec::with_capacity(keys.len());
    for keys in keys.chunks(PIPELINE_ROWS_MAX) {
        match shape(table) {
            Shape::Run => runs_of(link, names, table, keys, &mut rows)?,
            _ => hashes(link, names, table, keys, &mut rows)?,
        }
    }
    Ok(rows)
}

fn hashes(
    link: &Link,
    names: &Names,
    table: &'static TableDef,
    keys: &[String],
    rows: &mut Vec<Option<Held>>,
) -> Result<(), StoreError> {
    type Found = (Vec<Fields>, Vec<Option<Vec<u8>>>);
    let (found, numbers): Found = match shape(table) {
        // A cursor's number has a key of its own: both are one moment's.
        Shape::Cursor => link.ask(|conn| {
            let mut pipe = ::redis::pipe();
            pipe.atomic();
            for key in keys {
                pipe.cmd("HGETALL").arg(row_hash(names, table, key));
                pipe.cmd("GET").arg(names.of(table, &suffix(table, key)));
            }
            let values: Vec<::redis::Value> = pipe.query(conn)?;
            let pairs = values
                .chunks(2)
                .map(|pair| Ok((::redis::from_redis_value_ref(&pair[0])?, ::redis::from_redis_value_ref(&pair[1])?)));
            Ok(pairs.collect::<::redis::RedisResult<Vec<_>>>()?.into_iter().unzip())
        })?,
        _ => {
            let found = link.ask(|conn| {
                let mut pipe = ::redis::pipe();
                for key in keys {
                    pipe.cmd("HGETALL").arg(row_hash(names, table, key));
                }
                pipe.query(conn)
            })?;
            (found, Vec::new())
        }
    };
    for (at, (key, mut fields)) in keys.iter().zip(found).enumerate() {
        if fields.is_empty() {
            rows.push(None);
            continue;
        }
        if let Some(number) = numbers.get(at).cloned().flatten() {
            fields.push((table.columns[2].name.into(), number));
        }
        rows.push(from_fields(names, table, key, &fields)?);
    }
    Ok(())
}

fn from_fields(
    names: &Names,
    table: &'static TableDef,
    key: &str,
    fields: &Fields,
) -> Result<Option<Held>, StoreError> {
    let hash = row_hash(names, table, key);
    let Some((_, rev)) = fields.iter().find(|(name, _)| name == b"_rev") else {
        return Err(StoreError::corrupt_store(format!("{hash}: a hash without _rev is no row of tasklog")));
    };
    let rev = position(&hash, &String::from_utf8_lossy(rev))?;
    // A text that is no key of the table names no row.
    let Ok(key) = table.key_cells(key) else { return Ok(None) };
    let row = (table.load)(&HashCells { table, key, fields });
    let row = row.map_err(|why| StoreError::corrupt_store(format!("{hash}: {why}")))?;
    Ok(Some(Held { row, rev }))
}

struct HashCells<'f> {
    table: &'static TableDef,
    key: Vec<Cell<'static>>,
    fields: &'f Fields,
}

impl Cells for HashCells<'_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>, String> {
        let column = self.table.columns.get(index).ok_or_else(|| format!("no column {index}"))?;
        if column.key {
            return self.key[..].cell(index);
        }
        let stored = self.fields.iter().find(|(name, _)| *name == column.name.as_bytes());
        let Some((_, bytes)) = stored else { return Ok(Cell::Null) };
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        Ok(match column.kind {
            Kind::Integer | Kind::Bool => {
                Cell::Integer(text.parse().map_err(|_| format!("expected an integer, found {text:?}"))?)
            }
            Kind::Text | Kind::Json => Cell::Text(text.into()),
            Kind::Hash => Cell::Blob(hex::decode(text).map_err(|_| format!("expected hex, found {text:?}"))?.into()),
        })
    }
}

fn runs_of(
    link: &Link,
    names: &Names,
    table: &'static TableDef,
    keys: &[String],
    rows: &mut Vec<Option<Held>>,
) -> Result<(), StoreError> {
    // A text that is no key of the table names no row, and no score either.
    let known: Vec<_> = keys.iter().filter(|key| table.key_cells(key).is_ok()).collect();
    if known.is_empty() {
        rows.extend(keys.iter().map(|_| None));
        return Ok(());
    }
    let found: Vec<(Vec<String>, Option<String>)> = link.ask(|conn| {
        let mut pipe = ::redis::pipe();
        pipe.atomic();
        for key in &known {
            let (set, ran_at) = runs(names, table, key);
            let (revs, field) = rev_place(names, table, key);
            pipe.cmd("ZRANGEBYSCORE").arg(set).arg(&ran_at).arg(&ran_at).arg("LIMIT").arg(0).arg(2);
            pipe.cmd("HGET").arg(revs).arg(field);
        }
        let values: Vec<::redis::Value> = pipe.query(conn)?;
        let pairs = values
            .chunks(2)
            .map(|pair| Ok((::redis::from_redis_value_ref(&pair[0])?, ::redis::from_redis_value_ref(&pair[1])?)));
        pairs.collect::<::redis::RedisResult<_>>()
    })?;
    let mut found = found.into_iter();
    for key in keys {
        let met = if table.key_cells(key).is_ok() { found.next() } else { None };
        let Some((members, Some(rev))) = met.filter(|(members, _)| !members.is_empty()) else {
            rows.push(None);
            continue;
        };
        let (set, _) = runs(names, table, key);
        let [member] = &members[..] else {
            return Err(StoreError::corrupt_store(format!("{set}: several members are scored as {key}")));
        };
        let wrong = |why: String| StoreError::corrupt_store(format!("{set}: {why}"));
        let values: std::collections::BTreeMap<String, crate::Json> =
            serde_json::from_str(member).map_err(|error| wrong(error.to_string()))?;
        let cells = table.columns.iter().map(|column| match values.get(column.name) {
            Some(value) => json_cell(column, value),
            None => Ok(Cell::Null),
        });
        let cells = cells.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let row = (table.load)(&crate::found::CellList(&cells)).map_err(wrong)?;
        rows.push(Some(Held { row, rev: position(&set, &rev)? }));
    }
    Ok(())
}

/// Head and identity, which the rows reflect.
pub(super) fn checkpoint(link: &Link, keys: &Keys) -> Result<Checkpoint, StoreError> {
    type Found = (Vec<Option<String>>, Vec<Option<String>>);
    let (identity, head): Found = link.ask(|conn| {
        ::redis::pipe()
            .atomic()
            .cmd("HMGET")
            .arg(keys.identity())
            .arg(&["id", "epoch"])
            .cmd("HMGET")
            .arg(keys.head())
            .arg(&["position", "commit", "recorded_at"])
            .query(conn)
    })?;
    let missing = |what: &str, key: &str| StoreError::corrupt_store(format!("{key}: no field {what}"));
    let field = |found: &[Option<String>], at: usize, what: &str, key: &str| {
        found.get(at).cloned().flatten().ok_or_else(|| missing(what, key))
    };
    let parsed = |what: &str| StoreError::corrupt_store(format!("{}: {what} is none", keys.head()));
    let id = field(&identity, 0, "id", keys.identity())?.parse().map_err(|_| parsed("the log's id"))?;
    let epoch = field(&identity, 1, "epoch", keys.identity())?.parse().map_err(|_| parsed("the epoch"))?;
    let at = field(&head, 0, "position", keys.head())?;
    let commit = field(&head, 1, "commit", keys.head())?.parse().map_err(|_| parsed("the commit"))?;
    let recorded_at = field(&head, 2, "recorded_at", keys.head())?.parse().map_err(|_| parsed("the instant"))?;
    Ok(Checkpoint {
        log: LogInfo { id, epoch },
        position: position(keys.head(), &at)?,
        commit: CommitId(commit),
        recorded_at,
    })
}
