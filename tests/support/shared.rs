//! A store in Redis with several writers.

use std::sync::Arc;

use serde_json::{Value, json};
use tasklog::{OpenOptions, TaskStore, log::Position, wire};
use tasklog_testing::RedisServer;

/// A shared store under a prefix of its own.
pub struct Shared {
    pub server: Arc<RedisServer>,
    pub prefix: String,
}

impl Shared {
    /// On the server that all tests of this process share.
    pub fn new() -> Self {
        Self::on(RedisServer::shared())
    }

    /// On a server that is nobody else's, for tests that look at what it does.
    pub fn alone() -> Self {
        Self::on(Arc::new(RedisServer::start()))
    }

    pub fn on(server: Arc<RedisServer>) -> Self {
        Self { server, prefix: uuid::Uuid::now_v7().to_string() }
    }

    pub fn url(&self) -> String {
        self.url_through(self.server.port())
    }

    /// Through a proxy that listens there.
    pub fn url_through(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}/0?prefix={}", self.prefix)
    }

    /// Another writer.
    pub fn open(&self) -> TaskStore {
        TaskStore::open(&self.url()).unwrap()
    }

    pub fn open_with(&self, options: OpenOptions) -> TaskStore {
        TaskStore::open_with(&self.url().parse().unwrap(), options).unwrap()
    }
}

pub fn line(name: &str, args: Value) -> Value {
    json!({ "command": name, "args": args })
}

/// The reply to a line as JSON, or the kind of the error.
pub fn send(store: &TaskStore, line: &Value) -> Result<Value, String> {
    let request = wire::parse(&line.to_string()).unwrap().request;
    match store.send_blocking(request) {
        Ok(reply) => Ok(serde_json::from_str(&wire::reply_json(&reply)).unwrap()),
        Err(error) => Err(error.kind().to_owned()),
    }
}

/// The reply to a command that must not be refused.
#[track_caller]
pub fn run(store: &TaskStore, name: &str, args: Value) -> Value {
    send(store, &line(name, args)).unwrap()
}

#[track_caller]
pub fn ask(store: &TaskStore, name: &str, args: Value) -> Value {
    let query = tasklog::tables::query(name).unwrap();
    let args = serde_json::value::to_raw_value(&args).unwrap();
    serde_json::from_str(&store.read_tables(|read| (query.run)(&args, read)).unwrap()).unwrap()
}

/// An event of the log as tests look at it.
#[derive(Clone, Debug)]
pub struct Event {
    pub position: u64,
    pub commit: uuid::Uuid,
    pub at: i64,
    pub request_id: Option<Arc<str>>,
    pub key: String,
    pub name: String,
    pub payload: Value,
}

/// Every event.
pub fn events(store: &TaskStore) -> Vec<Event> {
    let mut events = Vec::new();
    let mut after = Position::ZERO;
    loop {
        let page = store.read(|log, _| Ok(log.read(after, 10_000)?)).unwrap();
        let Some(last) = page.last() else { return events };
        after = last.last();
        for commit in &page {
            for event in &commit.events {
                let table = tasklog::projections::table(&event.table).unwrap();
                events.push(Event {
                    position: event.position.0,
                    commit: commit.meta.id.0,
                    at: commit.recorded_at,
                    request_id: commit.meta.request_id.clone(),
                    key: event.key.to_string(),
                    name: event.event_type.to_string(),
                    payload: serde_json::from_str(&table.payload_json(event).unwrap()).unwrap(),
                });
            }
        }
    }
}

#[track_caller]
pub fn assert_verified(store: &TaskStore) {
    let report = store.verify(|_| {}).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}
