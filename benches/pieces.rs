//! The pieces of a command's journey, one by one. `tasklog bench` measures the whole against a raw baseline.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tasklog::{
    Config,
    backend::MemoryBackend,
    command::CommandOptions,
    engine::{Engine, Request},
    log::{CommitId, CommitMeta, Event, ManualClock, Position, checksum},
    projections::{
        TableEvent, canonical,
        tables::tasks::{DEF, TaskEvent, TaskRegistered},
    },
    tables::tasks::Register,
    wire,
};

const LINE: &str = r#"{"command":"tasks.register","args":{"miroir_id":"mtask-1","node_tasks":{"meili-0":7,"meili-1":8,"meili-2":9},"index_uid":"products"},"actor":"router"}"#;

fn registered() -> TaskEvent {
    let node_tasks = (0..3).map(|node| (format!("meili-{node}"), node)).collect();
    TaskEvent::from(TaskRegistered {
        created_at: 1_767_225_600_000,
        node_tasks,
        index_uid: Some("products".into()),
        task_type: None,
        idempotency_key: None,
        degraded_groups: None,
    })
}

fn event() -> (CommitMeta, Event) {
    let meta = CommitMeta { id: CommitId::mint(), actor: "router".into(), reason: None, request_id: None };
    let event = Event {
        position: Position(1),
        table: "tasks".into(),
        key: "mtask-01a205f1-b7eb-71cb-81ba-7af71bef3aee".into(),
        event_type: "task_registered".into(),
        type_version: 1,
        prev: None,
        payload: registered().encode(),
        checksum: 0,
    };
    (meta, event)
}

fn pieces(c: &mut Criterion) {
    c.bench_function("wire: parse a line", |b| b.iter(|| wire::parse(black_box(LINE)).unwrap()));
    c.bench_function("event: encode", |b| {
        let event = registered();
        b.iter(|| black_box(&event).encode());
    });
    let (meta, stored) = event();
    c.bench_function("event: decode", |b| {
        b.iter(|| TaskEvent::decode("task_registered", 1, black_box(&stored.payload)).unwrap());
    });
    c.bench_function("event: checksum", |b| b.iter(|| checksum(black_box(&meta), 0, black_box(&stored))));
    c.bench_function("table: fold one event", |b| {
        b.iter(|| DEF.fold(None, black_box(&stored), 1_767_225_600_000).unwrap());
    });
    c.bench_function("json: canonical form of 1 KiB", |b| {
        let text =
            serde_json::to_string(&(0..64).map(|n| (format!("key-{n}"), n)).collect::<BTreeMap<_, _>>()).unwrap();
        b.iter(|| canonical(black_box(&text)).unwrap());
    });
    c.bench_function("engine: register a task in memory", |b| {
        let backend = MemoryBackend::new(Arc::new(ManualClock::at(1))).unwrap();
        let mut engine = Engine::new(backend, Config::default(), "bench".into()).unwrap();
        b.iter_batched(
            || Request::one(Box::new(Register::default()), CommandOptions::default()),
            |request| engine.execute(request).unwrap(),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, pieces);
criterion_main!(benches);
