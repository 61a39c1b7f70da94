//! A process that calls, and writes down what it calls and what it is told.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tasklog::{Config, Error, TaskStore, wire};

use super::{
    history::Line,
    spec::{FIRST_TARGET, Op, Ret},
};

pub const STORE: &str = "TASKLOG_TEST_WORKER_STORE";
pub const HISTORY: &str = "TASKLOG_TEST_WORKER_HISTORY";
pub const NAME: &str = "TASKLOG_TEST_WORKER_NAME";
pub const SEED: &str = "TASKLOG_TEST_WORKER_SEED";
pub const STEPS: &str = "TASKLOG_TEST_WORKER_STEPS";

/// Calls on one object of each kind before all processes go on to the next ones.
const CALLS_PER_ROUND: u64 = 50;
/// Calls that one process makes before a new caller goes on in its name: none has more than these under way.
const CALLERS_MAX: u32 = 1_000;
/// Longer than any test.
const LONG_MS: i64 = 3_600_000;

const KINDS: [&str; 5] = ["lease", "queue", "cursor", "key", "alias"];

struct Worker {
    store: TaskStore,
    history: File,
    rng: ChaCha8Rng,
    name: u32,
    /// How many callers it has been.
    callers: u32,
    /// Names what it creates.
    created: u64,
    /// What it holds: terms and tokens by object.
    held: BTreeMap<String, Vec<(String, i64)>>,
    /// What it last saw of a cursor or an alias.
    seen: BTreeMap<String, i64>,
}

/// Does nothing unless the environment says what to do.
pub fn run_if_asked() {
    let asked = |name: &str| std::env::var(name).ok();
    let (Some(url), Some(history)) = (asked(STORE), asked(HISTORY)) else { return };
    let number = |name: &str| asked(name).unwrap().parse::<u64>().unwrap();
    let config = Config { lease_ttl_ms: LONG_MS, job_claim_ms: LONG_MS, ..Config::default() };
    let options = tasklog::OpenOptions { config, ..tasklog::OpenOptions::default() };
    let mut worker = Worker {
        store: TaskStore::open_with(&url.parse().unwrap(), options).unwrap(),
        history: OpenOptions::new().create(true).append(true).open(history).unwrap(),
        rng: ChaCha8Rng::seed_from_u64(number(SEED)),
        name: number(NAME) as u32,
        callers: 0,
        created: 0,
        held: BTreeMap::new(),
        seen: BTreeMap::new(),
    };
    // All processes count together, so that they meet on the same objects.
    let mut counter = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    loop {
        let step: u64 = redis::cmd("INCR").arg("test:step").query(&mut counter).unwrap();
        if step > number(STEPS) {
            return;
        }
        let kind = KINDS[worker.rng.random_range(0..KINDS.len())];
        worker.call(&format!("{kind}/{}", step / CALLS_PER_ROUND));
    }
}

impl Worker {
    fn write(&mut self, line: &Line) {
        let text = serde_json::to_string(line).unwrap() + "\n";
        // One write, so that a kill leaves the line whole or absent.
        self.history.write_all(text.as_bytes()).unwrap();
    }

    fn call(&mut self, object: &str) {
        if object.starts_with("alias/") && !self.seen.contains_key(object) {
            // Whoever comes first makes it; it is no call of the history.
            let create = json!({ "name": object, "target": FIRST_TARGET, "target_verified": true });
            match self.send("aliases.create", create) {
                Ok(_) | Err(Error::Rejected(_)) => self.seen.insert(object.into(), 1),
                Err(Error::Store(_)) => return,
            };
        }
        let op = self.choose(object);
        let caller = self.name * CALLERS_MAX + self.callers;
        self.write(&Line::Call { caller, object: object.into(), op: op.clone() });
        match self.run(object, &op) {
            Ok(ret) => {
                self.note(object, &op, &ret);
                self.write(&Line::Return { caller, ret });
            }
            // Nobody knows whether it happened: the call stays open, and somebody else goes on.
            Err(_) => self.callers += 1,
        }
        assert!(self.callers < CALLERS_MAX);
    }

    fn choose(&mut self, object: &str) -> Op {
        let holder = format!("pod-{}", self.name);
        let held = self.held.get(object).and_then(|held| held.last().cloned());
        let seen = self.seen.get(object).copied();
        self.created += 1;
        let fresh = format!("{}-{}", self.name, self.created);
        let pick = self.rng.random_range(0..10);
        match (object.split_once('/').unwrap().0, pick, held) {
            ("lease", 0..6, Some((_, term))) => Op::ReleaseLease { holder, term },
            ("lease", 6..8, Some((_, term))) => Op::Renew { holder, term },
            ("lease", ..) => Op::Acquire { holder },
            ("queue", 0..4, _) => Op::Enqueue { id: fresh },
            ("queue", 4..6, Some((id, token))) => Op::GiveBack { id, token },
            ("queue", 6..7, Some((id, token))) => Op::Complete { id, token },
            ("queue", ..) => Op::Claim,
            ("cursor", 0..3, _) => Op::Cursor,
            ("cursor", ..) => Op::Advance { from: seen, to: seen.unwrap_or(0) + self.rng.random_range(1..4) },
            ("key", 0..6, _) => Op::Record { task: fresh },
            ("key", 6..8, Some((task, _))) => Op::Free { task },
            ("key", ..) => Op::Key,
            ("alias", 0..3, _) => Op::Alias,
            ("alias", ..) => Op::Flip { version: seen.unwrap_or(1), to: format!("i{}", pick % 4) },
            (other, ..) => panic!("{other}"),
        }
    }

    /// What a caller remembers of an answer.
    fn note(&mut self, object: &str, op: &Op, ret: &Ret) {
        let held = self.held.entry(object.to_owned()).or_default();
        match (op, ret) {
            (_, Ret::Granted { term }) => *held = vec![(String::new(), *term)],
            (Op::ReleaseLease { .. }, _) => held.clear(),
            (_, Ret::Claimed { id, token }) => held.push((id.clone(), *token)),
            (Op::GiveBack { id, .. } | Op::Complete { id, .. }, _) => held.retain(|(other, _)| other != id),
            (Op::Record { task }, Ret::Miss) => *held = vec![(task.clone(), 0)],
            (_, Ret::Dedup(task)) => *held = vec![(task.clone(), 0)],
            (Op::Advance { to, .. }, Ret::Ok) => drop(self.seen.insert(object.to_owned(), *to)),
            (_, Ret::At(Some(at))) => drop(self.seen.insert(object.to_owned(), *at)),
            (_, Ret::Version(version) | Ret::Leads { version, .. }) => {
                self.seen.insert(object.to_owned(), *version);
            }
            _ => {}
        }
    }

    fn send(&self, name: &str, args: Value) -> Result<Value, Error> {
        let request = wire::parse(&json!({ "command": name, "args": args }).to_string())?.request;
        let reply = self.store.send_blocking(request)?;
        Ok(serde_json::from_str(&wire::reply_json(&reply)).unwrap())
    }

    fn ask(&self, name: &str, args: Value) -> Result<Value, Error> {
        let query = tasklog::tables::query(name).unwrap();
        let args = serde_json::value::to_raw_value(&args).unwrap();
        Ok(serde_json::from_str(&self.store.read_tables(|read| (query.run)(&args, read))?).unwrap())
    }

    /// What the call returned; an error of the store if it is not known.
    fn run(&self, object: &str, op: &Op) -> Result<Ret, Error> {
        let scope = format!("reshard:{object}");
        let answer = match op {
            Op::Acquire { holder } => {
                self.send("leader_lease.acquire", json!({ "scope": scope, "holder": holder, "ttl_ms": LONG_MS }))
            }
            Op::Renew { holder, term } => self.send(
                "leader_lease.renew",
                json!({ "scope": scope, "holder": holder, "term": term, "ttl_ms": LONG_MS }),
            ),
            Op::ReleaseLease { holder, term } => {
                self.send("leader_lease.release", json!({ "scope": scope, "holder": holder, "term": term }))
            }
            Op::Enqueue { id } => self.send("jobs.enqueue", json!({ "id": id, "type": object, "params": {} })),
            Op::Claim => self.send("jobs.claim_next", json!({ "pod": "pod", "types": [object] })),
            Op::GiveBack { id, token } => self.send("jobs.release", json!({ "id": id, "token": token })),
            Op::Complete { id, token } => self.send("jobs.complete", json!({ "id": id, "token": token })),
            Op::Advance { from, to } => self.send(
                "cdc_cursors.advance",
                json!({ "sink_name": object, "index_uid": "i", "expected_seq": from, "new_seq": to }),
            ),
            Op::Cursor => self.ask("cdc_cursors.get", json!({ "sink_name": object, "index_uid": "i" })),
            Op::Record { task } => self.send(
                "idempotency_cache.check_or_record",
                json!({ "key": object, "body_sha256": "ab".repeat(32), "miroir_task_id": task }),
            ),
            Op::Free { task } => self.send(
                "idempotency_cache.release",
                json!({ "key": object, "miroir_task_id": task, "why": "no node saw it" }),
            ),
            Op::Key => self.ask("idempotency_cache.get", json!({ "key": object })),
            Op::Flip { version, to } => self.send(
                "aliases.flip",
                json!({ "name": object, "expected_version": version, "target": to, "target_verified": true }),
            ),
            Op::Alias => self.ask("aliases.get", json!({ "name": object })),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(Error::Rejected(rejection)) if matches!(rejection.kind.as_str(), "conflict" | "lease_lost") => {
                return Ok(Ret::Conflict);
            }
            // A cursor that would go back.
            Err(Error::Rejected(_)) if matches!(op, Op::Advance { .. }) => return Ok(Ret::Conflict),
            Err(Error::Rejected(rejection)) => panic!("{op:?} on {object}: {rejection}"),
            Err(error) => return Err(error),
        };
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Ok(match op {
            Op::Acquire { .. } if answer["granted"] == true => Ret::Granted { term: answer["term"].as_i64().unwrap() },
            Op::Acquire { .. } => Ret::Refused { holder: text("holder") },
            Op::ReleaseLease { .. } => Ret::Released(answer["released"] == true),
            Op::Claim => match answer["job"]["id"].as_str() {
                Some(id) => Ret::Claimed { id: id.into(), token: answer["claim_token"].as_i64().unwrap() },
                None => Ret::Nothing,
            },
            Op::Cursor => Ret::At(answer["last_event_seq"].as_i64()),
            Op::Record { .. } if answer["outcome"] == "miss" => Ret::Miss,
            Op::Record { .. } => Ret::Dedup(text("miroir_task_id")),
            Op::Key => Ret::Task(answer["miroir_task_id"].as_str().map(str::to_owned)),
            Op::Flip { .. } => Ret::Version(answer["version"].as_i64().unwrap()),
            Op::Alias => Ret::Leads { to: text("current_uid"), version: answer["version"].as_i64().unwrap() },
            _ => Ret::Ok,
        })
    }
}
