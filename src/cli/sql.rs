use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use rusqlite::{
    Connection,
    functions::FunctionFlags,
    hooks::{AuthAction, AuthContext, Authorization},
    types::ValueRef,
};
use serde_json::{Value, json};
use tasklog_log::{Event, Position, StoreError};
use tasklog_projections::{Kind, TABLES, TableDef, table};

use super::{Context, Ended, at::AsOf, mask::Mask};
use crate::{Error, Rejection};

/// Run a read-only SQL query over the 14 tables and `events`.
///
/// Payloads are JSON here (`payload ->> '$.to'` works), commit ids and hashes are text. Sensitive columns are masked
/// before the query sees them, unless --show-sensitive is given. With --at the 14 tables are as they were, also those of a
/// store in Redis; rows that were dead by then are not there.
#[derive(Args)]
pub(crate) struct Sql {
    /// The query
    query: String,
    #[command(flatten)]
    as_of: AsOf,
}

impl Sql {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = self.as_of.open(context)?;
        // A connection of its own: what is laid over the tables here must not meet other queries.
        let mut conn = store.open_connection()?;
        prepare(&mut conn, store.events_source().as_deref(), context.out.show_sensitive)?;
        self.query(context, &conn)?;
        Ok(Ended::Well)
    }

    fn query(&self, context: &Context, conn: &Connection) -> Result<(), Error> {
        let wrong = |error: rusqlite::Error| Error::from(Rejection::invalid(format!("sql: {error}")));
        let mut statement = conn.prepare(&self.query).map_err(wrong)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query([]).map_err(wrong)?;
        let mut shown: Vec<Vec<String>> = Vec::new();
        while let Some(row) = rows.next().map_err(wrong)? {
            let mut values = Vec::with_capacity(names.len());
            for at in 0..names.len() {
                values.push(value(row.get_ref(at).map_err(wrong)?));
            }
            if context.out.json {
                let members = names.iter().cloned().zip(values).collect();
                context.out.line(Value::Object(members).to_string())?;
            } else {
                shown.push(values.iter().map(plain).collect());
            }
        }
        let header: Vec<_> = names.iter().map(String::as_str).collect();
        context.out.table(&header, &shown)
    }
}

fn value(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => json!(hex::encode(bytes)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Lays masked views over the tables: temporary ones, which a query finds before the tables of the same name.
fn prepare(conn: &mut Connection, events: Option<&str>, show_sensitive: bool) -> Result<(), Error> {
    functions(conn, show_sensitive).map_err(StoreError::from)?;
    // SQLite names the view on whose behalf a column is read, but names a WITH table of the query in the same way. So the
    // views that may read what is sensitive have names that no query can know.
    let gate = format!("_{}_", hex::encode(rand::random::<[u8; 16]>()));
    let mut views: Vec<_> = events.map(|source| events_view(&gate, source)).into_iter().collect();
    views.extend(TABLES.iter().map(|table| table_view(table, &gate)));
    conn.pragma_update(None, "query_only", 0).map_err(StoreError::from)?;
    conn.execute_batch(&views.join("\n")).map_err(StoreError::from)?;
    conn.pragma_update(None, "query_only", 1).map_err(StoreError::from)?;
    conn.authorizer(Some(move |context: AuthContext<'_>| {
        let allowed = only_reads(&context.action) && (show_sensitive || reads_masked(&context, &gate));
        if allowed { Authorization::Allow } else { Authorization::Deny }
    }))
    .map_err(StoreError::from)?;
    Ok(())
}

/// Refuses what a read-only connection would still do: touch other files, and change its own settings.
fn only_reads(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => false,
        AuthAction::Pragma { pragma_name, pragma_value } => pragma_value.is_none() || PRAGMAS.contains(pragma_name),
        _ => true,
    }
}

/// The pragmas whose argument is the name of what they tell about.
const PRAGMAS: [&str; 5] = ["table_info", "table_xinfo", "index_list", "index_info", "index_xinfo"];

/// A masked query may read a table with sensitive columns, or the raw events, through the masking views only.
fn reads_masked(context: &AuthContext<'_>, gate: &str) -> bool {
    let AuthAction::Read { table_name, column_name } = context.action else { return true };
    if context.database_name == Some("temp") || context.accessor.is_some_and(|view| view.starts_with(gate)) {
        return true;
    }
    let sensitive = match table_name {
        "events" => matches!(column_name, "key" | "payload"),
        // Samples of rows, if somebody has made some.
        "_tombstones" | "_shadow__tombstones" | "_answers" | "sqlite_stat4" => true,
        name => table(name.trim_start_matches("_shadow_")).is_some_and(|table| table.sensitive.contains(&column_name)),
    };
    !sensitive
}

fn table_view(table: &TableDef, gate: &str) -> String {
    let columns = table.columns.iter().map(|column| {
        let name = column.name;
        let plain = if column.kind == Kind::Hash { format!("lower(hex({name}))") } else { name.to_owned() };
        if table.sensitive.contains(&name) { format!("mask({plain}) AS {name}") } else { format!("{plain} AS {name}") }
    });
    let columns: Vec<_> = columns.chain(["_rev".to_owned()]).collect();
    gated(gate, table.name, &columns.join(", "), &format!("main.{}", table.name))
}

/// Two views: one that reads the table, and one that has the name which queries use.
fn gated(gate: &str, name: &str, columns: &str, source: &str) -> String {
    format!(
        "DROP VIEW IF EXISTS temp.{name};
         CREATE TEMP VIEW {gate}{name} AS SELECT {columns} FROM {source};
         CREATE TEMP VIEW {name} AS SELECT * FROM temp.{gate}{name};"
    )
}

fn events_view(gate: &str, source: &str) -> String {
    let columns = "position, uuid(commit_id) AS commit_id, recorded_at, actor, reason, request_id, \
     table_name, mask_key(table_name, key) AS key, type, type_version, prev, \
     payload_json(table_name, type, type_version, payload) AS payload, checksum";
    gated(gate, "events", columns, source)
}

fn functions(conn: &Connection, show_sensitive: bool) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8;
    // SQL functions must be Send: the mask they share sits behind a lock for that reason alone.
    let shared = Arc::new(Mutex::new(Mask::new(show_sensitive)));
    let all = Arc::clone(&shared);
    conn.create_scalar_function("mask", 1, flags, move |args| {
        let text: Option<String> = match args.get_raw(0) {
            ValueRef::Null => None,
            other => Some(plain(&value(other))),
        };
        Ok(text.map(|text| guard(&all).hide(&text)))
    })?;
    let keys = Arc::clone(&shared);
    conn.create_scalar_function("mask_key", 2, flags, move |args| {
        let (table, key): (String, String) = (args.get(0)?, args.get(1)?);
        Ok(guard(&keys).key_of(&table, &key))
    })?;
    conn.create_scalar_function("uuid", 1, flags, |args| {
        let bytes: Vec<u8> = args.get(0)?;
        Ok(uuid::Uuid::from_slice(&bytes).map_or_else(|_| hex::encode(&bytes), |id| id.to_string()))
    })?;
    conn.create_scalar_function("payload_json", 4, flags, move |args| {
        let (name, event_type, type_version): (String, String, u32) = (args.get(0)?, args.get(1)?, args.get(2)?);
        let payload: Vec<u8> = args.get(3)?;
        Ok(payload_json(&name, &event_type, type_version, payload, &mut guard(&shared)))
    })
}

fn guard(mask: &Mutex<Mask>) -> MutexGuard<'_, Mask> {
    mask.lock().unwrap_or_else(PoisonError::into_inner)
}

fn payload_json(name: &str, event_type: &str, type_version: u32, payload: Vec<u8>, mask: &mut Mask) -> Option<String> {
    let table = table(name)?;
    let event = Event {
        position: Position::ZERO,
        table: table.name.into(),
        key: "".into(),
        event_type: Arc::<str>::from(event_type).into(),
        type_version,
        prev: None,
        payload,
        checksum: 0,
    };
    let text = table.payload_json(&event).ok()?;
    if mask.shows() || table.sensitive.is_empty() {
        return Some(text);
    }
    Some(mask.payload(table, serde_json::from_str(&text).ok()?).to_string())
}
