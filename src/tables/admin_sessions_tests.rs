#![allow(clippy::unwrap_used)]

use tasklog_log::{Log, ManualClock};

use super::*;
use crate::{backend::MemoryBackend, config::Config, engine::Engine, wire};

const KEPT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn engine() -> (MemoryBackend, Engine<MemoryBackend>) {
    let backend = MemoryBackend::new(Arc::new(ManualClock::at(1_000))).unwrap();
    (backend.clone(), Engine::new(backend, Config::default(), "test".into()).unwrap())
}

fn run(engine: &mut Engine<MemoryBackend>, name: &str, args: &str) -> String {
    let line = format!(r#"{{"command":"{name}","args":{args}}}"#);
    engine.execute(wire::parse(&line).unwrap().request).unwrap().answers.to_json().join(" ")
}

#[test]
fn revoking_all_passes_over_pages_of_kept_sessions_and_goes_on_in_further_commits() {
    let (backend, mut engine) = engine();
    for id in 0..3_600 {
        let hash = if id < 1_100 { KEPT } else { OTHER };
        let args = format!(r#"{{"session_id":"s{id:04}","csrf_token":"t","admin_key_hash":"{hash}"}}"#);
        run(&mut engine, "admin_sessions.open", &args);
    }
    let revoke = format!(r#"{{"keep_admin_key_hash":"{KEPT}","why":"key_rotated"}}"#);
    assert_eq!(run(&mut engine, "admin_sessions.revoke_all", &revoke), r#"{"revoked":2500,"more":false}"#);
    let commits = backend.log.read(tasklog_log::Position(3_600), 10_000).unwrap();
    assert_eq!(commits.iter().map(|commit| commit.events.len()).collect::<Vec<_>>(), [1_000, 1_000, 500]);
    assert_eq!(run(&mut engine, "admin_sessions.revoke_all", &revoke), r#"{"revoked":0,"more":false}"#);
    let rest = r#"{"why":"operator"}"#;
    assert_eq!(run(&mut engine, "admin_sessions.revoke_all", rest), r#"{"revoked":1100,"more":false}"#);
}

#[test]
fn minted_ids_have_256_bits_and_differ() {
    let (_, mut engine) = engine();
    let args = format!(r#"{{"admin_key_hash":"{KEPT}"}}"#);
    let mut opened = || -> Opened { serde_json::from_str(&run(&mut engine, "admin_sessions.open", &args)).unwrap() };
    let (a, b) = (opened(), opened());
    let texts = [&a.session_id, &a.csrf_token, &b.session_id, &b.csrf_token];
    assert!(texts.iter().all(|text| Hash32::from_hex(text).is_ok()));
    assert_eq!(texts.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}
