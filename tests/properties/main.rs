//! Laws that hold whatever is done to a store: random commands over all tables keep every numbered invariant, answer
//! alike on every backend, and leave rows that a replay of their events gives again. Hostile arguments and hostile
//! bytes are refused and never panic.
//!
//! `PROPTEST_CASES` raises the number of sequences.
#![allow(clippy::unwrap_used, missing_docs)]

mod commands;
mod invariants;
mod snapshots;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use commands::{Call, Pick, THEMES, call, names, pick};
use invariants::World;
use proptest::{collection::vec, prelude::*, sample::Index, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use snapshots::Chain;
use store::{Reply, Rows, Store};
use tasklog::{
    RejectionKind,
    log::{Event, ManualClock, Position},
    projections::{AnyRow, TABLES},
    tables::SIDES,
};

const START_MS: i64 = 1_700_000_000_000;

/// `cases` by default.
fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|asked| asked.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), max_shrink_iters: 2_000, ..ProptestConfig::default() }
}

#[derive(Clone, Debug)]
enum Step {
    Run(Pick),
    /// The same with a `command_id`, and then once more.
    RunTwice(Pick),
    Transact(Vec<Pick>),
    /// The clock moves by this, now and then backwards.
    Wait(i64),
    /// The clock moves to the instant at which the next row dies or claim ends, or one millisecond before it.
    WaitForTheNextEnd {
        before: bool,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let waits =
        prop::sample::select(vec![1, 999, 3_000, 10_000, 30_000, 300_000, 900_000, 86_400_000, 604_800_000, -5_000]);
    prop_oneof![
        12 => pick().prop_map(Step::Run),
        3 => pick().prop_map(Step::RunTwice),
        2 => vec(pick(), 1..5).prop_map(Step::Transact),
        1 => waits.prop_map(Step::Wait),
        2 => any::<bool>().prop_map(|before| Step::WaitForTheNextEnd { before }),
        1 => Just(Step::Reopen),
    ]
}

fn sequence() -> impl Strategy<Value = (usize, Vec<Step>)> {
    (0..THEMES.len(), vec(step(), 20..70))
}

/// One store, or two that must answer alike.
struct Driver {
    clock: ManualClock,
    stores: Vec<Store>,
    names: Vec<&'static str>,
    ids: u128,
    /// The texts that were accepted as configurations of search pages.
    configs: BTreeMap<String, String>,
}

impl Driver {
    fn new(theme: usize, backends: &[fn(&ManualClock) -> Store]) -> Self {
        let clock = ManualClock::at(START_MS);
        let stores = backends.iter().map(|open| open(&clock)).collect();
        Self { clock, stores, names: names(THEMES[theme]), ids: 0, configs: BTreeMap::new() }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Run(pick) => self.call(*pick, false),
            Step::RunTwice(pick) => self.call(*pick, true),
            Step::Transact(picks) => {
                let rows = self.stores[0].rows();
                let calls: Vec<_> = picks.iter().map(|pick| call(&self.names, *pick, &rows)).collect();
                let items: Vec<_> =
                    calls.iter().map(|call| json!({ "command": call.name, "args": call.args })).collect();
                let mut line = json!({ "transact": items });
                if let Some(lease) = calls.iter().find_map(|call| call.lease.clone()) {
                    line["lease"] = lease;
                }
                let reply = self.line(&line.to_string());
                if reply.is_ok_and(|reply| reply.changed) {
                    calls.iter().for_each(|call| self.note_config(call, true));
                }
            }
            Step::Wait(ms) => self.clock.advance(*ms),
            Step::WaitForTheNextEnd { before } => {
                let rows = self.stores[0].rows();
                if let Some(end) = next_end(&rows) {
                    self.clock.set(end - i64::from(*before));
                }
            }
            Step::Reopen => self.stores.iter_mut().for_each(Store::reopen),
        }
    }

    fn call(&mut self, pick: Pick, twice: bool) {
        let rows = self.stores[0].rows();
        let call = call(&self.names, pick, &rows);
        let mut line = json!({ "command": call.name, "args": call.args });
        if let Some(lease) = &call.lease {
            line["lease"] = lease.clone();
        }
        if twice {
            self.ids += 1;
            line["command_id"] = uuid::Uuid::from_u128(self.ids).to_string().into();
        }
        let line = line.to_string();
        let reply = self.line(&line);
        let Ok(reply) = reply else { return };
        self.note_config(&call, reply.changed);
        check_reply(&call, &reply, &rows);
        if twice && reply.changed {
            let head = self.stores[0].head();
            let again = self.line(&line).unwrap();
            assert_eq!(again, Reply { repeated: true, ..reply }, "{line}");
            assert_eq!(self.stores[0].head(), head, "{line}");
        }
    }

    fn note_config(&mut self, call: &Call, changed: bool) {
        if call.name == "search_ui_config.set" && changed {
            let index = call.args["index_uid"].as_str().unwrap().to_owned();
            let text = call.args["config_json"].to_string();
            let equal = |old: &String| serde_json::from_str::<Value>(old).unwrap() == call.args["config_json"];
            if !self.configs.get(&index).is_some_and(equal) {
                self.configs.insert(index, text);
            }
        }
    }

    /// Runs a line on every store.
    fn line(&mut self, line: &str) -> Result<Reply, tasklog::Rejection> {
        let before = self.stores[0].head();
        let first = self.stores[0].run(line);
        if first.as_ref().is_err_and(|rejection| rejection.message.ends_with("not known yet: split it")) {
            // What only a store that gives positions itself can do.
            assert!(self.stores[0].is_shared() && line.contains("transact"), "{line}");
            assert_eq!(self.stores[0].head(), before, "{line}");
            return first;
        }
        let mut answers = vec![first];
        answers.extend(self.stores[1..].iter().map(|store| store.run(line)));
        for other in &answers[1..] {
            assert_eq!(other, &answers[0], "{line}");
        }
        let head = self.stores[0].head();
        match &answers[0] {
            Ok(reply) if reply.changed && !reply.repeated => {
                assert_eq!(reply.position, head, "{line}");
                assert!(reply.first.unwrap() > before, "{line}");
            }
            _ => assert_eq!(head, before, "{line}: no effect, no event"),
        }
        answers.into_iter().next().unwrap()
    }

    fn check(&self) {
        let world = World::of(&self.stores[0]);
        invariants::ALL.iter().for_each(|invariant| invariant(&world));
        for (index, text) in &self.configs {
            // SU2: byte for byte what was set.
            if let Some(stored) = world.rows.get("search_ui_config", index) {
                assert_eq!(stored.row.cells()[1], tasklog::projections::Cell::from(&**text), "{index}");
            }
        }
        let dump = world.rows.dump();
        for store in &self.stores {
            assert_eq!(store.rows().dump(), dump, "the backends differ");
            let report = store.store().verify(|_| {}).unwrap();
            assert!(report.findings.is_empty(), "{:#?}", report.findings);
            assert_eq!(report.head, store.head());
        }
    }
}

/// When the next row dies or claim ends.
fn next_end(rows: &Rows) -> Option<i64> {
    let ends = rows.all().flat_map(|row| {
        ["ttl", "expires_at", "claim_expires_at"].into_iter().filter_map(|name| row.columns.get(name)?.as_i64())
    });
    ends.filter(|end| *end > rows.now).min()
}

/// What can be told from one reply and the rows before it.
fn check_reply(call: &Call, reply: &Reply, before: &Rows) {
    let answer = &reply.answers[0];
    match call.name {
        "idempotency_cache.check_or_record" => {
            let key = call.args["key"].as_str().unwrap();
            match before.of("idempotency_cache").get(key) {
                // ID2: a dedup is the first answer.
                Some(row) => {
                    assert_eq!(answer["outcome"], "dedup");
                    assert_eq!(answer["miroir_task_id"], row["miroir_task_id"]);
                    assert_eq!(answer["expires_at"], row["expires_at"]);
                    assert!(!reply.changed);
                }
                // ID3, ID6: a dead or released key is free at once.
                None => assert!(answer["outcome"] == "miss" && reply.changed),
            }
        }
        // SE5, also for a use that wrote nothing.
        "sessions.touch" | "sessions.record_write" if reply.changed || call.name == "sessions.touch" => {
            assert!(answer["ttl"].as_i64().unwrap() - before.now >= 900_000, "{call:?} {reply:?} at {}", before.now);
        }
        "jobs.claim_next" => {
            let Some(id) = answer["job"]["id"].as_str() else { return };
            let row = before.of("jobs")[id];
            let dead = row["claim_expires_at"].as_i64().is_some_and(|end| end <= before.now);
            assert!(row["state"] == "queued" || dead, "{id} was taken from a live claim: {row}");
            assert_eq!(answer["claim_token"], reply.position.0);
        }
        "leader_lease.acquire" if answer["granted"] == true => assert_eq!(answer["term"], reply.position.0),
        _ => {}
    }
}

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn random_commands_keep_every_invariant((theme, steps) in sequence()) {
        let mut driver = Driver::new(theme, &[Store::memory]);
        steps.iter().for_each(|step| driver.run(step));
        driver.check();
    }
}

proptest! {
    #![proptest_config(cases(26))]

    #[test]
    fn rebuilt_rows_equal_live_rows_and_backends_answer_alike((theme, steps) in sequence()) {
        let mut driver = Driver::new(theme, &[Store::memory, Store::sqlite]);
        steps.iter().for_each(|step| driver.run(step));
        driver.check();
        let live = driver.stores[1].rows().dump();
        driver.stores[1].reopen();
        assert_eq!(driver.stores[1].rows().dump(), live, "reopened");
        driver.stores[1].rebuild();
        assert_eq!(driver.stores[1].rows().dump(), live, "rebuilt");
        driver.check();
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn every_snapshot_and_the_tail_give_the_live_rows((theme, steps) in sequence(), every in 1usize..20) {
        let mut driver = Driver::new(theme, &[Store::memory]);
        let chain = Chain::new();
        for (at, step) in steps.iter().enumerate() {
            driver.run(step);
            if at % every == 0 {
                chain.make(driver.stores[0].store());
            }
        }
        chain.check(driver.stores[0].store());
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn snapshots_of_files_and_of_redis_are_alike((theme, steps) in sequence(), at in any::<Index>()) {
        for open in [Store::sqlite as fn(&ManualClock) -> Store, Store::redis] {
            let mut driver = Driver::new(theme, &[open]);
            let chain = Chain::new();
            let at = at.index(steps.len());
            steps[..at].iter().for_each(|step| driver.run(step));
            chain.make(driver.stores[0].store());
            steps[at..].iter().for_each(|step| driver.run(step));
            chain.check(driver.stores[0].store());
        }
    }
}

proptest! {
    #![proptest_config(cases(16))]

    /// Where many may write, a batch is decided on cached rows and gets its places from the script.
    #[test]
    fn a_shared_store_answers_like_one_in_memory((theme, steps) in sequence()) {
        let mut driver = Driver::new(theme, &[Store::redis, Store::memory]);
        steps.iter().for_each(|step| driver.run(step));
        driver.check();
        let live = driver.stores[0].rows().dump();
        driver.stores[0].reopen();
        assert_eq!(driver.stores[0].rows().dump(), live, "reopened");
        driver.check();
    }
}

proptest! {
    #![proptest_config(cases(64))]

    /// CR3: any order of recording distinct runs under a constant limit gives the same rows.
    #[test]
    fn the_order_of_recording_runs_does_not_matter(order in Just((0..7).collect::<Vec<i64>>()).prop_shuffle()) {
        let store = Store::memory(&ManualClock::at(START_MS));
        let run = |name: &str, args: Value| store.run(&json!({ "command": name, "args": args }).to_string()).unwrap();
        run("canaries.define", json!({ "id": "c", "name": "n", "index_uid": "i", "interval_s": 1, "query_json": {},
            "assertions_json": [] }));
        for ran_at in order {
            let reply =
                run("canary_runs.record", json!({ "canary_id": "c", "ran_at": ran_at, "status": "pass", "latency_ms": 1 }));
            prop_assert_eq!(&reply.answers[0]["kept"], &json!(reply.changed));
        }
        let kept: Vec<_> = store.rows().of("canary_runs").into_keys().map(str::to_owned).collect();
        prop_assert_eq!(kept, ["c/4", "c/5", "c/6"]);
    }
}

/// Sequences that only met rejections would prove nothing.
#[test]
fn random_commands_reach_every_event() {
    let mut runner = TestRunner::deterministic();
    let mut missing: BTreeSet<&str> = TABLES.iter().flat_map(|table| table.events).map(|kind| kind.name).collect();
    for theme in 0..THEMES.len() * 20 {
        let steps = vec(step(), 20..70).new_tree(&mut runner).unwrap().current();
        let mut driver = Driver::new(theme % THEMES.len(), &[Store::memory]);
        steps.iter().for_each(|step| driver.run(step));
        for event in driver.stores[0].events() {
            missing.remove(&*event.name);
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("never reached: {missing:?}");
}

#[test]
fn every_command_of_the_catalogue_has_random_arguments() {
    let store = Store::memory(&ManualClock::at(START_MS));
    let rows = store.rows();
    for name in names(&[]) {
        let pick = Pick { command: 0, a: 2, b: 2, c: 2, d: 2, lease: 2 };
        assert!(call(&[name], pick, &rows).args.is_object(), "{name}");
    }
}

// ---- hostile input

fn hostile() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "-1",
            "1.5",
            "1e308",
            "1e400",
            "9007199254740993",
            "9007199254740991",
            "9007199254740992",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "\"\"",
            "\"\\u0000\"",
            "\"_cluster\"",
            "\"a/b%\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud800\"",
            "{}",
            "[]",
            "[null]",
            "{\"a\":1,\"a\":2}",
            "[\"meili-0\",\"meili-0\"]",
            "{\"delegated\":true}",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| Value::from(text).to_string()),
        Just(format!("\"{}\"", "x".repeat(513))),
        Just(format!("\"{}\"", "ab".repeat(32))),
        Just(format!("\"{}\"", "é".repeat(40_000))),
        Just(format!("{}{}", "[".repeat(129), "]".repeat(129))),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            vec(("[a-z_]{1,8}", inner), 0..3).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// How arguments go wrong: members that are gone, foreign, or hold something else.
#[derive(Clone, Debug)]
enum Damage {
    Remove(Index),
    Replace(Index, String),
    Add(String),
    Whole(String),
    None,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        1 => any::<Index>().prop_map(Damage::Remove),
        6 => (any::<Index>(), hostile()).prop_map(|(at, text)| Damage::Replace(at, text)),
        1 => hostile().prop_map(Damage::Add),
        1 => hostile().prop_map(Damage::Whole),
        2 => Just(Damage::None),
    ]
}

fn damaged(args: &Value, damage: &[Damage]) -> String {
    let mut members: Vec<(String, String)> =
        args.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    for damage in damage {
        match damage {
            Damage::Remove(at) if !members.is_empty() => drop(members.remove(at.index(members.len()))),
            Damage::Replace(at, text) if !members.is_empty() => {
                let at = at.index(members.len());
                members[at].1.clone_from(text);
            }
            Damage::Add(text) => members.push(("foreign".into(), text.clone())),
            Damage::Whole(text) => return text.clone(),
            _ => {}
        }
    }
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #![proptest_config(cases(80))]

    /// An error of the store, such as a committer that panicked or a fold that contradicts its decision, fails in
    /// [`Store::run`].
    #[test]
    fn decide_never_panics_whatever_the_arguments(
        theme in 0..THEMES.len(),
        calls in vec((pick(), vec(damage(), 1..3), prop::option::of(hostile())), 1..60),
    ) {
        let driver = Driver::new(theme, &[Store::memory]);
        for (pick, damage, other) in calls {
            let Call { name, args, lease } = call(&driver.names, pick, &driver.stores[0].rows());
            let args = damaged(&args, &damage);
            let lease = lease.map_or("null".into(), |lease| lease.to_string());
            let foreign = other.map(|other| format!(",\"reason\":{other}")).unwrap_or_default();
            let line = format!("{{\"command\":\"{name}\",\"args\":{args},\"lease\":{lease}{foreign}}}");
            let before = driver.stores[0].head();
            if let Err(rejection) = driver.stores[0].run(&line) {
                prop_assert_eq!(driver.stores[0].head(), before, "{}", line);
                let said = rejection.message.len();
                prop_assert!(said < 300_000 && (said > 0 || rejection.kind != RejectionKind::Invalid), "{}", line);
            }
        }
        let report = driver.stores[0].store().verify(|_| {}).unwrap();
        prop_assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }

    #[test]
    fn queries_never_panic_whatever_the_arguments(steps in vec(pick(), 30), args in vec((any::<Index>(), damage()), 40)) {
        let mut driver = Driver::new(THEMES.len() - 1, &[Store::memory]);
        steps.iter().for_each(|pick| driver.run(&Step::Run(*pick)));
        let queries: Vec<_> = SIDES.iter().flat_map(|side| side.queries).collect();
        let given = json!({ "miroir_id": "t1", "session_id": "s1", "key": "k1", "id": "j1", "name": "shop", "uid": "i1",
            "scope": "ilm", "canary_id": "c1", "sink_name": "hook", "index_uid": "products", "node_id": "meili-0",
            "parent_id": "j1", "tenant_id": "acme", "alias": "logs", "limit": 2, "offset": 1, "cutoff_ms": 5,
            "status": "failed", "state": "queued", "floor": u64::MAX, "api_key_hash": "0a".repeat(32),
            "admin_key_hash": "0a".repeat(32) });
        for (which, damage) in args {
            let query = queries[which.index(queries.len())];
            let schema = serde_json::to_value((query.args)()).unwrap();
            let known = schema["properties"].as_object().cloned().unwrap_or_default();
            let args = given.as_object().unwrap().iter().filter(|(name, _)| known.contains_key(*name));
            let args: serde_json::Map<_, _> = args.map(|(name, value)| (name.clone(), value.clone())).collect();
            let args = damaged(&args.into(), &[damage]);
            if serde_json::from_str::<&serde_json::value::RawValue>(&args).is_ok() {
                // A rejection is an answer; an error of the store panics.
                let _ = driver.stores[0].ask(query.name, &args);
            }
        }
    }

    #[test]
    fn decoding_never_panics_whatever_the_bytes(
        noise in vec(any::<u8>(), 0..64),
        values in vec(hostile(), 40),
        version in prop::sample::select(vec![0_u32, 1, 2, u32::MAX]),
    ) {
        let mut values = values.iter().map(|text| serde_json::from_str(text).unwrap_or(Value::Null)).cycle();
        for table in TABLES {
            let mut row: Option<AnyRow> = None;
            for kind in table.events {
                // Members of the right names with anything in them, then nothing that makes sense at all.
                let schema = serde_json::to_value((kind.schema)()).unwrap();
                let members = schema["properties"].as_object().cloned().unwrap_or_default();
                let members: serde_json::Map<_, _> =
                    members.into_iter().map(|(name, _)| (name, values.next().unwrap_or_default())).collect();
                for (payload, version) in [(rmp_serde::to_vec_named(&members).unwrap(), 1), (noise.clone(), version)] {
                    let event = Event {
                        position: Position(7),
                        table: table.name.into(),
                        key: "a/1".into(),
                        event_type: kind.name.into(),
                        type_version: version,
                        prev: None,
                        payload,
                        checksum: 0,
                    };
                    let _ = table.payload_json(&event);
                    if let Ok(next) = table.fold(row.clone(), &event, 5) {
                        row = next;
                    }
                }
            }
        }
    }
}
