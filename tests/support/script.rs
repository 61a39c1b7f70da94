//! A store that is driven by script lines and answers in text.

use std::{error::Error, fmt::Write, sync::Arc};

use tasklog::{
    Config, OpenOptions, StoreUrl, TaskStore,
    log::{Clock, ManualClock, Position},
    projections::{Scan, TABLES, cell_json, table},
    tables, wire,
};
use tasklog_testing::RedisServer;

/// The instant at which every script begins, in ms.
const START_MS: i64 = 1_000;

/// Something that runs script lines.
pub trait Subject {
    /// Changes a bound; before the first command only, because a store in memory does not survive it.
    fn bound(&mut self, name: &str, value: u64);
    /// Sets the log's clock.
    fn now(&mut self, ms: i64);
    /// Runs one line as `tasklog apply` reads it; answers the reply or rejection and the events it made.
    fn line(&mut self, line: &str) -> String;
    /// Asks a query.
    fn query(&mut self, name: &str, args: &str) -> String;
    /// Dumps the live rows of a table.
    fn rows(&mut self, table: &str) -> String;
    /// Closes the store and opens it again.
    fn reopen(&mut self);
    /// Whether its answers may be recorded as the expected ones.
    fn records(&self) -> bool {
        false
    }
}

/// One store.
pub struct Single {
    store: Option<TaskStore>,
    url: StoreUrl,
    clock: ManualClock,
    config: Config,
    shown: Position,
    _folder: Option<tempfile::TempDir>,
    _server: Option<Arc<RedisServer>>,
}

impl Single {
    pub fn memory() -> Self {
        Self::open(StoreUrl::Memory, None)
    }

    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::open(StoreUrl::Sqlite(folder.path().join("tasklog.db")), Some(folder))
    }

    /// A store under a prefix of its own, on a server that all tests of this process share.
    pub fn redis() -> Self {
        let server = RedisServer::shared();
        let url = format!("{}?prefix={}", server.url(), uuid::Uuid::now_v7()).parse().unwrap();
        Self { _server: Some(server), ..Self::open(url, None) }
    }

    fn open(url: StoreUrl, folder: Option<tempfile::TempDir>) -> Self {
        let clock = ManualClock::at(START_MS);
        let mut single = Self {
            store: None,
            url,
            clock,
            config: Config::default(),
            shown: Position::ZERO,
            _folder: folder,
            _server: None,
        };
        single.open_again();
        single
    }

    fn open_again(&mut self) {
        self.store = None;
        let (config, clock) = (self.config.clone(), Arc::new(self.clock.clone()));
        // In Redis only a recording's store leaves its clock to the process.
        let recording_from = matches!(self.url, StoreUrl::Redis(_)).then_some(0);
        let recording_clock = recording_from.map(|_| Arc::new(self.clock.clone()) as Arc<dyn Clock>);
        let options = OpenOptions { config, clock, recording_from, recording_clock, ..OpenOptions::default() };
        self.store = Some(TaskStore::open_with(&self.url, options).unwrap());
    }

    pub fn store(&self) -> &TaskStore {
        self.store.as_ref().unwrap()
    }

    /// The events since the last call.
    fn events(&mut self) -> String {
        let mut text = String::new();
        let after = self.shown;
        let commits = self.store().read(|log, _| Ok(log.read(after, 10_000)?)).unwrap();
        for commit in &commits {
            for event in &commit.events {
                commit.check(event).unwrap();
                let payload = table(&event.table).unwrap().payload_json(event).unwrap();
                let prev = event.prev.map_or("-".into(), |prev| prev.to_string());
                let (position, name, entity, key) = (event.position, &event.event_type, &event.table, &event.key);
                writeln!(text, "  {position} {name} {entity}/{key} prev={prev} {payload}").unwrap();
                self.shown = position;
            }
        }
        text
    }
}

impl Subject for Single {
    fn bound(&mut self, name: &str, value: u64) {
        assert_eq!(self.shown, Position::ZERO, "bounds are set before the first command");
        match name {
            "session_pinning.max_sessions" => self.config.sessions_max = value,
            "idempotency.max_cached_keys" => self.config.idempotency_keys_max = value,
            other => panic!("scripts cannot set {other}"),
        }
        self.open_again();
    }

    fn now(&mut self, ms: i64) {
        self.clock.set(ms);
    }

    fn line(&mut self, line: &str) -> String {
        let answer = wire::parse(line)
            .map_err(tasklog::Error::from)
            .and_then(|parsed| self.store().queue(parsed.request)?.wait());
        let mut text = match answer {
            Ok(reply) => {
                let meta = &reply.meta;
                let rev = meta.rev.map_or("-".into(), |rev| rev.to_string());
                let repeated = if meta.repeated { " repeated" } else { "" };
                let changed = if meta.changed { "ok" } else { "no-op" };
                format!("{changed}{repeated} rev={rev} {}\n", reply.answers.to_json().join(" "))
            }
            Err(tasklog::Error::Rejected(rejection)) => format!("rejected {rejection}\n"),
            Err(tasklog::Error::Store(error)) => format!("error {}\n", error.full()),
        };
        text.push_str(&self.events());
        text
    }

    fn query(&mut self, name: &str, args: &str) -> String {
        let query = tables::query(name).unwrap();
        let args = serde_json::from_str(args).unwrap();
        match self.store().read_tables(|read| (query.run)(args, read)) {
            Ok(answer) => format!("{answer}\n"),
            Err(error) => format!("rejected {error}\n"),
        }
    }

    fn rows(&mut self, name: &str) -> String {
        let wanted = table(name).unwrap();
        let mut text = String::new();
        self.store()
            .read_tables(|read| {
                read.walk_any(wanted, Scan::all("pk"), |row, rev| {
                    write!(text, "{} rev={rev}", row.key()).unwrap();
                    for (column, cell) in wanted.columns.iter().zip(row.cells()).filter(|(column, _)| !column.key) {
                        write!(text, " {}={}", column.name, cell_json(column, &cell).unwrap()).unwrap();
                    }
                    text.push('\n');
                    Ok(std::ops::ControlFlow::Continue(()))
                })
            })
            .unwrap();
        text
    }

    fn reopen(&mut self) {
        if self.url == StoreUrl::Memory {
            return;
        }
        self.open_again();
    }

    fn records(&self) -> bool {
        self.url == StoreUrl::Memory
    }
}

/// Two subjects that must answer alike. After every line all rows of all tables are compared as well.
pub struct Mirror<A, B>(pub A, pub B);

impl<A: Subject, B: Subject> Mirror<A, B> {
    fn both(&mut self, a: String, b: String) -> String {
        assert_eq!(a, b, "the two backends answer differently");
        a
    }
}

impl<A: Subject, B: Subject> Subject for Mirror<A, B> {
    fn bound(&mut self, name: &str, value: u64) {
        self.0.bound(name, value);
        self.1.bound(name, value);
    }

    fn now(&mut self, ms: i64) {
        self.0.now(ms);
        self.1.now(ms);
    }

    fn line(&mut self, line: &str) -> String {
        let (a, b) = (self.0.line(line), self.1.line(line));
        for table in TABLES {
            assert_eq!(self.0.rows(table.name), self.1.rows(table.name), "rows of {} after {line}", table.name);
        }
        self.both(a, b)
    }

    fn query(&mut self, name: &str, args: &str) -> String {
        let (a, b) = (self.0.query(name, args), self.1.query(name, args));
        self.both(a, b)
    }

    fn rows(&mut self, table: &str) -> String {
        let (a, b) = (self.0.rows(table), self.1.rows(table));
        self.both(a, b)
    }

    fn reopen(&mut self) {
        self.0.reopen();
        self.1.reopen();
    }
}

/// Runs golden scripts on a subject.
pub struct Runner<S> {
    subject: S,
}

impl<S: Subject> Runner<S> {
    pub fn new(subject: S) -> Self {
        Self { subject }
    }
}

impl<S: Subject> goldenscript::Runner for Runner<S> {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut options = String::new();
        for name in ["actor", "reason", "request_id", "command_id"] {
            if let Some(value) = args.take_key(name) {
                write!(options, ",{}:{}", serde_json::to_string(name)?, serde_json::to_string(value)?)?;
            }
        }
        if let Some(lease) = args.take_key("lease") {
            let (scope, term) = lease.rsplit_once(':').ok_or("lease=SCOPE:TERM")?;
            write!(options, r#","lease":{{"scope":{},"term":{term}}}"#, serde_json::to_string(scope)?)?;
        }
        let text = match &*command.name {
            "now" => {
                self.subject.now(args.next_pos().ok_or("now MS")?.parse()?);
                String::new()
            }
            "bound" => {
                let name = args.next_pos().ok_or("bound NAME VALUE")?.to_owned();
                self.subject.bound(&name, args.next_pos().ok_or("bound NAME VALUE")?.parse()?);
                String::new()
            }
            "reopen" => {
                self.subject.reopen();
                String::new()
            }
            "rows" => self.subject.rows(args.next_pos().ok_or("rows TABLE")?),
            "transact" => {
                let commands = args.next_pos().ok_or("transact '[…]'")?;
                self.subject.line(&format!(r#"{{"transact":{commands}{options}}}"#))
            }
            name => {
                let value = args.next_pos().unwrap_or("{}");
                match tables::query(name) {
                    Some(_) => self.subject.query(name, value),
                    None => self.subject.line(&format!(r#"{{"command":"{name}","args":{value}{options}}}"#)),
                }
            }
        };
        args.reject_next()?;
        Ok(text)
    }
}
