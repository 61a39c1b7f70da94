use tasklog::{
    Error, StoreUrl, TaskStore,
    fork::{Skip, fork},
    log::Position,
    projections::{Scan, TABLES, tables},
    store::When,
};

use crate::{
    support::{
        program::names,
        script::{Single, Subject},
    },
    world::{backends, commits, listed, play_day},
};

fn url(folder: &tempfile::TempDir, name: &str) -> StoreUrl {
    StoreUrl::Sqlite(folder.path().join(name))
}

fn forked(single: &Single, at: Option<When>, skip: &str, into: &StoreUrl) -> Result<TaskStore, Error> {
    let skip = if skip.is_empty() { Skip::default() } else { skip.parse().unwrap() };
    fork(single.store(), at, &skip, into, &false.into(), &mut |_| {})?;
    let fork = TaskStore::open_with(into, tasklog::OpenOptions::default())?;
    let report = fork.verify(|_| {})?;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    Ok(fork)
}

#[test]
fn a_fork_with_nothing_left_out_has_the_same_commits_under_a_new_log_id_and_takes_commands() {
    for (name, mut single) in backends() {
        play_day(&mut single, 300);
        let folder = tempfile::tempdir().unwrap();
        let commits = commits(single.store());
        let middle = &commits[commits.len() / 2];
        let fork = forked(&single, Some(When::Position(middle.last())), "", &url(&folder, "fork.db")).unwrap();
        assert_eq!(crate::world::commits(&fork), commits[..=commits.len() / 2], "{name}");
        assert_eq!(listed(&fork.at(middle.last()).unwrap()), listed(&single.store().at(middle.last()).unwrap()));
        let id = |store: &TaskStore| store.epoch().unwrap().head.log.id;
        assert_ne!(id(&fork), id(single.store()));
        let command = tasklog::tables::tasks::Register { miroir_id: Some("what-if".into()), ..Default::default() };
        let reply = fork.run_blocking(command, Default::default()).unwrap();
        assert_eq!(reply.position, middle.last().next());
        drop(fork);
        assert_eq!(names(folder.path()), ["fork.db", "fork.db-lock"], "{name}");
    }
}

#[test]
fn a_fork_inside_a_commit_ends_with_the_event_that_was_named() {
    for (name, mut single) in backends() {
        play_day(&mut single, 200);
        let folder = tempfile::tempdir().unwrap();
        let commits = commits(single.store());
        let commit = commits.iter().find(|commit| commit.events.len() > 2).unwrap();
        let inside = commit.first().next();
        let fork = forked(&single, Some(When::Position(inside)), "", &url(&folder, "fork.db")).unwrap();
        assert_eq!(fork.head().unwrap(), inside, "{name}");
        assert_eq!(crate::world::commits(&fork).last().unwrap().meta, commit.meta);
    }
}

/// Two jobs: `a` is enqueued, claimed, saved and completed; `b` enqueued and claimed. Between them a lease that is renewed.
fn jobs(single: &mut Single) {
    for line in [
        r#"{"command":"jobs.enqueue","args":{"id":"b","type":"reindex","params":{}}}"#,
        r#"{"command":"jobs.enqueue","args":{"id":"a","type":"dump_import","params":{}}}"#,
        r#"{"command":"leader_lease.acquire","args":{"scope":"ilm","holder":"pod","ttl_ms":60000}}"#,
        r#"{"command":"jobs.claim_next","args":{"pod":"pod","types":["dump_import"]}}"#,
        r#"{"command":"jobs.save_progress","args":{"id":"a","token":4,"progress":{"done":1}}}"#,
        r#"{"command":"leader_lease.renew","args":{"scope":"ilm","holder":"pod","term":3,"ttl_ms":90000}}"#,
        r#"{"command":"jobs.complete","args":{"id":"a","token":4,"progress":{"done":2}}}"#,
    ] {
        let said = single.line(line);
        assert!(said.starts_with("ok"), "{line}: {said}");
    }
}

#[test]
fn claim_tokens_and_lease_terms_follow_the_events_that_they_name() {
    for (name, mut single) in backends() {
        jobs(&mut single);
        let folder = tempfile::tempdir().unwrap();
        let fork = forked(&single, None, "1", &url(&folder, "fork.db")).unwrap();
        let row = |table: &'static tasklog::projections::TableDef, key: &str, column: &str| {
            let held = fork.read_tables(|read| read.get_any(table, key)).unwrap().unwrap();
            format!("{:?}", held.row.cells()[table.column(column).unwrap()])
        };
        assert_eq!(row(&tables::jobs::DEF, "a", "claim_token"), "Integer(3)", "{name}");
        assert_eq!(row(&tables::jobs::DEF, "a", "enqueued_at_position"), "Integer(1)", "{name}");
        assert_eq!(row(&tables::jobs::DEF, "a", "state"), "Text(\"completed\")", "{name}");
        assert_eq!(row(&tables::leader_lease::DEF, "ilm", "term"), "Integer(2)", "{name}");
        // In the middle of a chain: the next event links to the one before.
        let fork = forked(&single, None, "5", &url(&folder, "second.db")).unwrap();
        let events: Vec<_> = commits(&fork).into_iter().flat_map(|commit| commit.events).collect();
        let links: Vec<_> = events.iter().map(|event| event.prev.map(|prev| prev.0)).collect();
        assert_eq!(links, [None, None, None, Some(2), Some(3), Some(4)], "{name}");
    }
}

#[test]
fn an_event_that_needs_one_that_is_left_out_says_so_and_nothing_is_left_behind() {
    for (name, mut single) in backends() {
        jobs(&mut single);
        let folder = tempfile::tempdir().unwrap();
        for (skip, why) in [
            (
                "2",
                "event 4, job_claimed of jobs/a, needs event 2, which is left out: job_claimed on a row that does not exist",
            ),
            ("4", "event 5, job_progress_saved of jobs/a, needs event 4, which is left out"),
            ("3", "event 6, lease_renewed of leader_lease/ilm, needs event 3, which is left out"),
            ("4-5", "event 7, job_completed of jobs/a, needs events 4, 5, which are left out"),
            ("9", "--skip 9: the fork ends at event 7"),
        ] {
            match forked(&single, None, skip, &url(&folder, "fork.db")).map(drop) {
                Err(Error::Rejected(rejection)) => assert!(rejection.message.contains(why), "{name}: {rejection}"),
                other => panic!("{name}: {skip}: {other:?}"),
            }
            assert_eq!(names(folder.path()), [""; 0], "{name}: {skip}");
        }
        // All of the job: then it never was.
        let fork = forked(&single, None, "2,4-5,7", &url(&folder, "fork.db")).unwrap();
        assert_eq!((fork.head().unwrap(), fork.counts().unwrap()[5]), (Position(3), ("jobs", 1)), "{name}");
        let taken = forked(&single, None, "", &url(&folder, "fork.db")).map(drop).unwrap_err();
        assert!(taken.to_string().contains("there is a file already"), "{name}: {taken}");
        let memory = forked(&single, None, "", &StoreUrl::Memory).map(drop).unwrap_err();
        assert!(memory.to_string().contains("sqlite:PATH"), "{name}: {memory}");
    }
}

#[test]
fn every_event_of_a_day_that_nothing_needs_can_be_left_out() {
    let mut single = Single::sqlite();
    play_day(&mut single, 250);
    let folder = tempfile::tempdir().unwrap();
    let head = single.store().head().unwrap().0;
    let (mut made, mut refused) = (0, 0);
    for skip in (1..=head).step_by(9) {
        match forked(&single, None, &skip.to_string(), &url(&folder, &format!("{skip}.db"))) {
            Ok(fork) => {
                made += 1;
                assert_eq!(fork.head().unwrap().0, head - 1);
                let rows = |store: &TaskStore| {
                    let count = |table| store.read_tables(|read| read.count_any(table, &Scan::all("pk"))).unwrap();
                    TABLES.map(count).iter().sum::<u64>()
                };
                assert!(rows(&fork).abs_diff(rows(single.store())) <= 1, "{skip}");
            }
            Err(Error::Rejected(rejection)) => {
                refused += 1;
                assert!(rejection.message.contains(&format!("needs event {skip}, which is left out")), "{rejection}");
            }
            Err(error) => panic!("{skip}: {error}"),
        }
    }
    assert!(made > 5 && refused > 5, "{made} made, {refused} refused");
}
