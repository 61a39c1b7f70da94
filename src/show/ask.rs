//! Queries of the catalogue, and those about the store as a whole, by name.

use serde_json::{Value, value::RawValue};
use tasklog_log::{Position, StoreError};

use super::mask::Mask;
use crate::{Error, Rejection, TaskStore, tables};

/// The queries about the store as a whole.
pub(crate) const STORE_QUERIES: [&str; 3] = ["store.schema_version", "store.health", "store.counts"];

/// An answer, and what it reflects.
pub(crate) struct Asked {
    /// The answer, masked.
    pub(crate) value: Value,
    /// Everything through here.
    #[cfg_attr(not(feature = "serve"), allow(dead_code, reason = "the service tells it with every answer"))]
    pub(crate) position: Position,
}

/// Whether there is such a query.
pub(crate) fn is_query(name: &str) -> bool {
    STORE_QUERIES.contains(&name) || tables::query(name).is_some()
}

/// Asks a query by its name.
pub(crate) fn ask(store: &TaskStore, name: &str, args: &RawValue, mask: &mut Mask) -> Result<Asked, Error> {
    if let Some(asked) = ask_store(store, name)? {
        return Ok(asked);
    }
    let Some(query) = tables::query(name) else {
        return Err(Rejection::invalid(format!("no query {name:?}; `tasklog commands` lists them")).into());
    };
    let (answer, position) = store.read_tables(|read| Ok(((query.run)(args, read)?, read.position()?)))?;
    let table = tables::SIDES.iter().find(|side| name.split('.').next() == Some(side.table.name));
    let value: Value = serde_json::from_str(&answer).map_err(|error| StoreError::corrupt_store(error.to_string()))?;
    let value = match table {
        Some(side) => mask.payload(side.table, value),
        None => value,
    };
    Ok(Asked { value, position })
}

fn ask_store(store: &TaskStore, name: &str) -> Result<Option<Asked>, Error> {
    let value = match name {
        "store.schema_version" => Value::from(store.schema_version()?),
        "store.health" => Value::from(store.health()?.0),
        "store.counts" => {
            let counts = store.counts()?;
            Value::Object(counts.into_iter().map(|(name, rows)| (name.to_owned(), Value::from(rows))).collect())
        }
        _ => return Ok(None),
    };
    Ok(Some(Asked { value, position: store.head()? }))
}
