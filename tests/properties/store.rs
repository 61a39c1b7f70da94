//! A store that is driven by lines, and a picture of what it holds.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use tasklog::{
    Config, Error, OpenOptions, Rejection, StoreUrl, TaskStore,
    log::{Clock, Commit, ManualClock, Position},
    projections::{AnyRow, PAGE_ROWS_MAX, Scan, TABLES, cell_json, table},
    wire,
};
use tasklog_testing::RedisServer;

/// Small bounds, so that short sequences reach them.
pub const SESSIONS_MAX: u64 = 3;
pub const KEYS_MAX: u64 = 3;
pub const RUNS_MAX: u32 = 3;
pub const ALIAS_STATES_MAX: u32 = 2;

/// The settings with these bounds.
pub fn config() -> Config {
    Config {
        sessions_max: SESSIONS_MAX,
        idempotency_keys_max: KEYS_MAX,
        canary_history: RUNS_MAX,
        alias_history_retention: ALIAS_STATES_MAX,
        ..Config::default()
    }
}

pub struct Store {
    store: Option<TaskStore>,
    url: StoreUrl,
    clock: ManualClock,
    _folder: Option<tempfile::TempDir>,
    _server: Option<Arc<RedisServer>>,
}

/// A reply without the ids that a store mints.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub changed: bool,
    pub repeated: bool,
    pub first: Option<Position>,
    pub position: Position,
    pub rev: Option<Position>,
    pub answers: Vec<Value>,
}

impl Store {
    pub fn memory(clock: &ManualClock) -> Self {
        Self::open(StoreUrl::Memory, clock, None)
    }

    pub fn sqlite(clock: &ManualClock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::open(StoreUrl::Sqlite(folder.path().join("tasklog.db")), clock, Some(folder))
    }

    /// A store under a prefix of its own, on a server that all tests of this process share. It keeps a recording's time,
    /// so that the test moves its clock.
    pub fn redis(clock: &ManualClock) -> Self {
        let server = RedisServer::shared();
        let url = format!("{}?prefix={}", server.url(), uuid::Uuid::now_v7()).parse().unwrap();
        Self { _server: Some(server), ..Self::open(url, clock, None) }
    }

    fn open(url: StoreUrl, clock: &ManualClock, folder: Option<tempfile::TempDir>) -> Self {
        let mut store = Self { store: None, url, clock: clock.clone(), _folder: folder, _server: None };
        store.open_again();
        store
    }

    fn open_again(&mut self) {
        self.store = None;
        let clock = Arc::new(self.clock.clone());
        // In Redis only a recording's store leaves its clock to the process.
        let recording_from = matches!(self.url, StoreUrl::Redis(_)).then_some(0);
        let recording_clock = recording_from.map(|_| Arc::clone(&clock) as Arc<dyn Clock>);
        let options =
            OpenOptions { config: config(), clock, recording_from, recording_clock, ..OpenOptions::default() };
        self.store = Some(TaskStore::open_with(&self.url, options).unwrap());
    }

    /// Closes the store and opens it again; a store in memory would not survive it.
    pub fn reopen(&mut self) {
        if self.url != StoreUrl::Memory {
            self.open_again();
        }
    }

    /// Whether others may write to it at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self.url, StoreUrl::Redis(_))
    }

    /// Builds every table anew from the log.
    pub fn rebuild(&mut self) {
        let StoreUrl::Sqlite(path) = self.url.clone() else { return };
        self.store = None;
        tasklog::store::rebuild(&path, &TABLES, tasklog::store::Begin::AtTheStart, |_| {}).unwrap();
        self.open_again();
    }

    pub fn store(&self) -> &TaskStore {
        self.store.as_ref().unwrap()
    }

    /// Runs one line as `tasklog apply` reads it. An error of the store is a bug.
    pub fn run(&self, line: &str) -> Result<Reply, Rejection> {
        let request = wire::parse(line)?.request;
        match self.store().send_blocking(request) {
            Ok(reply) => {
                let answers = reply.answers.to_json();
                let answers = answers.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
                let meta = reply.meta;
                assert_eq!(meta.changed, meta.commit_id.is_some(), "{line}");
                let (changed, repeated, rev) = (meta.changed, meta.repeated, meta.rev);
                Ok(Reply { changed, repeated, first: meta.first, position: meta.position, rev, answers })
            }
            Err(Error::Rejected(rejection)) => Err(rejection),
            Err(Error::Store(error)) => panic!("{line}: {}", error.full()),
        }
    }

    /// Asks a query of the catalogue. An error of the store is a bug.
    pub fn ask(&self, name: &str, args: &str) -> Result<Value, Rejection> {
        let query = tasklog::tables::query(name).unwrap();
        let args = serde_json::from_str(args).unwrap();
        match self.store().read_tables(|read| (query.run)(args, read)) {
            Ok(text) => Ok(serde_json::from_str(&text).unwrap()),
            Err(Error::Rejected(rejection)) => Err(rejection),
            Err(Error::Store(error)) => panic!("{name} {args}: {}", error.full()),
        }
    }

    pub fn head(&self) -> Position {
        self.store().head().unwrap()
    }

    /// Every row that is stored, dead ones included.
    pub fn rows(&self) -> Rows {
        Rows::read(self.store())
    }

    pub fn events(&self) -> Vec<Event> {
        let commits: Vec<Commit> = self.store().read(|log, _| Ok(log.read(Position::ZERO, usize::MAX)?)).unwrap();
        let mut events = Vec::new();
        for (number, commit) in commits.iter().enumerate() {
            for event in &commit.events {
                let payload = table(&event.table).unwrap().payload_json(event).unwrap();
                events.push(Event {
                    position: event.position.0 as i64,
                    commit: number,
                    at: commit.recorded_at,
                    table: event.table.to_string(),
                    key: event.key.to_string(),
                    name: event.event_type.to_string(),
                    payload: serde_json::from_str(&payload).unwrap(),
                });
            }
        }
        events
    }
}

/// A row as stored.
#[derive(Clone)]
pub struct Stored {
    pub columns: Value,
    pub row: AnyRow,
    pub rev: Position,
    pub live: bool,
}

/// The rows of all tables at one instant.
pub struct Rows {
    pub now: i64,
    tables: BTreeMap<&'static str, BTreeMap<String, Stored>>,
}

impl Rows {
    /// Every row that is stored, dead ones included.
    pub fn read(store: &TaskStore) -> Self {
        let now = store.read_tables(|read| Ok(read.now())).unwrap();
        let mut rows = Self { now, tables: BTreeMap::new() };
        store
            .read(|_, view| {
                for table in TABLES {
                    let page = view.scan(table, &Scan::all("pk"))?;
                    assert!(page.len() < PAGE_ROWS_MAX);
                    let stored = page.into_iter().map(|held| {
                        let columns = table.columns.iter().zip(held.row.cells());
                        let columns: Map<String, Value> = columns
                            .map(|(column, cell)| {
                                let json = cell_json(column, &cell).unwrap();
                                (column.name.to_owned(), serde_json::from_str(json.as_str()).unwrap())
                            })
                            .collect();
                        let live = held.row.is_live(now);
                        (held.row.key(), Stored { columns: columns.into(), row: held.row, rev: held.rev, live })
                    });
                    rows.tables.insert(table.name, stored.collect());
                }
                Ok(())
            })
            .unwrap();
        rows
    }

    /// The live rows of a table.
    pub fn of(&self, table: &str) -> BTreeMap<&str, &Value> {
        let live = self.tables[table].iter().filter(|(_, stored)| stored.live);
        live.map(|(key, stored)| (&**key, &stored.columns)).collect()
    }

    /// A row, dead or alive.
    pub fn get(&self, table: &str, key: &str) -> Option<&Stored> {
        self.tables[table].get(key)
    }

    /// Every row, dead or alive.
    pub fn all(&self) -> impl Iterator<Item = &Stored> {
        self.tables.values().flat_map(BTreeMap::values)
    }

    /// The live rows of all tables with their revs, as text.
    pub fn dump(&self) -> Vec<String> {
        let tables = self.tables.iter();
        let live = tables.flat_map(|(name, rows)| rows.iter().filter(|(_, row)| row.live).map(move |row| (name, row)));
        live.map(|(name, (key, Stored { row, rev, .. }))| format!("{name}/{key} rev={rev} {:?}", row.cells())).collect()
    }
}

/// An event with its payload as JSON.
#[derive(Clone, Debug)]
pub struct Event {
    pub position: i64,
    pub commit: usize,
    pub at: i64,
    pub table: String,
    pub key: String,
    pub name: String,
    pub payload: Value,
}
