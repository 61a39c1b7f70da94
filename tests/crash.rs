//! What was acknowledged survives the death of the process, whole and in its place, and nothing else is half there.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::{Connection, OpenFlags, types::Value as Cell};
use serde_json::Value;
use support::program::{Store, run};
use uuid::Uuid;

/// Lines of the input.
const LINES: usize = 2_400;
/// How often the process is killed on the way through it.
const KILLS: usize = 16;
/// Kills that come at a moment of the clock, early enough to meet the store while it is created.
const EARLY_KILLS: usize = 24;
/// The latest moment of an early kill.
const EARLY_KILL_MAX: Duration = Duration::from_millis(60);
/// Kills of a rebuild.
const REBUILD_KILLS: usize = 12;
/// The latest moment of one: about as long as the rebuild takes.
const REBUILD_KILL_MAX: Duration = Duration::from_millis(300);
/// Lines that may be on their way beyond the one whose answer brings the kill.
const IN_FLIGHT_MAX: usize = 400;
/// The pause between that answer and the kill.
const LATE_KILL_MAX: Duration = Duration::from_millis(3);
/// ms between two lines of the recording: sessions and idempotency keys die on the way.
const LINE_MS: usize = 2_000;

/// Names the run: `TASKLOG_TEST_SEED` repeats one.
fn seed() -> u64 {
    let seed = std::env::var("TASKLOG_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    // Shown when the test fails.
    println!("TASKLOG_TEST_SEED={seed}");
    seed
}

/// A recording in which every line changes something, whatever was applied before it was repeated: commits of one event
/// and of several, rows created, changed, deleted and dead by time.
fn recording(rng: &mut ChaCha8Rng) -> Vec<String> {
    let mut cursor = 0;
    let mut alias = 0;
    let mut line = |at: usize| {
        let single = |command: &str, args: String| format!(r#""command":"{command}","args":{args}"#);
        let body = match at % 8 {
            0 => single("tasks.register", format!(r#"{{"miroir_id":"t{at}","node_tasks":{{"n1":{at},"n2":{at}}}}}"#)),
            1 => {
                let write = format!(
                    r#"[{{"command":"idempotency_cache.check_or_record","args":{{"key":"k{at}","body_sha256":"{at:064x}","miroir_task_id":"t{at}","source":"client"}}}},
                       {{"command":"tasks.register","args":{{"miroir_id":"t{at}","node_tasks":{{}}}}}},
                       {{"command":"sessions.record_write","args":{{"session_id":"s{}","mtask_id":"t{at}"}}}}]"#,
                    at % 64
                );
                format!(r#""transact":{}"#, write.replace('\n', " "))
            }
            2 => single(
                "tasks.report_node_statuses",
                format!(r#"{{"miroir_id":"t{}","reports":[{{"node_id":"n1","status":"processing"}}]}}"#, at - 2),
            ),
            3 => {
                alias += 1;
                match alias {
                    1 => single("aliases.create", r#"{"name":"a","target":"i1","target_verified":true}"#.into()),
                    _ => single(
                        "aliases.flip",
                        format!(
                            r#"{{"name":"a","expected_version":{},"target":"i{alias}","target_verified":true}}"#,
                            alias - 1
                        ),
                    ),
                }
            }
            4 => {
                let from = if cursor == 0 { "null".to_owned() } else { cursor.to_string() };
                cursor += 1 + rng.random_range(0..9);
                single(
                    "cdc_cursors.advance",
                    format!(r#"{{"sink_name":"hook","index_uid":"i","expected_seq":{from},"new_seq":{cursor}}}"#),
                )
            }
            5 => {
                let sinks = 3 + rng.random_range(0..20);
                let advance = |index| {
                    format!(
                        r#"{{"command":"cdc_cursors.advance","args":{{"sink_name":"s{at}","index_uid":"i{index}","expected_seq":null,"new_seq":1}}}}"#
                    )
                };
                format!(r#""transact":[{}]"#, (0..sinks).map(advance).collect::<Vec<_>>().join(","))
            }
            // The rows that the line before has made.
            6 => single("cdc_cursors.drop", format!(r#"{{"sink_name":"s{}"}}"#, at - 1)),
            _ => single(
                "jobs.enqueue",
                format!(r#"{{"id":"j{at}","type":"x","params":{{"pad":"{}"}}}}"#, "x".repeat(at % 700)),
            ),
        };
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let id = uuid::Builder::from_unix_timestamp_millis(at as u64, id[..10].try_into().unwrap()).into_uuid();
        format!(r#"{{{body},"command_id":"{id}","at_ms":{}}}"#, at * LINE_MS)
    };
    (0..LINES).map(&mut line).collect()
}

/// First position, last position and commit id.
type Told = (u64, u64, Uuid);

/// The answers in an output, by line number. A line without its end was not written whole: nobody was told it.
fn answers(output: &str, told: &mut BTreeMap<u64, Told>) {
    for line in output.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["ok"], true, "{line}");
        let number = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("no {name}: {line}"));
        let id = answer["reply"]["commit_id"].as_str().unwrap().parse().unwrap();
        let new = (number("first"), number("last"), id);
        let before = *told.entry(number("line")).or_insert(new);
        assert_eq!(before, new, "line {} was answered otherwise before", number("line"));
    }
}

/// All events as they are stored, read beside the program and without folding the write-ahead log into the file.
fn events(store: &Store) -> Vec<Vec<Cell>> {
    let file = Connection::open_with_flags(store.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let exists = file.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'events'").unwrap().exists([]).unwrap();
    if !exists {
        return Vec::new();
    }
    let mut select = file.prepare("SELECT * FROM events ORDER BY position").unwrap();
    let columns = select.column_count();
    let rows = select.query_map([], |row| (0..columns).map(|at| row.get(at)).collect()).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// A process that is applying the input.
struct Run {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    text: String,
}

impl Run {
    fn start(store: &Store, lines: &[String]) -> Self {
        let mut command = store.command(["apply"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), lines.join("\n") + "\n");
        let output = BufReader::new(child.stdout.take().unwrap());
        // The thread keeps the pipe open until the process is dead: it never ends by itself.
        thread::spawn(move || {
            let _ = stdin.write_all(input.as_bytes());
            loop {
                // Blank lines are passed over.
                if stdin.write_all(b"\n").is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { child, output, text: String::new() }
    }

    /// Reads answers until there are this many.
    fn read(&mut self, lines: usize) {
        for _ in 0..lines {
            assert!(self.output.read_line(&mut self.text).unwrap() > 0, "the process ended by itself: {}", self.text);
        }
    }

    /// Kills it, and reads what it had said.
    fn kill(mut self) -> String {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it was killed, and did not end by itself: {status}");
        loop {
            let mut line = Vec::new();
            if self.output.read_until(b'\n', &mut line).unwrap() == 0 {
                return self.text;
            }
            self.text.push_str(&String::from_utf8_lossy(&line));
        }
    }
}

/// Waits without giving up the processor: a sleep is coarser than what is being hit.
fn spin(for_long: Duration) {
    let began = Instant::now();
    while began.elapsed() < for_long {
        std::hint::spin_loop();
    }
}

#[test]
fn every_acknowledged_command_survives_a_killed_process() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let lines = recording(&mut rng);
    let input = lines.join("\n") + "\n";

    let undisturbed = Store::new();
    let mut expected = BTreeMap::new();
    answers(&run(undisturbed.command(["apply"]), input.as_bytes()).with(0).out, &mut expected);
    assert_eq!(expected.len(), LINES);
    let expected_events = events(&undisturbed);

    let store = Store::new();
    let mut told = BTreeMap::new();
    for kill in 0..KILLS {
        let done = told.len();
        // A share of what is left, so that the last kill comes near the end.
        let step = (LINES - done) / (KILLS - kill);
        let wanted = done + rng.random_range(0..=step);
        let given = (wanted + 1 + rng.random_range(0..IN_FLIGHT_MAX)).min(LINES);
        let mut run = Run::start(&store, &lines[..given]);
        run.read(wanted.min(given));
        spin(rng.random_range(Duration::ZERO..LATE_KILL_MAX));
        answers(&run.kill(), &mut told);
        check(&told, &expected, &events(&store), &expected_events);
        if kill % 4 == 3 {
            store.run(["verify"]).with(0);
        }
    }
    assert!(told.len() > LINES / 2, "only {} of {LINES} were acknowledged before the last kill", told.len());

    let again = run(store.command(["apply"]), input.as_bytes()).with(0);
    answers(&again.out, &mut told);
    assert_eq!(told, expected);
    store.run(["verify"]).with(0);
    assert_eq!(store.dump(), undisturbed.dump());
}

/// A store was born in several transactions: one killed between the first of them and the one that noted its clock was
/// left with the clock of the process, and told the next call so instead of keeping the recording's time. A file that
/// had been created and not written to had the same effect.
#[test]
fn a_store_whose_creation_was_killed_is_created_by_the_next_call() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let lines = &recording(&mut rng)[..40];
    let input = lines.join("\n") + "\n";
    let undisturbed = Store::new();
    let mut expected = BTreeMap::new();
    answers(&run(undisturbed.command(["apply"]), input.as_bytes()).with(0).out, &mut expected);
    for _ in 0..EARLY_KILLS {
        let store = Store::new();
        let mut told = BTreeMap::new();
        let started = Run::start(&store, lines);
        spin(rng.random_range(Duration::ZERO..EARLY_KILL_MAX));
        answers(&started.kill(), &mut told);
        answers(&run(store.command(["apply"]), input.as_bytes()).with(0).out, &mut told);
        assert_eq!(told, expected);
        assert!(events(&store) == events(&undisturbed), "another log than the undisturbed one");
        store.run(["verify"]).with(0);
    }
}

/// The shadow that a killed rebuild had left behind kept the names of its indexes: a table dropped later could not be
/// made anew, and the store could not be opened any more.
#[test]
fn a_rebuild_that_was_killed_is_never_served_as_whole() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let store = Store::with(&recording(&mut rng)[..800]);
    let whole = store.dump();
    let everything = "UPDATE _projections SET version = 0; DROP TABLE tasks; DROP TABLE sessions; DROP TABLE jobs";
    for round in 0..REBUILD_KILLS {
        let by_hand = round % 2 == 0;
        if by_hand {
            store.by_hand(everything);
        }
        // Opening a store without its tables rebuilds them, as the verb does.
        let mut command = store.command([if by_hand { "info" } else { "rebuild" }]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        spin(rng.random_range(Duration::ZERO..REBUILD_KILL_MAX));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(store.dump(), whole);
        store.run(["verify"]).with(0);
    }
}

/// The log is the undisturbed one's up to the end of one of its commits, and that is not before the last acknowledged
/// one.
fn check(
    told: &BTreeMap<u64, Told>,
    expected: &BTreeMap<u64, Told>,
    found: &[Vec<Cell>],
    expected_events: &[Vec<Cell>],
) {
    for (line, told) in told {
        assert_eq!(*told, expected[line], "line {line}");
        assert!(
            told.1 <= found.len() as u64,
            "line {line}: events {} to {} were acknowledged, the log ends at {}",
            told.0,
            told.1,
            found.len()
        );
    }
    assert!(found == &expected_events[..found.len()], "the log is not the beginning of the undisturbed one");
    let ends_whole = found.is_empty() || expected.values().any(|(_, last, _)| *last == found.len() as u64);
    assert!(ends_whole, "the log ends at {}, within a commit", found.len());
}
