//! Queries: questions about the live rows of the tables.

use std::ops::ControlFlow;

use schemars::{JsonSchema, Schema};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tasklog_log::{Log, Millis, Position, StoreError};
use tasklog_projections::{AnyRow, Cell, Found, Held, PAGE_ROWS_MAX, Scan, Table, TableDef, TableEvent, View, typed};

use crate::{
    config::Config,
    rejection::{Error, Rejection},
};

/// A question about the tables as they are at one moment.
pub trait Query: DeserializeOwned + JsonSchema + Send + 'static {
    /// `<table>.<verb>`
    const NAME: &'static str;
    /// One line for the catalogue.
    const ABOUT: &'static str;
    /// What it answers.
    type Answer: Serialize + JsonSchema;

    /// Answers from the live rows.
    ///
    /// # Errors
    /// `invalid` arguments, or the store's error.
    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error>;
}

/// The rows as a query sees them: live ones only, by the log's clock.
pub struct Reader<'a> {
    view: &'a dyn View,
    now: Millis,
    config: &'a Config,
    log: Option<&'a dyn Log>,
}

impl<'a> Reader<'a> {
    /// Reads `view` as it is at `now`.
    #[must_use]
    pub fn new(view: &'a dyn View, now: Millis, config: &'a Config) -> Self {
        Self { view, now, config, log: None }
    }

    /// Looks into `log` for the last events of deleted entities.
    #[must_use]
    pub fn with_log(self, log: &'a dyn Log) -> Self {
        Self { log: Some(log), ..self }
    }

    /// The log's clock.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// What the rows reflect: everything through this position.
    ///
    /// # Errors
    /// The store's.
    pub fn position(&self) -> Result<Position, Error> {
        Ok(self.view.checkpoint()?.position)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.config
    }

    /// A live row by its key.
    ///
    /// # Errors
    /// The store's.
    pub fn get<T: Table>(&self, key: &str) -> Result<Option<Found<T::Row>>, Error> {
        let held = self.view.get(T::def(), key)?.filter(|held| held.row.is_live(self.now));
        held.map(|held| found::<T>(held.row, held.rev)).transpose()
    }

    /// [`Reader::get`] for a table known at run time only.
    ///
    /// # Errors
    /// The store's.
    pub fn get_any(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, Error> {
        Ok(self.view.get(table, key)?.filter(|held| held.row.is_live(self.now)))
    }

    /// All live rows along a scan, page by page, until `meet` breaks. The scan's limit is the page size.
    ///
    /// # Errors
    /// The store's.
    pub fn walk<T: Table>(
        &self,
        scan: Scan<'_>,
        mut meet: impl FnMut(Found<T::Row>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.walk_any(T::def(), scan, |row, rev| {
            let met = found::<T>(row, rev);
            met.map(&mut meet)
        })
    }

    /// [`Reader::walk`] for a table known at run time only.
    ///
    /// # Errors
    /// The store's, or `meet`'s.
    pub fn walk_any(
        &self,
        table: &'static TableDef,
        scan: Scan<'_>,
        mut meet: impl FnMut(AnyRow, Position) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let mut scan = scan;
        let limit = scan.limit.clamp(1, PAGE_ROWS_MAX);
        loop {
            let page = self.view.scan(table, &scan)?;
            let full = page.len() == limit;
            let last = page.last().map(|held| held.row.clone());
            for held in page {
                if held.row.is_live(self.now) && meet(held.row, held.rev)?.is_break() {
                    return Ok(());
                }
            }
            let Some(last) = last.filter(|_| full) else { return Ok(()) };
            let cursor = table.cursor(scan.index, scan.equal.len(), &last)?;
            scan = scan.after(cursor.into_iter().map(Cell::into_owned).collect());
        }
    }

    /// Up to `limit` live rows along a scan; all of them if `limit` is none.
    ///
    /// # Errors
    /// The store's.
    pub fn list<T: Table>(&self, scan: Scan<'_>, limit: Option<usize>) -> Result<Vec<Found<T::Row>>, Error> {
        let mut rows = Vec::new();
        if limit == Some(0) {
            return Ok(rows);
        }
        let page = limit.unwrap_or(PAGE_ROWS_MAX);
        self.walk::<T>(scan.limit(page), |row| {
            rows.push(row);
            if Some(rows.len()) == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(rows)
    }

    /// How many rows a scan without limit meets, dead ones included: bound it by the instant of death.
    ///
    /// # Errors
    /// The store's.
    pub fn count<T: Table>(&self, scan: &Scan<'_>) -> Result<u64, Error> {
        Ok(self.view.count(T::def(), scan)?)
    }

    /// [`Reader::count`] for a table known at run time only.
    ///
    /// # Errors
    /// The store's.
    pub fn count_any(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, Error> {
        Ok(self.view.count(table, scan)?)
    }

    /// How many rows of a table have died by time and are not swept yet.
    ///
    /// # Errors
    /// The store's.
    pub fn count_dead(&self, table: &'static TableDef) -> Result<u64, Error> {
        let Some(dies_at) = table.dies_at else { return Ok(0) };
        let Some(index) = table.indexes.iter().find(|index| index.columns.first() == Some(&dies_at)) else {
            return Ok(0);
        };
        let dead = Scan::all(index.name).to(std::ops::Bound::Included(vec![Cell::Integer(self.now)]));
        Ok(self.view.count(table, &dead)?)
    }

    /// The rev of an entity whose row was deleted and is still remembered.
    ///
    /// # Errors
    /// The store's.
    pub fn tombstone<T: Table>(&self, key: &str) -> Result<Option<Position>, Error> {
        Ok(self.view.tombstone(T::def(), key)?)
    }

    /// The last event of an entity whose row was deleted and is still remembered.
    ///
    /// # Errors
    /// The store's; `corrupt` if the log does not have the event that the tombstone names.
    pub fn last_event_of_deleted<T: Table>(&self, key: &str) -> Result<Option<T::Event>, Error> {
        // A deletion that was taken back within its batch leaves rev 0: never seen.
        let rev = self.tombstone::<T>(key)?.filter(|rev| *rev > Position::ZERO);
        let Some(rev) = rev else { return Ok(None) };
        let log = self.log.ok_or_else(|| StoreError::unavailable("looking back through a reader without a log"))?;
        let (commit, index) =
            log.event(rev)?.ok_or_else(|| StoreError::corrupt(rev, "a tombstone names it, the log has no such"))?;
        let event = &commit.events[index];
        commit.check(event)?;
        let decoded = T::Event::decode(&event.event_type, event.type_version, &event.payload)
            .map_err(|error| StoreError::corrupt(rev, error.to_string()))?;
        Ok(Some(decoded))
    }
}

fn found<T: Table>(row: AnyRow, rev: Position) -> Result<Found<T::Row>, Error> {
    let row = typed::<T>(row).map_err(|why| StoreError::corrupt_store(why.0))?;
    Ok(Found { row, rev })
}

/// A query as the catalogue lists it.
#[derive(Clone, Copy)]
pub struct QueryDef {
    /// `<table>.<verb>`
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// JSON Schema of the arguments.
    pub args: fn() -> Schema,
    /// Answers, as the text of a JSON value.
    pub run: fn(&RawValue, &Reader<'_>) -> Result<String, Error>,
}

impl QueryDef {
    /// The catalogue's entry for `Q`.
    #[must_use]
    pub const fn of<Q: Query>() -> Self {
        Self {
            name: Q::NAME,
            about: Q::ABOUT,
            args: || schemars::schema_for!(Q),
            run: |args, read| {
                let query: Q = serde_json::from_str(args.get())
                    .map_err(|error| Rejection::invalid(format!("{}: arguments: {error}", Q::NAME)))?;
                let answer = query.answer(read)?;
                Ok(serde_json::to_string(&answer)
                    .map_err(|error| StoreError::corrupt_store(format!("answer of {}: {error}", Q::NAME)))?)
            },
        }
    }
}
