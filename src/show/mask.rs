use std::collections::HashMap;

use serde_json::Value;
use tasklog_projections::{PROJECTED, TableDef};
use tasklog_replay::{Difference, Finding};

/// Replaces sensitive values by `***<n>`, with the same n for equal values within one output.
#[derive(Default)]
pub(crate) struct Mask {
    show: bool,
    seen: HashMap<String, usize>,
}

impl Mask {
    pub(crate) fn new(show: bool) -> Self {
        Self { show, seen: HashMap::new() }
    }

    /// Whether everything is shown.
    pub(crate) fn shows(&self) -> bool {
        self.show
    }

    /// A value that must not be shown.
    pub(crate) fn hide(&mut self, value: &str) -> String {
        if self.show {
            return value.to_owned();
        }
        let next = self.seen.len() + 1;
        format!("***{}", self.seen.entry(value.to_owned()).or_insert(next))
    }

    /// A column's value as JSON.
    pub(crate) fn column(&mut self, table: &TableDef, column: &str, value: Value) -> Value {
        if self.show || !table.sensitive.contains(&column) || value.is_null() {
            return value;
        }
        Value::from(self.hide(&plain(&value)))
    }

    /// A row key.
    pub(crate) fn key(&mut self, table: &TableDef, key: &str) -> String {
        if table.key_columns().any(|column| table.sensitive.contains(&column.name)) {
            return self.hide(key);
        }
        key.to_owned()
    }

    /// A row key of a table that is known by name.
    pub(crate) fn key_of(&mut self, table: &str, key: &str) -> String {
        match PROJECTED.iter().find(|known| known.name == table) {
            Some(table) => self.key(table, key),
            None => key.to_owned(),
        }
    }

    /// The name of a key in Redis, without the prefix: that of a row has the row's key in it.
    pub(crate) fn redis_key(&mut self, name: &str) -> String {
        let of_row = name.split_once(':').filter(|(_, rest)| !rest.starts_with('_'));
        let table = PROJECTED.iter().find(|table| of_row.is_some_and(|(first, _)| first == table.key_prefix));
        match (table, of_row) {
            (Some(table), Some((first, rest))) => format!("{first}:{}", self.key(table, rest)),
            _ => name.to_owned(),
        }
    }

    /// A payload: every member whose name is that of a sensitive column, however deep.
    pub(crate) fn payload(&mut self, table: &TableDef, value: Value) -> Value {
        if self.show || table.sensitive.is_empty() {
            return value;
        }
        match value {
            Value::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| {
                        let hidden = table.sensitive.contains(&&*name) && !value.is_null();
                        let value =
                            if hidden { Value::from(self.hide(&plain(&value))) } else { self.payload(table, value) };
                        (name, value)
                    })
                    .collect(),
            ),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.payload(table, item)).collect()),
            other => other,
        }
    }
}

impl Mask {
    /// What a verification has found.
    pub(crate) fn finding(&mut self, finding: &Finding) -> Finding {
        let mut finding = finding.clone();
        if let Finding::Helper { table, key, helper, .. } = &mut finding
            && let Some(table) = tasklog_projections::table(table)
        {
            *key = self.key(table, key);
            *helper = self.redis_key(helper);
        }
        if let Finding::Tombstone { table, key, .. } = &mut finding
            && let Some(table) = tasklog_projections::table(table)
        {
            *key = self.key(table, key);
        }
        let Finding::Row(row) = &mut finding else { return finding };
        let (Difference::Missing { table, key, .. }
        | Difference::Stray { table, key, .. }
        | Difference::Column { table, key, .. }
        | Difference::Unreadable { table, key, .. }) = row;
        let Some(table) = tasklog_projections::table(table) else { return finding };
        *key = self.key(table, key);
        if let Difference::Unreadable { why, .. } = row
            && !(self.show || table.sensitive.is_empty())
        {
            // What was found there is the rest of the sentence.
            *why = why.split(':').next().unwrap_or_default().to_owned();
        }
        if let Difference::Column { column, live, replayed, .. } = row {
            for text in [live, replayed] {
                // What is no JSON says why it is none.
                let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.clone()));
                *text = self.column(table, column, value).to_string();
            }
        }
        finding
    }
}

/// A value as text, so that a hash in a payload and the same hash in a key get the same mask.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
