use std::sync::Arc;

use tasklog::{
    Error, OpenOptions, RejectionKind, TaskStore,
    command::CommandOptions,
    log::{ManualClock, MemoryBlobs, Position, StoreError},
    projections::{PROJECTED, TABLES, View, memory::MemoryView, tables::tasks},
    replay::{
        Moment, Past, history, live_rows,
        snapshot::{MakeOptions, Snapshots},
    },
    store::When,
    tables::tasks as commands,
    wire,
};

use crate::{
    support::script::Subject,
    world::{Fold, Rows, backends, commits, found, listed, play_day, row_text, table_of},
};

/// Lines of the recorded day: enough for every table, for rows that died and rows that were deleted and made again.
const LINES: usize = 700;
/// Every so many positions all tables are compared, and so many rows by their keys at each.
const EVERY: u64 = 61;
const KEYS_EVERY: usize = 17;

#[test]
fn as_of_any_position_a_store_answers_what_a_fold_from_the_start_gives() {
    for (name, mut single) in backends() {
        play_day(&mut single, LINES);
        let store = single.store();
        let commits = commits(store);
        let all: Vec<_> = {
            let mut last = Vec::new();
            Fold::each(&commits, |fold, _, _| last = fold.seen.iter().cloned().collect());
            last
        };
        let head = commits.last().unwrap().last().0;
        let (mut looked, mut inside) = (0, 0);
        Fold::each(&commits, |fold, position, now| {
            if position.0 % EVERY != 0 && position.0 != head {
                return;
            }
            looked += 1;
            inside += u64::from(!commits.iter().any(|commit| commit.last() == position));
            let live = fold.live(now);
            let at = store.at(position).unwrap();
            assert_eq!(at.moment().unwrap().now, now);
            // By key first: a chain is walked, nothing is folded yet.
            let keys = all.iter().skip(position.0 as usize % KEYS_EVERY).step_by(KEYS_EVERY);
            for key in keys.clone() {
                assert_eq!(found(&at, key).as_ref(), live.get(key), "{name}: {key:?} as of {position}");
            }
            assert_eq!(listed(&at), live, "{name}: as of {position}");
            for key in keys {
                assert_eq!(found(&at, key).as_ref(), live.get(key), "{name}: {key:?} as of {position}, folded");
            }
            let counts = at.counts().unwrap();
            assert_eq!(counts.iter().map(|(_, rows)| *rows).sum::<u64>(), live.len() as u64, "{name}: {position}");
            assert_eq!(at.health().unwrap(), position);
        });
        assert!(looked > 10 && inside > 2, "{looked} positions, {inside} inside commits");
    }
}

#[test]
fn a_time_between_two_commits_is_the_earlier_one_at_that_time() {
    for (name, mut single) in backends() {
        single.now(10_000);
        single.line(r#"{"command":"tasks.register","args":{"miroir_id":"a","node_tasks":{}}}"#);
        single.now(20_000);
        single.line(
            r#"{"transact":[{"command":"tasks.register","args":{"miroir_id":"b","node_tasks":{}}},{"command":"sessions.record_write","args":{"session_id":"s","mtask_id":"b"}}]}"#,
        );
        single.now(10_000_000);
        single.line(r#"{"command":"tasks.register","args":{"miroir_id":"c","node_tasks":{}}}"#);
        let store = single.store();
        let session = ("sessions", "s".to_owned());
        let rows = |when: When| {
            let at = store.at(when).unwrap();
            (at.head().unwrap().0, at.counts().unwrap()[0].1, found(&at, &session).is_some())
        };
        assert_eq!(rows(When::Time(10_000)), (1, 1, false), "{name}");
        assert_eq!(rows(When::Time(19_999)), (1, 1, false), "{name}");
        assert_eq!(rows(When::Time(20_000)), (3, 2, true), "{name}");
        assert_eq!(rows(When::Ago(9_980_000)), (3, 2, true), "{name}");
        // The session has died by time, no event has said so, and today nothing is left of it.
        assert_eq!(rows(When::Time(9_999_999)), (3, 2, false), "{name}");
        assert_eq!(rows(When::Position(Position(3))), (3, 2, true), "{name}");
        // Inside a commit, between the task and the session.
        assert_eq!(rows(When::Position(Position(2))), (2, 2, false), "{name}");
        assert_eq!(rows(When::Position(Position::ZERO)), (0, 0, false), "{name}");
        let refused = |when: When| match store.at(when).map(drop) {
            Err(Error::Rejected(rejection)) if rejection.kind == RejectionKind::Invalid => rejection.message,
            other => panic!("{name}: {other:?}"),
        };
        assert!(refused(When::Position(Position(5))).contains("beyond the head: the log ends at event 4"));
        assert!(
            refused(When::Time(9_999)).contains("nothing yet: the first event was recorded at 1970-01-01T00:00:10")
        );
        assert!(refused(When::Time(1 << 50)).contains("has not come yet"));
    }
}

#[test]
fn a_row_that_was_deleted_and_made_again_shows_each_of_its_lives() {
    const DAY: i64 = 86_400_000;
    for (name, mut single) in backends() {
        let register = r#"{"command":"tasks.register","args":{"miroir_id":"a","node_tasks":{}}}"#;
        let end = r#"{"command":"tasks.set_status","args":{"miroir_id":"a","status":"failed","error":"no"}}"#;
        single.now(1_000);
        single.line(register);
        single.line(end);
        single.now(2_000);
        let pruned = single.line(r#"{"command":"tasks.prune","args":{"cutoff_ms":1500,"limit":10}}"#);
        assert!(pruned.contains("task_pruned"), "{pruned}");
        // Its tombstone is forgotten: nothing leads to its first life any more.
        for days in 2..5 {
            single.now(days * DAY);
            single.line(&format!(
                r#"{{"command":"tasks.register","args":{{"miroir_id":"other-{days}","node_tasks":{{}}}}}}"#
            ));
        }
        single.now(5 * DAY);
        let again = single.line(register);
        assert!(again.contains("prev=-"), "{name}: {again}");
        let store = single.store();
        let status = |position| {
            let at = store.at(Position(position)).unwrap();
            let task = at.tasks().get(commands::Get { miroir_id: "a".into() }).unwrap();
            task.map(|task| (task.status.to_string(), task.rev.0))
        };
        assert_eq!(status(1), Some(("enqueued".into(), 1)), "{name}");
        assert_eq!(status(2), Some(("failed".into(), 2)), "{name}");
        assert_eq!(status(3), None, "{name}");
        assert_eq!(status(6), None, "{name}");
        assert_eq!(status(7), Some(("enqueued".into(), 7)), "{name}");
        let told = |position| {
            let at = store.at(Position(position)).unwrap();
            let steps = at.read(|log, view| Ok(history(log, view, &tasks::DEF, "a")?)).unwrap();
            steps.iter().map(|step| step.event.position.0).collect::<Vec<_>>()
        };
        assert_eq!((told(2), told(5)), (vec![1, 2], vec![1, 2, 3]), "{name}");
    }
}

#[test]
fn the_past_answers_sql_on_every_backend_and_takes_no_commands() {
    for (name, mut single) in backends() {
        play_day(&mut single, 400);
        let store = single.store();
        let commits = commits(store);
        let middle = commits[commits.len() / 2].last();
        let at = store.at(middle).unwrap();
        let live = {
            let mut live = None;
            Fold::each(&commits, |fold, position, now| {
                live = live.take().or((position == middle).then(|| fold.live(now)))
            });
            live.unwrap()
        };
        at.with_connection(|conn| {
            for table in TABLES {
                let count = format!("SELECT count(*) FROM {}", table.name);
                let rows: u32 = conn.query_row(&count, [], |row| row.get(0)).unwrap();
                let expected = live.keys().filter(|(live, _)| *live == table.name).count();
                assert_eq!(rows as usize, expected, "{name}: {}", table.name);
            }
            Ok(())
        })
        .unwrap();
        // What was folded into the file answers scans as well.
        assert_eq!(listed(&at), live, "{name}");
        let conn = at.open_connection().unwrap();
        let newest = conn.query_row("SELECT max(position) FROM events", [], |row| row.get::<_, i64>(0));
        match name {
            "sqlite" => assert_eq!(newest.unwrap(), middle.to_i64()),
            _ => assert!(newest.unwrap_err().to_string().contains("no such table: events")),
        }
        assert!(conn.execute("DELETE FROM tasks", []).is_err());
        let command = commands::Register { miroir_id: Some("x".into()), ..Default::default() };
        let refused = at.run_blocking(command, CommandOptions::default()).unwrap_err();
        assert_eq!(refused.kind(), "read_only", "{name}");
        assert_eq!(at.verify(|_| {}).unwrap_err().kind(), "invalid");
        // A past of the past.
        let earlier = at.at(Position(20)).unwrap();
        assert_eq!(listed(&earlier), listed(&store.at(Position(20)).unwrap()), "{name}");
        assert_eq!(at.at(middle.next()).map(drop).unwrap_err().kind(), "invalid");
    }
}

#[test]
fn the_present_may_go_on_while_somebody_looks_at_the_past() {
    for (name, mut single) in backends() {
        play_day(&mut single, 200);
        let at = single.store().at(When::Ago(0)).unwrap();
        let (head, rows) = (at.head().unwrap(), listed(&at));
        single.line(r#"{"command":"tasks.register","args":{"miroir_id":"later","node_tasks":{}}}"#);
        assert_eq!((at.head().unwrap(), listed(&at)), (head, rows), "{name}");
        assert!(found(&at, &("tasks", "later".into())).is_none());
        assert!(at.read(|log, _| Ok(log.read(head, 10)?)).unwrap().is_empty());
        assert_eq!(single.store().head().unwrap(), head.next());
        assert_eq!(table_of("tasks").name, "tasks");
    }
}

/// Folds the tables through a moment, and looks for rows by their keys, beginning with snapshots where there are some.
fn same_rows(past: &Past<'_>, live: &dyn View, fold: &Fold, position: Position, now: i64) -> Result<(), StoreError> {
    let moment = Moment::at_position(past.log, position).unwrap();
    let mut view = MemoryView::new(moment.at.log);
    assert!(past.tables(&PROJECTED, &moment, &mut view, u64::MAX)?);
    assert_eq!(view.checkpoint()?, moment.at);
    let mut rows = Rows::new();
    for table in TABLES {
        live_rows(table, &view, now, |held| {
            rows.insert((table.name, held.row.key()), row_text(table, &held.row, held.rev));
            Ok(())
        })?;
    }
    assert_eq!(rows, fold.live(now), "as of {position}");
    for key in fold.seen.iter().step_by(KEYS_EVERY) {
        let at = past.row(live, table_of(key.0), &key.1, position)?;
        let row = at.row.filter(|row| row.is_live(now));
        let text = row.map(|row| row_text(table_of(key.0), &row, at.rev));
        assert_eq!(text.as_ref(), rows.get(key), "{key:?} as of {position}");
    }
    // So many rows are more than asked for.
    let mut view = MemoryView::new(moment.at.log);
    assert!(!past.tables(&PROJECTED, &moment, &mut view, 3)?);
    Ok(())
}

#[test]
fn a_fold_that_begins_with_a_snapshot_gives_the_same_rows() {
    for (_, mut single) in backends() {
        play_day(&mut single, LINES);
        let store = single.store();
        let commits = commits(store);
        let head = commits.last().unwrap().last().0;
        let snapshots = Snapshots::new(Arc::new(MemoryBlobs::default()));
        store
            .read(|log, live| {
                for through in [head / 3, head / 3 * 2] {
                    snapshots.make(log, &MakeOptions { through: Some(Position(through)), ..MakeOptions::default() })?;
                }
                let past = Past { log, passed_over: &[], snapshots: Some(&snapshots) };
                let mut looked = 0;
                let mut failed = Ok(());
                Fold::each(&commits, |fold, position, now| {
                    if failed.is_err() || position.0 % EVERY != 0 || position.0 < head / 3 {
                        return;
                    }
                    looked += 1;
                    failed = same_rows(&past, live, fold, position, now);
                });
                failed?;
                assert!(looked > 5, "{looked}");
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn an_event_that_is_quarantined_today_is_passed_over_in_the_past() {
    for (name, mut single) in backends().into_iter().skip(1) {
        single.line(r#"{"command":"tasks.register","args":{"miroir_id":"a","node_tasks":{"n1":7}}}"#);
        single.line(
            r#"{"command":"tasks.report_node_statuses","args":{"miroir_id":"a","reports":[{"node_id":"n1","status":"processing"}]}}"#,
        );
        let store = single.store();
        store.quarantine(Position(2), "no such report", CommandOptions::default()).unwrap();
        let state = |position| {
            let at = store.at(Position(position)).unwrap();
            let by_key = found(&at, &("tasks", "a".into())).unwrap();
            assert_eq!(listed(&at).values().next(), Some(&by_key), "{name}");
            by_key.contains(r#"{"n1":"enqueued"}"#)
        };
        assert!(state(2), "{name}");
    }
}

#[test]
fn a_row_that_came_later_or_never_was_not_there_before() {
    const HOUR: i64 = 3_600_000;
    for (name, mut single) in backends() {
        let register =
            |id: &str| format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{}}}}}}"#);
        // given a task within a day of the first one, and another after more than a day
        single.now(HOUR);
        single.line(&register("first"));
        single.now(2 * HOUR);
        single.line(&register("soon"));
        single.now(50 * HOUR);
        single.line(&register("late"));
        // when each is asked for by its key, as of each event
        let store = single.store();
        let there = |position: u64| {
            let at = store.at(Position(position)).unwrap();
            let rev = |id: &&str| found(&at, &("tasks", (*id).to_string())).is_some();
            ["first", "soon", "late", "never"].iter().filter(|id| rev(id)).copied().collect::<Vec<_>>()
        };
        // then it is there from its own event on
        assert_eq!(there(1), ["first"], "{name}");
        assert_eq!(there(2), ["first", "soon"], "{name}");
        assert_eq!(there(3), ["first", "soon", "late"], "{name}");
    }
}

#[test]
fn a_task_that_was_pruned_and_forgotten_is_there_before() {
    const HOUR: i64 = 3_600_000;
    for (name, mut single) in backends() {
        // given a task that was pruned, and housekeeping more than a day later that forgot its tombstone
        single.now(HOUR);
        single.line(r#"{"command":"tasks.register","args":{"miroir_id":"a","node_tasks":{}}}"#);
        single.line(r#"{"command":"tasks.set_status","args":{"miroir_id":"a","status":"failed"}}"#);
        single.now(2 * HOUR);
        single.line(r#"{"command":"tasks.prune","args":{"cutoff_ms":3600001}}"#);
        for hours in [30, 31] {
            single.now(hours * HOUR);
            single.line(&format!(
                r#"{{"command":"tasks.register","args":{{"miroir_id":"other-{hours}","node_tasks":{{}}}}}}"#
            ));
        }
        // when it is asked for by its key, then it is there until it was pruned
        let store = single.store();
        let there = |position| found(&store.at(Position(position)).unwrap(), &("tasks", "a".into())).is_some();
        assert_eq!([1, 2, 3, 4, 5].map(there), [true, true, false, false, false], "{name}");
    }
}

/// A refused command that had written over a tombstone put it back with no instant, housekeeping forgot it at once, and the
/// row was said never to have been there.
#[test]
fn a_row_that_a_refused_command_would_have_made_again_is_still_there_before_its_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let url: tasklog::StoreUrl = format!("sqlite:{}", folder.path().join("tasklog.db").display()).parse().unwrap();
    let clock = ManualClock::at(1_000_000_000);
    let open = || {
        let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
        TaskStore::open_with(&url, options).unwrap()
    };
    let send = |store: &TaskStore, line: &str| store.send_blocking(wire::parse(line).unwrap().request);
    let register = r#"{"command":"tasks.register","args":{"miroir_id":"t","node_tasks":{}}}"#;
    let store = open();
    send(&store, register).unwrap();
    send(&store, r#"{"command":"tasks.set_status","args":{"miroir_id":"t","status":"succeeded"}}"#).unwrap();
    clock.advance(1_000);
    send(&store, r#"{"command":"tasks.prune","args":{"cutoff_ms":1000000500}}"#).unwrap();
    drop(store);
    // Opened again, it knows of the deletion what the file has.
    let store = open();
    let prune = r#"{"command":"tasks.prune","args":{"cutoff_ms":1}}"#;
    let absent = r#"{"command":"tasks.cancel","args":{"miroir_id":"absent"}}"#;
    send(&store, &format!(r#"{{"transact":[{register},{prune},{absent}]}}"#)).map(drop).unwrap_err();
    clock.advance(5_000);
    send(&store, r#"{"command":"tasks.register","args":{"miroir_id":"u","node_tasks":{}}}"#).unwrap();
    let then = store.at(Position(2)).unwrap();
    assert!(then.tasks().get(commands::Get { miroir_id: "t".into() }).unwrap().is_some());
}
