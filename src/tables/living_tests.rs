#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tasklog_log::ManualClock;

use crate::{
    backend::MemoryBackend,
    config::Config,
    engine::Engine,
    query::{Query, Reader},
    rows::Below,
    tables::sessions,
    wire,
};

fn bounded(backend: &MemoryBackend, sessions_max: u64) -> Engine<MemoryBackend> {
    let config = Config { sessions_max, ..Config::default() };
    Engine::new(backend.clone(), config, "test".into()).unwrap()
}

fn run(engine: &mut Engine<MemoryBackend>, line: &str) -> String {
    engine.execute(wire::parse(line).unwrap().request).unwrap().answers.to_json().join(" ")
}

fn write(session_id: &str) -> String {
    format!(r#"{{"command":"sessions.record_write","args":{{"session_id":"{session_id}","mtask_id":"m"}}}}"#)
}

fn live(engine: &mut Engine<MemoryBackend>) -> u64 {
    let config = Config::default();
    let view = engine.backend().view();
    sessions::Count {}.answer(&Reader::new(&*view, 1_000, &config)).unwrap()
}

fn filled(sessions: usize) -> MemoryBackend {
    let backend = MemoryBackend::new(Arc::new(ManualClock::at(1_000))).unwrap();
    let mut engine = bounded(&backend, u64::MAX);
    for id in 0..sessions {
        run(&mut engine, &write(&format!("s{id:04}")));
    }
    backend
}

#[test]
fn a_lowered_bound_holds_after_the_next_creation() {
    let backend = filled(6);
    let mut engine = bounded(&backend, 3);
    assert!(run(&mut engine, &write("new")).contains(r#""evicted":4"#));
    assert_eq!(live(&mut engine), 3);
    let view = engine.backend().view();
    let config = Config::default();
    let read = Reader::new(&*view, 1_000, &config);
    let kept = |id: &str| sessions::Get { session_id: id.into() }.answer(&read).unwrap().is_some();
    assert!(kept("new") && kept("s0005") && kept("s0004") && !kept("s0003"));
}

#[test]
fn a_bound_of_one_keeps_the_newcomer() {
    let mut engine = bounded(&filled(0), 1);
    run(&mut engine, &write("a"));
    assert!(run(&mut engine, &write("b")).contains(r#""evicted":1"#));
    assert_eq!(live(&mut engine), 1);
}

#[test]
fn evictions_leave_room_for_the_other_commands_of_a_transact() {
    let backend = filled(1_200);
    let mut engine = bounded(&backend, 2);
    let transact = format!(
        r#"{{"transact":[{},{{"command":"tasks.register","args":{{"miroir_id":"m","node_tasks":{{}}}}}},{}]}}"#,
        write("a"),
        write("b")
    );
    run(&mut engine, &transact);
    assert!(live(&mut engine) < 600);
    run(&mut engine, &write("c"));
    assert_eq!(live(&mut engine), 2);
}
