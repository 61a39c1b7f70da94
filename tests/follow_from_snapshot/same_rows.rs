//! A replica that began with a snapshot has the rows that it would have had anyway.

use std::time::Duration;

use tasklog::{
    OpenOptions, StoreUrl, TaskStore,
    command::CommandOptions,
    config::Config,
    follow::FollowOptions,
    log::{Clock, ManualClock, Position},
    tables::tasks,
};

use crate::{
    support::{
        program::{Store, run},
        registry::{PATIENCE, register},
        shared::Shared,
    },
    world::*,
};

#[test]
fn a_follower_from_a_snapshot_has_the_rows_of_a_full_one_and_of_its_source() {
    let (primary, full, begun) = (Store::new(), Store::new(), Store::new());
    run(primary.command(["apply", "examples/day.ndjson"]), b"");
    primary.apply(&[line("a1"), line("a2")]).with(0);
    let at = snapshot(&primary);
    primary.apply(&tail()).with(0);
    run(follow(&primary.url(), &full, &["--once"]), b"").with(0);
    begin(&primary.url(), &begun)
        .with(0)
        .prints(&["began with the snapshot of event ", "the log here begins at event "]);
    assert_begun(&primary.url(), &begun, at);
    assert_eq!(rows(&begun.url()), rows(&full.url()));
    let infos = [&begun, &full].map(|store| store.json(["info"]).remove(0));
    for name in ["log_id", "epoch", "head", "head_commit_id", "checkpoint", "recording_from"] {
        assert_eq!(infos[0][name], infos[1][name], "{name}");
    }
    // It goes on as any other does; the flag makes no difference any more.
    primary.apply(&[line("later"), cancel("a2"), cancel("later")]).with(0);
    let again = begin(&primary.url(), &begun).with(0);
    assert!(!again.out.contains("began with"), "{}", again.out);
    assert_begun(&primary.url(), &begun, at);
    // A replica of the replica begins with what that one keeps.
    let second = Store::new();
    begin(&begun.url(), &second).with(0);
    assert_begun(&begun.url(), &second, at);
    begun.apply(&[line("mine")]).with(3).says(&["is a replica of"]);
}

#[test]
fn a_source_in_redis_is_begun_with_its_snapshot_as_well() {
    let place = Shared::new();
    let store = place.open();
    for id in 0..120 {
        register(&store, id).unwrap();
    }
    let at = store.snapshot(|_| ()).unwrap().position;
    for id in 120..140 {
        register(&store, id).unwrap();
    }
    let cancelled = tasks::Cancel { miroir_id: "3".into(), error: None };
    store.run_blocking(cancelled, CommandOptions::default()).unwrap();
    let (begun, full) = (Store::new(), Store::new());
    begin(&place.url(), &begun).with(0).prints(&["began with the snapshot of event 120 "]);
    run(follow(&place.url(), &full, &["--once"]), b"").with(0);
    assert_begun(&place.url(), &begun, at.0);
    assert_eq!(rows(&begun.url()), rows(&full.url()));
}

#[test]
fn replicas_in_memory_begin_with_a_snapshot_of_a_file_and_of_a_store_in_memory() {
    let file = source(200);
    let options = || OpenOptions { snapshot_every: 0, ..OpenOptions::default() };
    let in_file = TaskStore::open_with(&file.url().parse().unwrap(), options()).unwrap();
    let in_memory = TaskStore::open_with(&StoreUrl::Memory, options()).unwrap();
    for id in 0..200 {
        register(&in_memory, format!("a{id}")).unwrap();
    }
    for source in [in_file, in_memory] {
        let at = source.snapshot(|_| ()).unwrap().position;
        let options = FollowOptions { from_snapshot: true, ..FollowOptions::default() };
        let follower = source.follow(&StoreUrl::Memory, options).unwrap();
        let mut head = at;
        for id in 0..30 {
            head = register(&source, format!("b{id}")).unwrap();
            follower.wait_for(head, PATIENCE).unwrap();
            let cancelled = tasks::Cancel { miroir_id: format!("a{}", id + 1), error: None };
            head = source.run_blocking(cancelled, CommandOptions::default()).unwrap().position.max(head);
        }
        follower.wait_for(head, PATIENCE).unwrap();
        let replica = follower.store();
        assert_eq!(all_rows(replica), all_rows(&source));
        assert_eq!(commits(replica, Position::ZERO), commits(&source, at));
        assert_eq!(replica.beginning().unwrap().unwrap().position, at);
        let report = replica.verify(|_| {}).unwrap();
        assert_eq!((report.found, report.began), (0, at));
        let error = replica.at(at).map(drop).unwrap_err().to_string();
        assert!(error.contains(&format!("the log here begins at event {}", at.next())), "{error}");
        assert_eq!(all_rows(&replica.at(head).unwrap()), all_rows(replica));
    }
}

#[test]
fn a_row_whose_tombstone_the_snapshot_has_forgotten_is_created_again() {
    let file = Store::new();
    let clock = ManualClock::at(1_700_000_000_000);
    let day = Duration::from_secs(86_400);
    let config = Config { tombstone_retention: day * 30, ..Config::default() };
    let options =
        OpenOptions { config, clock: std::sync::Arc::new(clock.clone()), snapshot_every: 0, ..OpenOptions::default() };
    let store = TaskStore::open_with(&file.url().parse().unwrap(), options).unwrap();
    let gone = || tasks::Register { miroir_id: Some("gone".into()), ..tasks::Register::default() };
    store.run_blocking(gone(), CommandOptions::default()).unwrap();
    register(&store, "stays").unwrap();
    store.run_blocking(tasks::Cancel { miroir_id: "gone".into(), error: None }, CommandOptions::default()).unwrap();
    clock.advance(86_400_000);
    let prune = tasks::Prune { cutoff_ms: Some(clock.now()), ..tasks::Prune::default() };
    assert_eq!(store.run_blocking(prune, CommandOptions::default()).unwrap().answer.pruned, 1);
    clock.advance(3 * 86_400_000);
    register(&store, "between").unwrap();
    let made = store.snapshot(|_| ()).unwrap().position;
    assert_eq!(store.read(|_, view| Ok(view.tombstone(tasks_table(), "gone")?)).unwrap(), Some(Position(5)));
    let follower = |into: &StoreUrl| {
        let options = FollowOptions { from_snapshot: true, ..FollowOptions::default() };
        store.follow(into, options).unwrap()
    };
    let replica = Store::new();
    let followers = [follower(&StoreUrl::Memory), follower(&replica.url().parse().unwrap())];
    for follower in &followers {
        follower.wait_for(made, PATIENCE).unwrap();
    }
    let head = store.run_blocking(gone(), CommandOptions::default()).unwrap().position;
    let linked = store.read(|log, _| Ok(log.event(head)?)).unwrap().unwrap().0.events[0].prev;
    assert_eq!(linked, Some(Position(5)), "the writer still knew the tombstone");
    for follower in followers {
        follower.wait_for(head, PATIENCE).unwrap();
        assert_eq!(all_rows(follower.store()), all_rows(&store));
        assert_eq!(follower.store().verify(|_| {}).unwrap().found, 0);
    }
}

fn tasks_table() -> &'static tasklog::projections::TableDef {
    tasklog::projections::table("tasks").unwrap()
}
