use std::ops::ControlFlow;

use clap::Args;
use serde_json::value::RawValue;
use tasklog_projections::{Cell, Scan, TABLES, TableDef, table};

use super::{Context, Ended, at::AsOf, mask::Mask, output};
use crate::{
    Error, Rejection,
    query::Reader,
    show::{
        ask,
        rows::{condition, fields, object, scan},
    },
};

/// Show one row.
#[derive(Args)]
pub(crate) struct Get {
    /// The table
    #[arg(value_parser = parse_table)]
    table: &'static TableDef,
    /// The row key; a two-part key is written a/b
    key: String,
    #[command(flatten)]
    as_of: AsOf,
}

/// List rows.
#[derive(Args)]
pub(crate) struct List {
    /// The table
    #[arg(value_parser = parse_table)]
    table: &'static TableDef,
    /// Only rows where the column has this value; may be repeated
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    conditions: Vec<String>,
    /// At most this many rows
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Go on after the row with this key, the last one of the page before
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    #[command(flatten)]
    as_of: AsOf,
}

/// Ask a query of the catalogue (`tasklog commands` lists them), or store.schema_version, store.counts or store.health;
/// the answer is one JSON value.
#[derive(Args)]
pub(crate) struct Ask {
    /// Such as tasks.unfinished
    name: String,
    /// Its arguments, a JSON object
    #[arg(default_value = "{}")]
    args: String,
    #[command(flatten)]
    as_of: AsOf,
}

/// A table by its name, for the command line.
pub(crate) fn parse_table(name: &str) -> Result<&'static TableDef, String> {
    table(name).ok_or_else(|| {
        let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        format!("no such table; the tables are {}", names.join(", "))
    })
}

impl Get {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = self.as_of.open(context)?;
        let mut mask = Mask::new(context.out.show_sensitive);
        let found = store.read_tables(|read| read.get_any(self.table, &self.key))?;
        let Some(held) = found else {
            return Err(Rejection::not_found(format!("no row {:?} in {}", self.key, self.table.name)).into());
        };
        let fields = fields(self.table, &held.row, held.rev, &mut mask)?;
        if context.out.json {
            context.out.line(object(fields))?;
        } else {
            for (name, value) in fields {
                context.out.line(format!("{name:<22} {}", shown(&value)))?;
            }
        }
        Ok(Ended::Well)
    }
}

impl List {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let wanted =
            self.conditions.iter().map(|text| where_column(self.table, text)).collect::<Result<Vec<_>, _>>()?;
        let store = self.as_of.open(context)?;
        let mut mask = Mask::new(context.out.show_sensitive);
        let mut rows = Vec::new();
        let mut last = None;
        let mut more = false;
        store.read_tables(|read| {
            let scan = self.scan(read, &wanted)?;
            read.walk_any(self.table, scan, |row, rev| {
                if wanted.iter().any(|(at, value)| row.cells()[*at] != *value) {
                    return Ok(ControlFlow::Continue(()));
                }
                if rows.len() == self.limit {
                    more = true;
                    return Ok(ControlFlow::Break(()));
                }
                last = Some(row.key());
                rows.push(fields(self.table, &row, rev, &mut mask)?);
                Ok(ControlFlow::Continue(()))
            })
        })?;
        if context.out.json {
            for row in rows {
                context.out.line(object(row))?;
            }
        } else {
            let header: Vec<_> = self.table.columns.iter().map(|column| column.name).chain(["rev"]).collect();
            let rows: Vec<Vec<_>> =
                rows.iter().map(|row| row.iter().map(|(_, value)| shown(value)).collect()).collect();
            context.out.table(&header, &rows)?;
        }
        if let Some(last) = last.filter(|_| more) {
            let key = if self.table.sensitive.is_empty() || context.out.show_sensitive { last } else { "KEY".into() };
            eprintln!("there is more: --after {key:?}, or a higher --limit");
        }
        Ok(Ended::Well)
    }

    /// Walks the index whose first columns the conditions fix, or the primary key.
    fn scan(&self, read: &Reader<'_>, wanted: &[(usize, Cell<'static>)]) -> Result<Scan<'static>, Error> {
        let scan = scan(self.table, wanted);
        let Some(after) = &self.after else { return Ok(scan) };
        let Some(held) = read.get_any(self.table, after)? else {
            return Err(Rejection::not_found(format!("--after: no row {after:?} in {}", self.table.name)).into());
        };
        let cursor = self.table.cursor(scan.index, scan.equal.len(), &held.row)?;
        let cursor = cursor.into_iter().map(Cell::into_owned).collect();
        Ok(scan.after(cursor))
    }
}

impl Ask {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        if !ask::is_query(&self.name) {
            return Err(Rejection::invalid(format!("no query {:?}; `tasklog commands` lists them", self.name)).into());
        }
        let args: &RawValue = serde_json::from_str(&self.args)
            .map_err(|error| Rejection::invalid(format!("{}: arguments: {error}", self.name)))?;
        let store = self.as_of.open(context)?;
        let value = ask::ask(&store, &self.name, args, &mut Mask::new(context.out.show_sensitive))?.value;
        context.out.lines(&if context.out.json { value.to_string() } else { format!("{value:#}") })?;
        Ok(Ended::Well)
    }
}

fn where_column(table: &'static TableDef, text: &str) -> Result<(usize, Cell<'static>), Error> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Rejection::invalid(format!("--where {text}: expected COLUMN=VALUE")).into());
    };
    Ok(condition(table, name, value).map_err(|why| Rejection::invalid(format!("--where {name}: {why}")))?)
}

/// A JSON text as people read it: strings without quotes, null as a dash, instants left as numbers.
fn shown(json: &str) -> String {
    match json {
        "null" => "-".into(),
        text if text.starts_with('"') => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
        text => text.to_owned(),
    }
}

/// Shows values of the same kind elsewhere in the same way.
pub(crate) fn shown_value(json: &str) -> String {
    output_cut(&shown(json))
}

fn output_cut(text: &str) -> String {
    const VALUE_CHARS_MAX: usize = 200;
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], output::number(text.len() as u64)),
        None => text.to_owned(),
    }
}
