use std::collections::BTreeMap;

use tasklog::{
    log::Position,
    projections::{TABLES, tables},
    replay::{Counts, Fate, Past, Steps, blame, changes, history},
    store::Scope,
};

use crate::{
    support::script::{Single, Subject},
    world::{Fold, Rows, backends, commits, play_day, table_of},
};

/// What is told of a row: what became of it, and the newest events responsible.
type Told = BTreeMap<(&'static str, String), (&'static str, Vec<u64>)>;

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Added => "added",
        Fate::Removed => "removed",
        Fate::Died => "died",
        Fate::Changed => "changed",
    }
}

fn told(single: &Single, from: u64, to: u64, scope: Scope<'_>) -> (Told, Counts) {
    let mut told = Told::new();
    let mut meet = |row: tasklog::replay::RowDiff| {
        let causes = row.causes.iter().map(|cause| cause.position.0).collect();
        assert!(told.insert((row.table.name, row.key), (word(row.fate), causes)).is_none());
        Ok(())
    };
    let differed = single.store().diff(Position(from), Position(to), scope, &mut meet).unwrap();
    (told, differed.counts)
}

/// A row without its rev: an event may leave a row as it was.
fn fields(text: &str) -> &str {
    text.rsplit_once(" rev=").unwrap().0
}

#[test]
fn a_difference_is_what_two_independent_folds_differ_in_with_the_events_between() {
    for (name, mut single) in backends() {
        play_day(&mut single, 600);
        let commits = commits(single.store());
        let head = commits.last().unwrap().last().0;
        let mut states: BTreeMap<u64, (Rows, Rows)> = BTreeMap::new();
        states.insert(0, (Rows::new(), Rows::new()));
        Fold::each(&commits, |fold, position, now| {
            states.insert(position.0, (fold.live(now), fold.live(i64::MIN)));
        });
        let pairs =
            [(0, head), (0, 1), (head, head), (head / 2, head), (100, 101), (57, 311), (head / 3, head / 3 * 2)];
        for (from, to) in pairs {
            let ((before, _), (after, after_dead_or_alive)) = (&states[&from], &states[&to]);
            let mut expected = Told::new();
            for key in before.keys().chain(after.keys()) {
                let fate = match (before.get(key), after.get(key)) {
                    (None, _) => "added",
                    (Some(_), None) if after_dead_or_alive.contains_key(key) => "died",
                    (Some(_), None) => "removed",
                    (Some(before), Some(after)) if fields(before) == fields(after) => continue,
                    _ => "changed",
                };
                let events = commits.iter().flat_map(|commit| &commit.events).filter(|event| {
                    (from + 1..=to).contains(&event.position.0) && *event.table == *key.0 && *event.key == *key.1
                });
                let mut events: Vec<_> = events.map(|event| event.position.0).collect();
                events.drain(..events.len().saturating_sub(16));
                expected.insert(key.clone(), (fate, events));
            }
            let (told_rows, counts) = told(&single, from, to, Scope::Tables(&TABLES));
            assert_eq!(told_rows, expected, "{name}: from {from} to {to}");
            assert_eq!(counts.events, to - from);
            assert_eq!(counts.added + counts.removed + counts.died + counts.changed, expected.len() as u64);
            for (key, row) in expected.iter().step_by(13) {
                let one = told(&single, from, to, Scope::Row(table_of(key.0), &key.1)).0;
                assert_eq!(one.get(key), Some(row), "{name}: {key:?} from {from} to {to}");
            }
        }
    }
}

#[test]
fn a_session_that_died_by_time_is_said_to_have_died_and_one_that_came_and_went_is_no_difference() {
    for (name, mut single) in backends() {
        let write = |session: &str| {
            format!(r#"{{"command":"sessions.record_write","args":{{"session_id":"{session}","mtask_id":"t"}}}}"#)
        };
        single.now(1_000);
        single.line(&write("early"));
        single.line(&write("again"));
        single.now(2_000);
        single.line(&write("passing"));
        single.now(100_000_000);
        single.line(&write("again"));
        let (told, counts) = told(&single, 2, 4, Scope::Tables(&[&tables::sessions::DEF]));
        let key = |session: &str| ("sessions", session.to_owned());
        assert_eq!(told[&key("early")], ("died", vec![]), "{name}");
        assert_eq!(told[&key("again")], ("changed", vec![4]), "{name}");
        assert_eq!(told.len(), 2, "{name}: {told:?}");
        assert_eq!((counts.died, counts.changed, counts.unchanged), (1, 1, 1), "{name}");
    }
}

#[test]
fn every_field_is_blamed_on_the_event_that_last_set_it() {
    for (name, mut single) in backends() {
        play_day(&mut single, 500);
        let store = single.store();
        let mut fields = 0;
        for (key, _) in crate::world::listed(store).iter().step_by(5) {
            let table = table_of(key.0);
            let steps = store.read(|log, view| Ok(history(log, view, table, &key.1)?)).unwrap();
            let row = steps.last().unwrap().after.clone();
            for field in blame(table, &steps) {
                fields += 1;
                let at = table.column(field.column).unwrap();
                let value = |position: u64| {
                    let at_then = store.at(Position(position)).unwrap();
                    let held = at_then.read(|_, view| Ok(view.get(table, &key.1)?)).unwrap();
                    held.map(|held| held.row.cells()[at].clone().into_owned())
                };
                let position = field.step.event.position.0;
                let now = row.as_ref().map(|row| row.cells()[at].clone().into_owned());
                assert_eq!(value(position), now, "{name}: {key:?} {}", field.column);
                if position > 1 && field.step.before.is_some() {
                    assert_ne!(value(position - 1), now, "{name}: {key:?} {}", field.column);
                }
            }
        }
        assert!(fields > 50, "{fields}");
    }
}

#[test]
fn stepping_in_any_order_shows_the_same_rows() {
    for (name, mut single) in backends() {
        play_day(&mut single, 400);
        let store = single.store();
        let commits = commits(store);
        let mut expected = Vec::new();
        Fold::each(&commits, |fold, position, _| {
            let event =
                commits.iter().flat_map(|commit| &commit.events).find(|event| event.position == position).unwrap();
            let key = (table_of(&event.table).name, event.key.to_string());
            expected.push(fold.rows.get(&key).map(|(row, _)| row.clone()));
        });
        let passed_over = store.passed_over().unwrap();
        store
            .read(|log, _| {
                let mut steps = Steps::new(Past { log, passed_over: &passed_over, snapshots: None });
                let places = commits.iter().flat_map(|commit| (0..commit.events.len()).map(move |at| (commit, at)));
                let mut places: Vec<_> = places.collect();
                for _ in 0..2 {
                    for (commit, at) in &places {
                        let event = &commit.events[*at];
                        let table = table_of(&event.table);
                        let step = steps.step(table, commit, *at)?;
                        let row = &expected[event.position.0 as usize - 1];
                        let same = changes(table, step.after.as_ref(), row.as_ref());
                        assert!(same.is_empty() && step.after.is_some() == row.is_some(), "{name}: {}", event.position);
                    }
                    places.reverse();
                    steps = Steps::new(Past { log, passed_over: &passed_over, snapshots: None });
                }
                Ok(())
            })
            .unwrap();
    }
}
