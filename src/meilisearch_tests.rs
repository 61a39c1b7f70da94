#![allow(clippy::unwrap_used)]
use std::io::Cursor;

use flate2::{Compression, write::GzEncoder};

use super::*;

const METADATA_V6: &str = r#"{"dumpVersion":"V6","dbVersion":"1.16.0","dumpDate":"2025-07-31T09:21:30.479544Z"}"#;

/// A dump with these entries, in this order.
fn dump(entries: &[(&str, &[u8])]) -> Cursor<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *bytes).unwrap();
    }
    Cursor::new(archive.into_inner().unwrap().finish().unwrap())
}

fn dump_of(queue: &str) -> Cursor<Vec<u8>> {
    dump(&[("metadata.json", METADATA_V6.as_bytes()), ("tasks/queue.jsonl", queue.as_bytes())])
}

fn read(file: Cursor<Vec<u8>>) -> Result<(Vec<Result<Import, LineError>>, Dump), DumpError> {
    let mut met = Vec::new();
    let read = read_dump(file, "meili-0", |task| -> ControlFlow<()> {
        met.push(task);
        ControlFlow::Continue(())
    })?;
    match read {
        ControlFlow::Continue(dump) => Ok((met, dump)),
        ControlFlow::Break(()) => panic!("nothing breaks here"),
    }
}

fn read_one(line: &str) -> Result<Import, LineError> {
    let (mut met, _) = read(dump_of(line)).unwrap();
    assert_eq!(met.len(), 1);
    met.pop().unwrap()
}

const FAILED: &str = concat!(
    r#"{"uid":3,"batchUid":2,"indexUid":"vector","status":"failed","type":{"documentImport":{"primary_key":null}},"#,
    r#""details":{"DocumentAdditionOrUpdate":{"received_documents":1}},"canceledBy":null,"#,
    r#""error":{"message":"Invalid dimensions: `768`.","code":"invalid_vector_dimensions","type":"invalid_request","#,
    r#""link":"https://docs.meilisearch.com/errors"},"enqueuedAt":"2024-05-16T15:37:50.5386Z","#,
    r#""startedAt":"2024-05-16T15:37:50.539681Z","finishedAt":"2024-05-16T17:37:54.065705999+02:00"}"#
);
const ENQUEUED: &str = concat!(
    r#"{"uid":18446744073709551615,"indexUid":null,"status":"enqueued","type":"snapshotCreation","#,
    r#""enqueuedAt":"1970-01-01T00:00:00Z","startedAt":null,"finishedAt":null}"#
);

#[test]
fn a_task_keeps_status_error_type_index_and_its_three_times() {
    let task = read_one(FAILED).unwrap();
    assert_eq!((task.miroir_id, task.node_id, task.task_uid), (task_id("meili-0", 3), "meili-0".into(), 3));
    assert_eq!((task.status, task.index_uid.as_deref()), (TaskStatus::Failed, Some("vector")));
    assert_eq!(task.task_type.as_deref(), Some("documentImport"));
    assert_eq!(task.error.as_deref(), Some("Invalid dimensions: `768`. (invalid_vector_dimensions)"));
    assert_eq!(task.created_at, 1_715_873_870_538);
    assert_eq!((task.started_at, task.finished_at), (Some(1_715_873_870_539), Some(1_715_873_874_065)));
}

#[test]
fn a_task_without_index_error_and_end_keeps_none_of_them() {
    let task = read_one(ENQUEUED).unwrap();
    assert_eq!((task.task_uid, task.status, task.created_at), (u64::MAX, TaskStatus::Enqueued, 0));
    assert_eq!(task.task_type.as_deref(), Some("snapshotCreation"));
    assert_eq!((task.index_uid, task.error, task.started_at, task.finished_at), (None, None, None, None));
}

#[test]
fn a_repeated_import_gives_the_same_ids_and_another_node_gives_others() {
    let ids = |node: &str| {
        let mut ids = Vec::new();
        let read = read_dump(dump_of(&format!("{FAILED}\n{ENQUEUED}\n")), node, |task| -> ControlFlow<()> {
            ids.push(task.unwrap().miroir_id);
            ControlFlow::Continue(())
        });
        assert!(read.unwrap().is_continue());
        ids
    };
    assert_eq!(ids("meili-0"), ids("meili-0"));
    assert_ne!(ids("meili-0"), ids("meili-1"));
    // Pinned: another id would take every task of an earlier import a second time.
    assert_eq!(task_id("meili-0", 3), "mtask-ca693b7a-9897-80c8-8522-1328a420468f");
}

#[test]
fn stray_entries_are_passed_over_wherever_they_stand() {
    let stray = b"\x00\x05\x16\x07\x00\x02 stray";
    let queue = format!("{FAILED}\n");
    let file = dump(&[
        ("._metadata.json", stray),
        ("tasks/._queue.jsonl", stray),
        ("batches/queue.jsonl", stray),
        ("tasks/update_files/queue.jsonl", stray),
        ("old/tasks/queue.jsonl", stray),
        ("./tasks/queue.jsonl", queue.as_bytes()),
        ("./metadata.json", METADATA_V6.as_bytes()),
    ]);
    let (met, dump) = read(file).unwrap();
    assert_eq!(met.len(), 1);
    assert_eq!(dump, Dump { db_version: Some("1.16.0".into()), tasks: 1, refused: 0 });
}

#[test]
fn a_malformed_line_is_named_and_the_rest_is_read() {
    let queue = format!("{FAILED}\n{{\"uid\":\n\r\n{ENQUEUED}\r\nnull\n{ENQUEUED}");
    let (met, dump) = read(dump_of(&queue)).unwrap();
    let lines: Vec<_> = met.iter().map(|task| task.as_ref().err().map(|error| error.line)).collect();
    assert_eq!(lines, [None, Some(2), None, Some(5), None]);
    assert_eq!((dump.tasks, dump.refused), (3, 2));
    assert!(met[1].as_ref().unwrap_err().to_string().starts_with("tasks/queue.jsonl line 2: "));
}

#[test]
fn values_that_are_no_task_are_refused_by_name() {
    let refused = |from: &str, to: &str| {
        let line = ENQUEUED.replace(from, to);
        assert_ne!(line, ENQUEUED);
        read_one(&line).unwrap_err().why
    };
    assert!(refused("\"enqueued\"", "\"paused\"").contains("paused"));
    assert!(refused("1970-01-01T00:00:00Z", "yesterday").starts_with("enqueuedAt: "));
    assert!(refused("\"startedAt\":null", "\"startedAt\":\"soon\"").starts_with("startedAt: "));
    assert!(refused("\"snapshotCreation\"", "{\"a\":1,\"b\":2}").starts_with("type: "));
    assert!(refused("\"snapshotCreation\"", "{}").starts_with("type: "));
    assert!(refused("\"snapshotCreation\"", "null").starts_with("type: "));
    assert!(refused("18446744073709551615", "-1").contains("-1"));
}

#[test]
fn new_kinds_and_unknown_fields_do_not_hurt() {
    let line = ENQUEUED.replace("\"snapshotCreation\"", "{\"timeTravel\":{\"to\":[1,2]}},\"network\":{\"x\":null}");
    assert_eq!(read_one(&line).unwrap().task_type.as_deref(), Some("timeTravel"));
}

#[test]
fn an_error_of_an_unknown_form_is_kept_as_it_stands() {
    let error = |form: &str| read_one(&ENQUEUED.replace("\"startedAt\"", &format!("\"error\":{form},\"startedAt\"")));
    assert_eq!(error("null").unwrap().error, None);
    assert_eq!(error("\"no space\"").unwrap().error.as_deref(), Some("no space"));
    assert_eq!(error("{\"message\":\"no space\"}").unwrap().error.as_deref(), Some("no space"));
    assert_eq!(error("{\"cause\": 7}").unwrap().error.as_deref(), Some("{\"cause\": 7}"));
}

#[test]
fn an_overlong_line_is_refused_and_the_next_one_read() {
    let mut queue = vec![b'x'; LINE_BYTES_MAX + 1];
    queue.extend_from_slice(format!("\n{ENQUEUED}\n").as_bytes());
    let file = dump(&[("metadata.json", METADATA_V6.as_bytes()), ("tasks/queue.jsonl", &queue)]);
    let (met, _) = read(file).unwrap();
    assert!(met[0].as_ref().unwrap_err().why.contains("longer than"));
    assert_eq!(met[1].as_ref().unwrap().task_uid, u64::MAX);
    assert_eq!(met.len(), 2);
}

#[test]
fn other_versions_and_other_files_are_refused_before_the_first_task() {
    let with_metadata = |metadata: &str| {
        read(dump(&[("tasks/queue.jsonl", FAILED.as_bytes()), ("metadata.json", metadata.as_bytes())])).unwrap_err()
    };
    let version = with_metadata(r#"{"dumpVersion":"V5","dbVersion":"0.28.0"}"#);
    assert_eq!(version.to_string(), r#"dump version: expected "V6", found "V5""#);
    assert!(matches!(with_metadata("{}"), DumpError::Metadata(_)));
    let no_metadata = read(dump(&[("tasks/queue.jsonl", FAILED.as_bytes())]));
    assert!(matches!(no_metadata, Err(DumpError::NoMetadata)));
    let no_queue = read(dump(&[("metadata.json", METADATA_V6.as_bytes())]));
    assert!(matches!(no_queue, Err(DumpError::NoQueue)));
    let no_archive = read(Cursor::new(b"SQLite format 3\0 and so on".to_vec()));
    assert!(matches!(no_archive, Err(DumpError::Io(_))));
    let no_node = read_dump(dump_of(FAILED), "", |_| -> ControlFlow<()> { panic!("nothing is handed out") });
    assert!(matches!(no_node, Err(DumpError::Node(_))));
}

#[test]
fn a_dump_that_is_cut_short_is_an_error_and_not_a_short_queue() {
    // Incompressible, so that a cut falls inside the queue.
    let mut queue = String::new();
    for uid in 0..2_000_u64 {
        queue.push_str(&FAILED.replace("\"uid\":3", &format!("\"uid\":{uid}")).replace("768", &task_id("x", uid)));
        queue.push('\n');
    }
    let mut file = dump_of(&queue).into_inner();
    file.truncate(file.len() / 2);
    let mut tasks = 0;
    let read = read_dump(Cursor::new(file), "meili-0", |task| -> ControlFlow<()> {
        tasks += u64::from(task.is_ok());
        ControlFlow::Continue(())
    });
    assert!(matches!(read, Err(DumpError::Io(_))));
    assert!(tasks > 0 && tasks < 2_000);
}

#[test]
fn reading_stops_when_the_caller_has_enough() {
    let mut met = 0;
    let read = read_dump(dump_of(&format!("{FAILED}\n{ENQUEUED}\n")), "meili-0", |task| {
        met += 1;
        ControlFlow::Break(task.unwrap().task_uid)
    });
    assert_eq!((read.unwrap(), met), (ControlFlow::Break(3), 1));
}
