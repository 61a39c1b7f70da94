//! What every view promises, on every backend: each bullet of the contract of [`tasklog_projections::View`] is at least
//! one case, and every scan is held against a plain sort and filter of the same rows.
//!
//! A backend joins with a `Handle` and one line in `backends!`. A case joins with its name in `each_case!`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, mpsc::channel},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tasklog_log::{
    Checkpoint, CommitId, LogInfo, Position, StoreErrorKind,
    redis::{Connector, Keys, Link, birth},
    sqlite::{Head, SqliteLog, connection, write_head},
};
use tasklog_projections::{
    AnyRow, Cell, Cells, Held, KEY_BYTES_MAX, Kind, PAGE_ROWS_MAX, RowChange, Scan, TABLES, TableDef, Tombstones, View,
    memory::MemoryView,
    overlay::Overlay,
    pair,
    redis::{Expiry, RedisView},
    sqlite::{SqliteView, create_tables},
    tables::{aliases, canary_runs, idempotency_cache, jobs, leader_lease, node_settings_version, tasks, tenant_map},
};
use tasklog_testing::RedisServer;

/// A handle on tables that others share.
trait Handle: Send + Sized + 'static {
    /// Empty tables at the start of `log`, and a first handle on them.
    fn empty(log: LogInfo) -> Self;
    /// Another handle on the same tables.
    fn another(&self) -> Self;
    /// Calls on this handle, one transaction for all of them.
    fn together<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T;
    /// Calls on this handle, outside any transaction.
    fn with<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T;
}

struct Memory(MemoryView);

impl Handle for Memory {
    fn empty(log: LogInfo) -> Self {
        Self(MemoryView::new(log))
    }
    fn another(&self) -> Self {
        Self(self.0.clone())
    }
    fn together<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T {
        let result = work(&mut self.0);
        self.0.commit();
        result
    }
    fn with<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T {
        self.together(work)
    }
}

struct Sqlite {
    conn: rusqlite::Connection,
    folder: Arc<tempfile::TempDir>,
}

impl Sqlite {
    fn open(folder: Arc<tempfile::TempDir>) -> Self {
        let conn = connection::open(&folder.path().join("view.db"), connection::Access::Write).unwrap();
        // Nothing here is about power loss.
        conn.pragma_update(None, "synchronous", 0).unwrap();
        Self { conn, folder }
    }
}

impl Handle for Sqlite {
    fn empty(log: LogInfo) -> Self {
        let sqlite = Self::open(Arc::new(tempfile::tempdir().unwrap()));
        SqliteLog::create(&sqlite.conn).unwrap();
        create_tables(&sqlite.conn, 1).unwrap();
        create_tables(&sqlite.conn, 2).unwrap();
        write_head(&sqlite.conn, Head::Tables, &Checkpoint::start(log)).unwrap();
        sqlite
    }
    fn another(&self) -> Self {
        Self::open(Arc::clone(&self.folder))
    }
    fn together<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T {
        let transaction = connection::begin(&self.conn).unwrap();
        let result = work(&mut SqliteView::live(&self.conn));
        transaction.commit().unwrap();
        result
    }
    fn with<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T {
        work(&mut SqliteView::live(&self.conn))
    }
}

/// [`RedisView`] under a prefix of its own; what is written together is collected above it.
struct Redis {
    view: Overlay<RedisView>,
    server: Arc<RedisServer>,
    prefix: String,
}

impl Redis {
    fn on(server: Arc<RedisServer>, prefix: String) -> Self {
        let url = format!("{}?prefix={prefix}", server.url()).parse().unwrap();
        let link = Arc::new(Link::new(Connector::new(url)));
        Self { view: Overlay::new(RedisView::new(link, &prefix, Expiry::BySweep)), server, prefix }
    }
}

impl Handle for Redis {
    fn empty(log: LogInfo) -> Self {
        let redis = Self::on(RedisServer::shared(), log.id.to_string());
        let keys = Keys::new(&redis.prefix);
        let born = redis.view.peek_below().link().call(|conn| {
            birth(conn, &keys, "given", 0)?;
            ::redis::cmd("HSET").arg(keys.identity()).arg("id").arg(log.id.to_string()).exec(conn)
        });
        born.unwrap();
        redis
    }
    fn another(&self) -> Self {
        Self::on(Arc::clone(&self.server), self.prefix.clone())
    }
    fn together<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T {
        let result = work(&mut self.view);
        let (changes, step) = self.view.take();
        self.view.below().flush(&changes, step).unwrap();
        result
    }
    fn with<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T {
        work(self.view.below())
    }
}

/// What is written together is collected above a view in memory.
struct Overlaid(Overlay<MemoryView>);

impl Handle for Overlaid {
    fn empty(log: LogInfo) -> Self {
        Self(Overlay::new(MemoryView::new(log)))
    }
    fn another(&self) -> Self {
        Self(Overlay::new(self.0.peek_below().clone()))
    }
    fn together<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T {
        let result = work(&mut self.0);
        let (changes, step) = self.0.take();
        match step {
            Some((from, to)) => self.0.below().apply(&changes, &from, &to).unwrap(),
            None => self.0.below().write(&changes).unwrap(),
        }
        self.0.below().commit();
        result
    }
    fn with<T>(&mut self, work: impl FnOnce(&mut dyn View) -> T) -> T {
        let result = work(self.0.below());
        self.0.below().commit();
        result
    }
}

/// Calls `$run!` with the name of every case.
macro_rules! each_case {
    ($run:ident) => {
        $run! {
            an_empty_view_stands_at_the_start_of_its_log
            a_row_is_found_by_its_key_with_its_rev
            a_text_that_is_no_key_of_the_table_finds_no_row
            a_change_replaces_the_row_and_its_place_in_every_index
            a_deleted_row_leaves_a_tombstone_with_its_rev
            a_recreated_row_has_no_tombstone
            a_creation_that_is_taken_back_leaves_nothing
            odd_keys_are_kept_apart_and_come_back_unchanged
            a_key_of_512_bytes_is_a_key_like_any_other
            blob_keys_are_found_and_ordered_byte_by_byte
            two_part_keys_with_integers_are_ordered_as_numbers
            the_largest_u64_survives_inside_json
            null_is_in_no_range
            equal_values_fix_the_first_columns
            a_bound_on_fewer_columns_takes_or_leaves_whole_groups
            descending_is_ascending_backwards
            after_goes_on_in_the_direction_of_the_walk
            paging_meets_every_row_once_in_order
            a_page_has_at_most_a_thousand_rows
            a_limit_of_zero_answers_nothing
            count_is_not_bounded_by_a_page
            a_multi_index_leads_from_every_value_to_its_rows
            dead_rows_are_answered_like_living_ones
            an_undeclared_index_is_an_error
            apply_moves_the_checkpoint_with_the_rows
            apply_from_a_stale_checkpoint_is_diverged_and_changes_nothing
            a_batch_that_is_delivered_again_is_refused
            apply_from_another_log_is_diverged
            write_leaves_the_checkpoint_and_is_met_by_later_scans_of_its_transaction
            another_handle_never_sees_an_unfinished_batch
            sweep_removes_only_rows_that_are_dead_at_the_instant
            sweep_is_bounded_and_goes_on
            sweep_forgets_old_short_tombstones_and_no_kept_ones
            scans_answer_what_a_sort_and_a_filter_of_the_rows_answer
        }
    };
}

macro_rules! tests {
    ($($case:ident)*) => {
        $(#[test]
        fn $case() {
            crate::$case::<Backend>();
        })*
    };
}

macro_rules! backends {
    ($($backend:ident => $handle:ty;)*) => {
        mod conformance {
            $(mod $backend {
                type Backend = $handle;
                each_case! { tests }
            })*
        }
    };
}

backends! {
    memory => crate::Memory;
    sqlite => crate::Sqlite;
    redis => crate::Redis;
    overlay => crate::Overlaid;
}

// ---- rows and a plain model of the tables

fn log() -> LogInfo {
    LogInfo { id: CommitId::mint().0, epoch: 1 }
}

struct Values<'a>(&'a [Cell<'static>]);

impl Cells for Values<'_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>, String> {
        self.0.cell(index)
    }
}

/// A row by its columns; those not named are NULL, 0, or an empty value of their kind.
fn row(table: &'static TableDef, named: &[(&str, Cell<'static>)]) -> AnyRow {
    let cells: Vec<_> = table
        .columns
        .iter()
        .map(|column| match named.iter().find(|(name, _)| *name == column.name) {
            Some((_, cell)) => cell.clone(),
            None if column.nullable => Cell::Null,
            None => plain(table, column.name, column.kind, 0),
        })
        .collect();
    (table.load)(&Values(&cells)).unwrap()
}

fn text(text: &str) -> Cell<'static> {
    Cell::Text(text.to_owned().into())
}

/// One of a few values that a column can hold.
fn plain(table: &TableDef, column: &str, kind: Kind, pick: u8) -> Cell<'static> {
    let of = |values: &[&str]| text(values[usize::from(pick) % values.len()]);
    match (table.name, column, kind) {
        ("tasks", "status", _) => of(&["enqueued", "processing", "succeeded", "failed", "canceled"]),
        ("tasks", "node_tasks", _) => of(&["{}", r#"{"n":18446744073709551615}"#, r#"{"a":0,"b":9007199254740993}"#]),
        ("tasks", "node_states", _) => of(&["{}", r#"{"n":"failed"}"#]),
        ("tasks", "node_errors", _) => of(&["{}", r#"{"n":"why"}"#]),
        ("jobs", "state", _) => of(&["queued", "in_progress", "completed", "failed"]),
        ("aliases", "kind", _) => of(&["single", "multi"]),
        ("aliases", "target_uids", _) => of(&[r#"["a","b"]"#, r#"["b"]"#, r#"["é","a"]"#]),
        ("aliases", "history", _) => of(&["[]"]),
        ("canary_runs", "status", _) => of(&["pass", "fail", "error"]),
        (_, _, Kind::Integer) => Cell::Integer([0, 1, 2, 3, -1, i64::MAX, i64::MIN, 10][usize::from(pick % 8)]),
        (_, _, Kind::Bool) => Cell::Integer(i64::from(pick % 2)),
        (_, _, Kind::Text) => of(&["a", "b", "ab", "é", "e\u{301}", "/", "%", "😀"]),
        (_, _, Kind::Json) => of(&["{}", r#"{"a":1}"#, "[]"]),
        (_, _, Kind::Hash) => Cell::Blob(vec![[0, 1, 0x7f, 0x80, 0xff][usize::from(pick % 5)]; 32].into()),
    }
}

/// The tables as sorted maps, and the changes that bring a view along.
struct Model {
    at: Checkpoint,
    rows: BTreeMap<(&'static str, String), Held>,
    tombstones: BTreeMap<(&'static str, String), Position>,
}

impl Model {
    fn new(log: LogInfo) -> Self {
        Self { at: Checkpoint::start(log), rows: BTreeMap::new(), tombstones: BTreeMap::new() }
    }

    fn next(&self) -> Checkpoint {
        let position = self.at.position.next();
        Checkpoint { position, commit: CommitId::mint(), recorded_at: position.0 as i64, ..self.at }
    }

    /// The change that makes `key` into `after`, at the position after the model's.
    fn change(&self, table: &'static TableDef, key: &str, after: Option<AnyRow>) -> RowChange {
        let entity = (table.name, key.to_owned());
        let next = self.next();
        RowChange {
            table,
            key: key.into(),
            before: self.rows.get(&entity).map(|held| held.row.clone()),
            buried: self.tombstones.contains_key(&entity),
            after,
            rev: next.position,
            at: next.recorded_at,
        }
    }

    fn note(&mut self, change: &RowChange) {
        let entity = (change.table.name, change.key.to_string());
        match &change.after {
            Some(row) => {
                self.tombstones.remove(&entity);
                self.rows.insert(entity, Held { row: row.clone(), rev: change.rev });
            }
            None => {
                self.rows.remove(&entity);
                self.tombstones.insert(entity, change.rev);
            }
        }
    }

    /// Brings model and view to the same next state.
    fn apply(&mut self, view: &mut dyn View, changes: &[RowChange]) {
        let to = self.next();
        view.apply(changes, &self.at, &to).unwrap();
        changes.iter().for_each(|change| self.note(change));
        self.at = to;
    }

    fn put(&mut self, view: &mut dyn View, table: &'static TableDef, row: AnyRow) {
        let change = self.change(table, &row.key(), Some(row.clone()));
        self.apply(view, &[change]);
    }

    fn delete(&mut self, view: &mut dyn View, table: &'static TableDef, key: &str) {
        let change = self.change(table, key, None);
        self.apply(view, &[change]);
    }

    /// What a scan must answer: the rows of the table, filtered and sorted.
    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Vec<String> {
        let of_table = self.rows.iter().filter(|((name, _), _)| *name == table.name).map(|(_, held)| held);
        if let Some(multi) = table.multi_indexes.iter().find(|multi| multi.name == scan.index) {
            let Cell::Text(value) = &scan.equal[0] else { panic!("multi-indexes hold texts") };
            let found = of_table.filter(|held| (multi.values)(&*held.row).iter().any(|held| held == value));
            return found.map(|held| held.row.key()).collect();
        }
        let own = table.indexes.iter().find(|index| index.name == scan.index).map_or(&[][..], |index| index.columns);
        let keys = table.columns.iter().filter(|column| column.key).map(|column| column.name);
        let mut order: Vec<&str> = own.to_vec();
        order.extend(keys.filter(|key| !own.contains(key)));
        let order: Vec<usize> = order.iter().map(|name| table.column(name).unwrap()).collect();
        let mut found: Vec<(Vec<Cell<'static>>, String)> = of_table
            .map(|held| {
                let cells = held.row.cells();
                (order.iter().map(|at| cells[*at].clone().into_owned()).collect(), held.row.key())
            })
            .collect();
        found.retain(|(cells, _)| {
            let (equal, rest) = cells.split_at(scan.equal.len());
            let is = |a: &[Cell<'_>], b: &[Cell<'_>]| a == b && !b.contains(&Cell::Null);
            let beyond = |bound: &[Cell<'_>]| {
                let cut = &rest[..bound.len()];
                (!cut.contains(&Cell::Null) && !bound.contains(&Cell::Null)).then(|| cut.cmp(bound))
            };
            is(equal, &scan.equal)
                && match &scan.from {
                    Bound::Unbounded => true,
                    Bound::Included(from) => beyond(from).is_some_and(|at| at.is_ge()),
                    Bound::Excluded(from) => beyond(from).is_some_and(|at| at.is_gt()),
                }
                && match &scan.to {
                    Bound::Unbounded => true,
                    Bound::Included(to) => beyond(to).is_some_and(|at| at.is_le()),
                    Bound::Excluded(to) => beyond(to).is_some_and(|at| at.is_lt()),
                }
        });
        found.sort();
        if scan.descending {
            found.reverse();
        }
        found.into_iter().map(|(_, key)| key).collect()
    }
}

fn keys(found: &[Held]) -> Vec<String> {
    found.iter().map(|held| held.row.key()).collect()
}

fn alias(name: &str, targets: &str) -> AnyRow {
    row(&aliases::DEF, &[("name", text(name)), ("kind", text("multi")), ("target_uids", text(targets))])
}

fn job(id: &str, state: &str, position: i64, claim: Option<i64>) -> AnyRow {
    row(
        &jobs::DEF,
        &[
            ("id", text(id)),
            ("type", text("t")),
            ("state", text(state)),
            ("enqueued_at_position", Cell::Integer(position)),
            ("claim_expires_at", claim.map_or(Cell::Null, Cell::Integer)),
        ],
    )
}

fn task(id: &str, status: &str, created_at: i64) -> AnyRow {
    row(&tasks::DEF, &[("miroir_id", text(id)), ("status", text(status)), ("created_at", Cell::Integer(created_at))])
}

fn key_record(key: &str, expires_at: i64) -> AnyRow {
    row(&idempotency_cache::DEF, &[("key", text(key)), ("expires_at", Cell::Integer(expires_at))])
}

/// A handle and its model.
fn fresh<H: Handle>() -> (H, Model) {
    let log = log();
    (H::empty(log), Model::new(log))
}

// ---- the cases

fn an_empty_view_stands_at_the_start_of_its_log<H: Handle>() {
    let log = log();
    let mut handle = H::empty(log);
    handle.with(|view| {
        assert_eq!(view.checkpoint().unwrap(), Checkpoint::start(log));
        for table in TABLES {
            assert_eq!(view.count(table, &Scan::all("pk")).unwrap(), 0);
            assert!(view.scan(table, &Scan::all("pk")).unwrap().is_empty());
            assert!(view.get(table, "a").unwrap().is_none());
            assert_eq!(view.tombstone(table, "a").unwrap(), None);
            assert!(!view.any_tombstone(table).unwrap());
        }
    });
}

fn a_row_is_found_by_its_key_with_its_rev<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for table in TABLES {
            let made = row(table, &[]);
            model.put(view, table, made.clone());
            let held = view.get(table, &made.key()).unwrap().unwrap();
            assert_eq!(held.row.cells(), made.cells(), "{}", table.name);
            assert_eq!(held.rev, model.at.position);
        }
    });
}

fn a_text_that_is_no_key_of_the_table_finds_no_row<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for table in TABLES {
            model.put(view, table, row(table, &[]));
        }
        for key in ["", "a", "a/", "a/b/c", "%", "%zz/1", "a/x1", "a/+0", "a/00", "ABCDEF", "\u{0}"] {
            for table in [&tenant_map::DEF, &canary_runs::DEF, &node_settings_version::DEF] {
                assert!(view.get(table, key).unwrap().is_none(), "{} has {key:?}", table.name);
                assert_eq!(view.tombstone(table, key).unwrap(), None);
            }
        }
    });
}

fn a_change_replaces_the_row_and_its_place_in_every_index<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        model.put(view, &jobs::DEF, job("j", "queued", 5, None));
        // Built before the change, for backends that build an index when it is first asked for.
        assert_eq!(view.count(&jobs::DEF, &Scan::equal("by_state", ["queued".into()])).unwrap(), 1);
        model.put(view, &jobs::DEF, job("j", "in_progress", 5, Some(9)));
        assert_eq!(view.get(&jobs::DEF, "j").unwrap().unwrap().rev, Position(2));
        assert_eq!(view.count(&jobs::DEF, &Scan::all("pk")).unwrap(), 1);
        assert!(view.scan(&jobs::DEF, &Scan::equal("by_state", ["queued".into()])).unwrap().is_empty());
        assert_eq!(keys(&view.scan(&jobs::DEF, &Scan::equal("by_state", ["in_progress".into()])).unwrap()), ["j"]);
        let claimed = Scan::all("by_claim_expiry").to(Bound::Included(vec![9.into()]));
        assert_eq!(keys(&view.scan(&jobs::DEF, &claimed).unwrap()), ["j"]);
    });
}

fn a_deleted_row_leaves_a_tombstone_with_its_rev<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for table in TABLES {
            let key = row(table, &[]).key();
            model.put(view, table, row(table, &[]));
            model.delete(view, table, &key);
            assert!(view.get(table, &key).unwrap().is_none());
            assert_eq!(view.tombstone(table, &key).unwrap(), Some(model.at.position), "{}", table.name);
            assert!(view.any_tombstone(table).unwrap(), "{}", table.name);
            assert_eq!(view.count(table, &Scan::all("pk")).unwrap(), 0);
        }
        // A tombstone belongs to its table.
        assert_eq!(view.tombstone(&aliases::DEF, "nobody").unwrap(), None);
    });
}

fn a_recreated_row_has_no_tombstone<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for table in TABLES {
            let key = row(table, &[]).key();
            model.put(view, table, row(table, &[]));
            model.delete(view, table, &key);
            model.put(view, table, row(table, &[]));
            assert_eq!(view.tombstone(table, &key).unwrap(), None, "{}", table.name);
            assert!(!view.any_tombstone(table).unwrap(), "{}", table.name);
            assert_eq!(view.get(table, &key).unwrap().unwrap().rev, model.at.position);
        }
    });
}

/// A rejected creation was once remembered as a deletion at rev 0.
fn a_creation_that_is_taken_back_leaves_nothing<H: Handle>() {
    let (mut handle, model) = fresh::<H>();
    handle.with(|view| {
        let made = model.change(&aliases::DEF, "a", Some(alias("a", r#"["x"]"#)));
        let mut undone = made.clone();
        (undone.before, undone.after, undone.rev) = (made.after.clone(), None, Position::ZERO);
        view.write(&[made]).unwrap();
        view.write(&[undone]).unwrap();
        assert!(view.get(&aliases::DEF, "a").unwrap().is_none());
        assert_eq!(view.tombstone(&aliases::DEF, "a").unwrap(), None);
        assert!(view.scan(&aliases::DEF, &Scan::equal("by_target", ["x".into()])).unwrap().is_empty());
    });
}

const ODD: [&str; 14] = ["/", "%", "%2F", "a/b", "a%2Fb", " ", "😀", "é", "e\u{301}", "A", "a", "'", "\"", "_index"];

fn odd_keys_are_kept_apart_and_come_back_unchanged<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for (at, key) in ODD.iter().enumerate() {
            model.put(view, &tasks::DEF, task(key, "enqueued", at as i64));
            for other in ODD {
                let cells = [("index_uid", text(key)), ("node_id", text(other)), ("version", Cell::Integer(at as i64))];
                model.put(view, &node_settings_version::DEF, row(&node_settings_version::DEF, &cells));
            }
        }
        let mut sorted = ODD;
        sorted.sort_unstable();
        assert_eq!(keys(&view.scan(&tasks::DEF, &Scan::all("pk")).unwrap()), sorted);
        for (at, key) in ODD.iter().enumerate() {
            let held = view.get(&tasks::DEF, key).unwrap().unwrap();
            assert_eq!(held.row.cells(), task(key, "enqueued", at as i64).cells());
            let pairs = view.scan(&node_settings_version::DEF, &Scan::equal("pk", [text(key)])).unwrap();
            assert_eq!(keys(&pairs), sorted.map(|other| pair(key, other)));
            for other in ODD {
                assert!(view.get(&node_settings_version::DEF, &pair(key, other)).unwrap().is_some());
            }
        }
    });
}

fn a_key_of_512_bytes_is_a_key_like_any_other<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        let long = "x".repeat(KEY_BYTES_MAX);
        let longer_in_bytes = "é".repeat(KEY_BYTES_MAX / 2);
        for key in [&long, &longer_in_bytes] {
            model.put(view, &tasks::DEF, task(key, "failed", 1));
            assert_eq!(view.get(&tasks::DEF, key).unwrap().unwrap().row.key(), *key);
        }
        let slashes = "/".repeat(KEY_BYTES_MAX);
        let cells = [("index_uid", text(&slashes)), ("node_id", text(&long))];
        model.put(view, &node_settings_version::DEF, row(&node_settings_version::DEF, &cells));
        let key = pair(&slashes, &long);
        assert_eq!(view.get(&node_settings_version::DEF, &key).unwrap().unwrap().row.key(), key);
        model.delete(view, &node_settings_version::DEF, &key);
        assert_eq!(view.tombstone(&node_settings_version::DEF, &key).unwrap(), Some(model.at.position));
        let after = Scan::equal("by_status", ["failed".into()]).after(vec![1.into(), text(&long)]);
        assert_eq!(keys(&view.scan(&tasks::DEF, &after).unwrap()), [longer_in_bytes]);
    });
}

fn blob_keys_are_found_and_ordered_byte_by_byte<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for byte in [0xff_u8, 0x00, 0x80, 0x7f] {
            let hash = Cell::Blob(vec![byte; 32].into());
            let group = if byte == 0 { Cell::Integer(0) } else { Cell::Null };
            let cells = [("api_key_hash", hash), ("tenant_id", text("t")), ("group_id", group)];
            model.put(view, &tenant_map::DEF, row(&tenant_map::DEF, &cells));
        }
        let sorted = ["00", "7f", "80", "ff"].map(|byte| byte.repeat(32));
        assert_eq!(keys(&view.scan(&tenant_map::DEF, &Scan::all("pk")).unwrap()), sorted);
        let of_tenant = Scan::equal("by_tenant", ["t".into()]);
        assert_eq!(keys(&view.scan(&tenant_map::DEF, &of_tenant).unwrap()), sorted);
        let rest = of_tenant.after(vec![Cell::Blob(vec![0x7f; 32].into())]);
        assert_eq!(keys(&view.scan(&tenant_map::DEF, &rest).unwrap()), sorted[2..]);
        // Group 0 is a group, and NULL is none.
        let group = |key: &str| view.get(&tenant_map::DEF, key).unwrap().unwrap().row.cells()[2].clone().into_owned();
        assert_eq!((group(&sorted[0]), group(&sorted[3])), (Cell::Integer(0), Cell::Null));
        assert!(view.get(&tenant_map::DEF, &"FF".repeat(32)).unwrap().is_none());
    });
}

fn two_part_keys_with_integers_are_ordered_as_numbers<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for at in [10, 9, 100, 1] {
            for canary in ["c", "c/1"] {
                let cells = [("canary_id", text(canary)), ("ran_at", Cell::Integer(at))];
                model.put(view, &canary_runs::DEF, row(&canary_runs::DEF, &cells));
            }
        }
        let newest = Scan::equal("pk", ["c".into()]).descending();
        assert_eq!(keys(&view.scan(&canary_runs::DEF, &newest).unwrap()), ["c/100", "c/10", "c/9", "c/1"]);
        let old = Scan::equal("pk", ["c/1".into()]).to(Bound::Excluded(vec![10.into()]));
        assert_eq!(keys(&view.scan(&canary_runs::DEF, &old).unwrap()), ["c%2F1/1", "c%2F1/9"]);
        assert_eq!(view.count(&canary_runs::DEF, &old).unwrap(), 2);
    });
}

fn the_largest_u64_survives_inside_json<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        let json = r#"{"a":18446744073709551615,"b":9007199254740993,"c":0}"#;
        model.put(view, &tasks::DEF, row(&tasks::DEF, &[("miroir_id", text("t")), ("node_tasks", text(json))]));
        let held = view.get(&tasks::DEF, "t").unwrap().unwrap();
        assert_eq!(held.row.cells()[tasks::DEF.column("node_tasks").unwrap()], text(json));
    });
}

fn null_is_in_no_range<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for (id, claim) in [("a", None), ("b", Some(-1)), ("c", None), ("d", Some(7))] {
            model.put(view, &jobs::DEF, job(id, "in_progress", 1, claim));
        }
        let met = |scan: Scan<'_>| {
            let found = keys(&view.scan(&jobs::DEF, &scan).unwrap());
            assert_eq!(view.count(&jobs::DEF, &scan).unwrap(), found.len() as u64, "{scan:?}");
            found
        };
        let all = || Scan::all("by_claim_expiry");
        assert_eq!(met(all()), ["a", "c", "b", "d"]);
        assert_eq!(met(all().to(Bound::Included(vec![7.into()]))), ["b", "d"]);
        assert_eq!(met(all().to(Bound::Excluded(vec![7.into()]))), ["b"]);
        assert_eq!(met(all().from(Bound::Included(vec![i64::MIN.into()]))), ["b", "d"]);
        assert_eq!(met(all().descending().to(Bound::Included(vec![7.into()]))), ["d", "b"]);
        assert_eq!(met(Scan::equal("by_claim_expiry", [7.into()])), ["d"]);
        assert_eq!(met(Scan::equal("by_claim_expiry", [Cell::Null])), [""; 0]);
        assert_eq!(met(all().to(Bound::Included(vec![Cell::Null]))), [""; 0]);
        assert_eq!(met(all().from(Bound::Included(vec![Cell::Null]))), [""; 0]);
    });
}

fn equal_values_fix_the_first_columns<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for (id, status, at) in [("a", "failed", 2), ("b", "failed", 1), ("c", "enqueued", 1), ("d", "failed", 1)] {
            model.put(view, &tasks::DEF, task(id, status, at));
        }
        let met = |scan: Scan<'_>| keys(&view.scan(&tasks::DEF, &scan).unwrap());
        assert_eq!(met(Scan::equal("by_status", ["failed".into()])), ["b", "d", "a"]);
        assert_eq!(met(Scan::equal("by_status", ["failed".into(), 1.into()])), ["b", "d"]);
        assert_eq!(met(Scan::equal("by_status", ["failed".into(), 1.into(), "d".into()])), ["d"]);
        assert_eq!(met(Scan::equal("by_status", ["fail".into()])), [""; 0]);
        assert_eq!(met(Scan::equal("by_status", ["failed".into(), 3.into()])), [""; 0]);
    });
}

fn a_bound_on_fewer_columns_takes_or_leaves_whole_groups<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for at in 1..=3 {
            for id in ["a", "b"] {
                model.put(view, &tasks::DEF, task(&format!("{id}{at}"), "failed", at));
            }
        }
        for descending in [false, true] {
            let met = |scan: Scan<'_>| {
                let scan = Scan { descending, ..scan };
                let mut met = keys(&view.scan(&tasks::DEF, &scan).unwrap());
                if descending {
                    met.reverse();
                }
                met
            };
            let all = || Scan::all("by_created");
            assert_eq!(met(all().from(Bound::Included(vec![2.into()]))), ["a2", "b2", "a3", "b3"]);
            assert_eq!(met(all().from(Bound::Excluded(vec![2.into()]))), ["a3", "b3"]);
            assert_eq!(met(all().to(Bound::Included(vec![2.into()]))), ["a1", "b1", "a2", "b2"]);
            assert_eq!(met(all().to(Bound::Excluded(vec![2.into()]))), ["a1", "b1"]);
            assert_eq!(met(all().from(Bound::Excluded(vec![2.into(), "a2".into()]))), ["b2", "a3", "b3"]);
            assert_eq!(met(all().to(Bound::Included(vec![2.into(), "a2".into()]))), ["a1", "b1", "a2"]);
            let between = all().from(Bound::Excluded(vec![1.into(), "a1".into()])).to(Bound::Excluded(vec![3.into()]));
            assert_eq!(met(between), ["b1", "a2", "b2"]);
            let none = all().from(Bound::Excluded(vec![3.into()])).to(Bound::Excluded(vec![1.into()]));
            assert_eq!(met(none), [""; 0]);
            let failed = Scan::equal("by_status", ["failed".into()]).from(Bound::Excluded(vec![1.into(), "b1".into()]));
            assert_eq!(met(failed), ["a2", "b2", "a3", "b3"]);
        }
    });
}

fn descending_is_ascending_backwards<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for table in TABLES {
            for pick in 0..8 {
                let made = any_row(table, &[pick; 16]);
                model.put(view, table, made);
            }
            for index in table.indexes.iter().map(|index| index.name).chain(["pk"]) {
                let mut up = keys(&view.scan(table, &Scan::all(index)).unwrap());
                up.reverse();
                assert_eq!(keys(&view.scan(table, &Scan::all(index).descending()).unwrap()), up, "{}", table.name);
            }
        }
    });
}

fn after_goes_on_in_the_direction_of_the_walk<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for id in ["a", "b", "c"] {
            model.put(view, &tasks::DEF, task(id, "failed", 1));
        }
        let met = |scan: Scan<'_>| keys(&view.scan(&tasks::DEF, &scan).unwrap());
        assert_eq!(met(Scan::all("pk").after(vec!["b".into()])), ["c"]);
        assert_eq!(met(Scan::all("pk").descending().after(vec!["b".into()])), ["a"]);
        assert_eq!(met(Scan::all("pk").after(vec!["bb".into()])), ["c"]);
        let of_status = || Scan::equal("by_status", ["failed".into()]);
        assert_eq!(met(of_status().descending().after(vec![1.into(), "b".into()])), ["a"]);
        assert_eq!(met(of_status().after(vec![1.into(), "c".into()])), [""; 0]);
    });
}

fn paging_meets_every_row_once_in_order<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        // Many equal values, so that only the key columns keep the rows apart.
        for at in 0..50 {
            model.put(view, &tasks::DEF, task(&format!("t{at}"), "failed", at % 3));
            model.put(view, &jobs::DEF, job(&format!("j{at}"), "queued", at % 2, (at % 4 > 0).then_some(at % 4)));
            model.put(view, &aliases::DEF, alias(&format!("a{at}"), r#"["x","y"]"#));
        }
        let scans = [
            (&tasks::DEF, Scan::all("pk")),
            (&tasks::DEF, Scan::all("by_created")),
            (&tasks::DEF, Scan::equal("by_status", ["failed".into()])),
            (&jobs::DEF, Scan::equal("by_type", ["queued".into()])),
            (&jobs::DEF, Scan::all("by_claim_expiry").to(Bound::Included(vec![2.into()]))),
        ];
        let descending = scans.clone().map(|(table, scan)| (table, scan.descending()));
        // A walk downwards is cut by its upper bound, which is where `after` goes.
        let descending = descending.into_iter().filter(|(_, scan)| scan.to == Bound::Unbounded);
        let multi = (&aliases::DEF, Scan::equal("by_target", ["y".into()]));
        for (table, scan) in scans.iter().cloned().chain(descending).chain([multi]) {
            let (table, scan): (&'static TableDef, Scan<'_>) = (table, scan);
            let whole = keys(&view.scan(table, &scan).unwrap());
            let mut page = scan.clone().limit(7);
            let mut met = Vec::new();
            loop {
                let found = view.scan(table, &page).unwrap();
                let Some(last) = found.last() else { break };
                let cursor = table.cursor(page.index, page.equal.len(), &last.row).unwrap();
                let cursor = cursor.into_iter().map(Cell::into_owned).collect();
                met.extend(keys(&found));
                page = page.after(cursor);
            }
            assert_eq!(met, whole, "{} {scan:?}", table.name);
            assert_eq!(met, model.scan(table, &scan), "{} {scan:?}", table.name);
        }
    });
}

fn many<H: Handle>(count: i64) -> (H, Model) {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        let changes: Vec<_> = (0..count)
            .map(|at| {
                let row = task(&format!("t{at:05}"), "failed", at);
                model.change(&tasks::DEF, &row.key(), Some(row))
            })
            .collect();
        model.apply(view, &changes);
    });
    (handle, model)
}

fn a_page_has_at_most_a_thousand_rows<H: Handle>() {
    let (mut handle, _) = many::<H>(PAGE_ROWS_MAX as i64 + 1);
    handle.with(|view| {
        for limit in [PAGE_ROWS_MAX, PAGE_ROWS_MAX + 1, usize::MAX] {
            let scan = Scan { limit, ..Scan::all("by_created") };
            assert_eq!(view.scan(&tasks::DEF, &scan).unwrap().len(), PAGE_ROWS_MAX);
        }
        assert_eq!(view.scan(&tasks::DEF, &Scan::all("pk").limit(3)).unwrap().len(), 3);
    });
}

fn a_limit_of_zero_answers_nothing<H: Handle>() {
    let (mut handle, _) = many::<H>(2);
    handle.with(|view| {
        for index in ["pk", "by_created"] {
            assert!(view.scan(&tasks::DEF, &Scan::all(index).limit(0)).unwrap().is_empty());
        }
        assert!(view.scan(&aliases::DEF, &Scan::equal("by_target", ["x".into()]).limit(0)).unwrap().is_empty());
    });
}

fn count_is_not_bounded_by_a_page<H: Handle>() {
    let (mut handle, _) = many::<H>(PAGE_ROWS_MAX as i64 + 500);
    handle.with(|view| {
        let count = |scan: Scan<'_>| view.count(&tasks::DEF, &scan).unwrap();
        assert_eq!(count(Scan::all("pk").limit(10)), 1_500);
        assert_eq!(count(Scan::equal("by_status", ["failed".into()])), 1_500);
        assert_eq!(count(Scan::all("by_created").from(Bound::Excluded(vec![99.into()]))), 1_400);
    });
}

fn a_multi_index_leads_from_every_value_to_its_rows<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        let by = |view: &dyn View, uid: &str| {
            let scan = Scan::equal("by_target", [text(uid)]);
            let found = keys(&view.scan(&aliases::DEF, &scan).unwrap());
            assert_eq!(view.count(&aliases::DEF, &scan).unwrap(), found.len() as u64);
            found
        };
        model.put(view, &aliases::DEF, alias("b", r#"["x","y"]"#));
        let single = [("name", text("a")), ("kind", text("single")), ("current_uid", text("x"))];
        model.put(view, &aliases::DEF, row(&aliases::DEF, &single));
        assert_eq!(by(view, "x"), ["a", "b"]);
        assert_eq!(by(view, "y"), ["b"]);
        assert_eq!(by(view, "z"), [""; 0]);
        model.put(view, &aliases::DEF, alias("b", r#"["y","z","é"]"#));
        assert_eq!(by(view, "x"), ["a"]);
        assert_eq!(by(view, "y"), ["b"]);
        assert_eq!(by(view, "z"), ["b"]);
        assert_eq!(by(view, "é"), ["b"]);
        assert_eq!(by(view, "e\u{301}"), [""; 0]);
        model.delete(view, &aliases::DEF, "b");
        assert_eq!(by(view, "y"), [""; 0]);
        assert_eq!(by(view, "x"), ["a"]);
    });
}

fn dead_rows_are_answered_like_living_ones<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        model.put(view, &idempotency_cache::DEF, key_record("long dead", 1));
        assert!(view.get(&idempotency_cache::DEF, "long dead").unwrap().is_some());
        assert_eq!(keys(&view.scan(&idempotency_cache::DEF, &Scan::all("by_expiry")).unwrap()), ["long dead"]);
        assert_eq!(view.count(&idempotency_cache::DEF, &Scan::all("pk")).unwrap(), 1);
    });
}

fn an_undeclared_index_is_an_error<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        model.put(view, &tasks::DEF, task("t", "failed", 1));
        assert!(view.scan(&tasks::DEF, &Scan::all("by_nothing")).is_err());
        assert!(view.count(&tasks::DEF, &Scan::all("by_nothing")).is_err());
    });
}

fn apply_moves_the_checkpoint_with_the_rows<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        model.put(view, &tasks::DEF, task("t", "failed", 1));
        assert_eq!(view.checkpoint().unwrap(), model.at);
        // A batch of events that left the tables as they were moves the checkpoint too.
        model.apply(view, &[]);
        assert_eq!(view.checkpoint().unwrap(), model.at);
    });
    let mut other = handle.another();
    assert_eq!(other.with(|view| view.checkpoint().unwrap()), model.at);
    assert_eq!(other.with(|view| view.count(&tasks::DEF, &Scan::all("pk")).unwrap()), 1);
}

fn apply_from_a_stale_checkpoint_is_diverged_and_changes_nothing<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    let before = model.at;
    handle.with(|view| model.put(view, &tasks::DEF, task("t", "failed", 1)));
    let ahead = model.next();
    let otherwise = Checkpoint { commit: CommitId::mint(), ..model.at };
    for from in [before, ahead, otherwise] {
        handle.with(|view| {
            let changes =
                [model.change(&tasks::DEF, "t", None), model.change(&tasks::DEF, "u", Some(task("u", "failed", 2)))];
            let refused = view.apply(&changes, &from, &model.next()).unwrap_err();
            assert_eq!(refused.kind(), StoreErrorKind::Diverged);
            assert_eq!(view.checkpoint().unwrap(), model.at);
            assert_eq!(keys(&view.scan(&tasks::DEF, &Scan::all("pk")).unwrap()), ["t"]);
            assert_eq!(view.tombstone(&tasks::DEF, "t").unwrap(), None);
        });
    }
    // The refusal left nothing open: the next batch goes through, on this handle and on another one.
    handle.with(|view| model.put(view, &tasks::DEF, task("u", "failed", 1)));
    handle.another().with(|view| model.put(view, &tasks::DEF, task("v", "failed", 1)));
    assert_eq!(handle.with(|view| view.count(&tasks::DEF, &Scan::all("pk")).unwrap()), 3);
}

fn a_batch_that_is_delivered_again_is_refused<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        let (from, to) = (model.at, model.next());
        let change = model.change(&tasks::DEF, "t", Some(task("t", "failed", 1)));
        view.apply(std::slice::from_ref(&change), &from, &to).unwrap();
        model.note(&change);
        model.at = to;
        let again = view.apply(&[change], &from, &to).unwrap_err();
        assert_eq!(again.kind(), StoreErrorKind::Diverged);
        assert_eq!(view.checkpoint().unwrap(), to);
        assert_eq!(view.get(&tasks::DEF, "t").unwrap().unwrap().rev, Position(1));
    });
}

fn apply_from_another_log_is_diverged<H: Handle>() {
    let (mut handle, model) = fresh::<H>();
    handle.with(|view| {
        let restored = LogInfo { epoch: 2, ..model.at.log };
        for other in [log(), restored] {
            let (from, to) = (Checkpoint::start(other), Model::new(other).next());
            assert_eq!(view.apply(&[], &from, &to).unwrap_err().kind(), StoreErrorKind::Diverged);
            assert_eq!(view.checkpoint().unwrap(), model.at);
        }
    });
}

fn write_leaves_the_checkpoint_and_is_met_by_later_scans_of_its_transaction<H: Handle>() {
    let (mut handle, model) = fresh::<H>();
    let (from, to) = (model.at, model.next());
    handle.together(|view| {
        view.write(&[model.change(&tasks::DEF, "t", Some(task("t", "failed", 1)))]).unwrap();
        assert_eq!(keys(&view.scan(&tasks::DEF, &Scan::equal("by_status", ["failed".into()])).unwrap()), ["t"]);
        assert_eq!(view.count(&tasks::DEF, &Scan::all("pk")).unwrap(), 1);
        assert_eq!(view.checkpoint().unwrap(), from);
        view.apply(&[], &from, &to).unwrap();
        assert_eq!(view.checkpoint().unwrap(), to);
    });
    let mut other = handle.another();
    assert_eq!(other.with(|view| view.count(&tasks::DEF, &Scan::all("pk")).unwrap()), 1);
}

fn another_handle_never_sees_an_unfinished_batch<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    let mut other = handle.another();
    let (ask, asked) = channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut counts = Vec::new();
        while asked.recv().is_ok() {
            // Backends may make a reader wait for the end of the batch; they may not show it half of one.
            counts.push(other.with(|view| view.scan(&tasks::DEF, &Scan::all("by_created")).unwrap().len()));
        }
        counts
    });
    for round in 0..100 {
        handle.together(|view| {
            let (from, to) = (model.at, model.next());
            let names = ["a", "b"].map(|half| format!("{half}{round}"));
            let halves = names.map(|id| model.change(&tasks::DEF, &id, Some(task(&id, "failed", round))));
            view.write(&halves[..1]).unwrap();
            ask.send(()).unwrap();
            (0..20).for_each(|_| std::thread::yield_now());
            view.apply(&halves[1..], &from, &to).unwrap();
            halves.iter().for_each(|half| model.note(half));
            model.at = to;
        });
    }
    drop(ask);
    let counts = reader.join().unwrap();
    assert_eq!(counts.len(), 100);
    assert!(counts.iter().all(|count| count % 2 == 0), "a reader saw half a batch: {counts:?}");
    assert!(counts.is_sorted(), "a reader went back in time: {counts:?}");
}

fn sweep_removes_only_rows_that_are_dead_at_the_instant<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for (key, expires_at) in [("dead", 99), ("at the instant", 100), ("live", 101)] {
            model.put(view, &idempotency_cache::DEF, key_record(key, expires_at));
        }
        model.put(view, &leader_lease::DEF, row(&leader_lease::DEF, &[("scope", text("ilm"))]));
        assert_eq!(view.count(&idempotency_cache::DEF, &Scan::all("by_expiry")).unwrap(), 3);
        let removed = view.sweep(&idempotency_cache::DEF, 100, 0, 10).unwrap();
        let mut removed: Vec<_> = removed.iter().map(|row| row.key()).collect();
        removed.sort();
        assert_eq!(removed, ["at the instant", "dead"]);
        assert_eq!(keys(&view.scan(&idempotency_cache::DEF, &Scan::all("pk")).unwrap()), ["live"]);
        assert_eq!(keys(&view.scan(&idempotency_cache::DEF, &Scan::all("by_expiry")).unwrap()), ["live"]);
        // No event, no tombstone, no step of the checkpoint.
        assert_eq!(view.tombstone(&idempotency_cache::DEF, "dead").unwrap(), None);
        assert_eq!(view.checkpoint().unwrap(), model.at);
        // Nothing dies by time in a table of leases, however long ago they ended.
        assert!(view.sweep(&leader_lease::DEF, i64::MAX, 0, 10).unwrap().is_empty());
        assert_eq!(view.count(&leader_lease::DEF, &Scan::all("pk")).unwrap(), 1);
    });
}

fn sweep_is_bounded_and_goes_on<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        for at in 0..7 {
            model.put(view, &idempotency_cache::DEF, key_record(&at.to_string(), 1));
        }
        let sizes = [(); 4].map(|()| view.sweep(&idempotency_cache::DEF, 1, 0, 3).unwrap().len());
        assert_eq!(sizes, [3, 3, 1, 0]);
        assert_eq!(view.count(&idempotency_cache::DEF, &Scan::all("pk")).unwrap(), 0);
    });
}

fn sweep_forgets_old_short_tombstones_and_no_kept_ones<H: Handle>() {
    let (mut handle, mut model) = fresh::<H>();
    handle.with(|view| {
        let mut buried = Vec::new();
        for table in TABLES {
            let key = row(table, &[]).key();
            model.put(view, table, row(table, &[]));
            model.delete(view, table, &key);
            buried.push((table, key, model.at));
        }
        for (table, key, at) in &buried {
            // Buried exactly then: not older.
            view.sweep(table, 0, at.recorded_at, 100).unwrap();
            assert_eq!(view.tombstone(table, key).unwrap(), Some(at.position), "{}", table.name);
        }
        for (table, key, at) in &buried {
            view.sweep(table, 0, i64::MAX, 100).unwrap();
            let left = (table.tombstones == Tombstones::Kept).then_some(at.position);
            assert_eq!(view.tombstone(table, key).unwrap(), left, "{}", table.name);
        }
    });
}

// ---- random rows, held against the model

/// A row of any table, chosen by `picks`, one a column.
fn any_row(table: &'static TableDef, picks: &[u8]) -> AnyRow {
    let cells: Vec<(&str, Cell<'static>)> = table
        .columns
        .iter()
        .zip(picks)
        .map(|(column, pick)| {
            let null = column.nullable && pick % 3 == 0;
            let unique = table.indexes.iter().any(|index| index.unique && index.columns.contains(&column.name));
            let value = match unique {
                // Uniqueness is the writer's business; here no two keys share such a value.
                true => text(&format!("{}{}", column.name, picks[0])),
                false => plain(table, column.name, column.kind, *pick),
            };
            (column.name, if null { Cell::Null } else { value })
        })
        .collect();
    row(table, &cells)
}

#[derive(Clone, Debug)]
struct Step {
    table: usize,
    picks: [u8; 16],
    delete: bool,
}

fn step() -> impl Strategy<Value = Step> {
    // Keys from a pool of five, so that rows are changed, deleted and re-created.
    (0..TABLES.len(), 0_u8..5, 0_u8..5, any::<[u8; 14]>(), prop::bool::weighted(0.2)).prop_map(
        |(table, first, second, rest, delete)| {
            let mut picks = [0; 16];
            (picks[0], picks[1]) = (first, second);
            picks[2..].copy_from_slice(&rest);
            Step { table, picks, delete }
        },
    )
}

/// Every kind of scan along every index of a table, cut at the rows it holds.
fn scans(table: &'static TableDef, model: &Model) -> Vec<Scan<'static>> {
    let mut scans = Vec::new();
    let rows: Vec<AnyRow> =
        model.rows.iter().filter(|((name, _), _)| *name == table.name).map(|(_, held)| held.row.clone()).collect();
    for multi in table.multi_indexes {
        let values: std::collections::BTreeSet<String> = rows.iter().flat_map(|row| (multi.values)(&**row)).collect();
        scans.extend(values.into_iter().map(|value| Scan::equal(multi.name, [text(&value)])));
    }
    for index in table.indexes.iter().map(|index| index.name).chain(["pk"]) {
        scans.push(Scan::all(index));
        for row in &rows {
            let cursor: Vec<Cell<'static>> =
                table.cursor(index, 0, row).unwrap().into_iter().map(Cell::into_owned).collect();
            for fixed in 0..=cursor.len() {
                let (equal, rest) = cursor.split_at(fixed);
                let of = || Scan::equal(index, equal.iter().cloned());
                scans.push(of());
                for cut in 1..=rest.len() {
                    let cut = rest[..cut].to_vec();
                    scans.push(of().from(Bound::Included(cut.clone())));
                    scans.push(of().from(Bound::Excluded(cut.clone())));
                    scans.push(of().to(Bound::Included(cut.clone())));
                    scans.push(of().to(Bound::Excluded(cut)));
                }
            }
        }
    }
    let ordered = |scan: &&Scan<'_>| table.multi_indexes.iter().all(|multi| multi.name != scan.index);
    let downwards: Vec<_> = scans.iter().filter(ordered).cloned().map(Scan::descending).collect();
    scans.extend(downwards);
    scans
}

fn scans_answer_what_a_sort_and_a_filter_of_the_rows_answer<H: Handle>() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let run = |steps: Vec<Step>| {
        let (mut handle, mut model) = fresh::<H>();
        handle.together(|view| {
            for (at, Step { table, picks, delete }) in steps.iter().enumerate() {
                let table = TABLES[*table];
                let made = any_row(table, picks);
                if *delete {
                    if model.rows.contains_key(&(table.name, made.key())) {
                        model.delete(view, table, &made.key());
                    }
                } else {
                    model.put(view, table, made);
                }
                if at == steps.len() / 2 {
                    // From here on, indexes that are built when first asked for are kept up to date.
                    scans(table, &model).iter().for_each(|scan| drop(view.scan(table, scan).unwrap()));
                }
            }
            for table in TABLES {
                for scan in scans(table, &model) {
                    let expected = model.scan(table, &scan);
                    let found = view.scan(table, &scan).unwrap();
                    prop_assert_eq!(keys(&found), expected.clone(), "{} {:?}", table.name, &scan);
                    prop_assert_eq!(view.count(table, &scan).unwrap(), expected.len() as u64, "{:?}", &scan);
                    for held in found {
                        let wanted = &model.rows[&(table.name, held.row.key())];
                        prop_assert!(held.rev == wanted.rev && held.row.cells() == wanted.row.cells());
                    }
                }
            }
            for ((name, key), rev) in &model.tombstones {
                let table = tasklog_projections::table(name).unwrap();
                prop_assert_eq!(view.tombstone(table, key).unwrap(), Some(*rev));
            }
            Ok(())
        })
    };
    runner.run(&prop::collection::vec(step(), 1..120), run).unwrap_or_else(|why| panic!("{why}"));
}

// ---- changes that are pending above a view

/// What is done to an overlay: a row is put or deleted, or goes back to what lies below, as after a rejection.
#[derive(Clone, Debug)]
enum Pending {
    Change(Step),
    TakeBack(prop::sample::Index),
}

fn pending() -> impl Strategy<Value = Pending> {
    prop_oneof![
        4 => step().prop_map(Pending::Change),
        1 => any::<prop::sample::Index>().prop_map(Pending::TakeBack),
    ]
}

/// An overlay, a view that has all of it written, and the model of both.
struct Layers {
    overlay: Overlay<MemoryView>,
    plain: MemoryView,
    model: Model,
}

impl Layers {
    fn new(below: &[Step]) -> Self {
        let log = log();
        let (mut overlay, mut plain, mut model) =
            (Overlay::new(MemoryView::new(log)), MemoryView::new(log), Model::new(log));
        for step in below {
            let Some(change) = change(&model, step) else { continue };
            for view in [&mut plain, overlay.below()] {
                view.write(std::slice::from_ref(&change)).unwrap();
            }
            model.note(&change);
            model.at = model.next();
        }
        Self { overlay, plain, model }
    }

    fn write(&mut self, change: &RowChange) {
        self.overlay.write(std::slice::from_ref(change)).unwrap();
        self.plain.write(std::slice::from_ref(change)).unwrap();
    }

    fn run(&mut self, pending: &Pending) {
        match pending {
            Pending::Change(step) => {
                let Some(change) = change(&self.model, step) else { return };
                self.write(&change);
                self.model.note(&change);
                self.model.at = self.model.next();
            }
            Pending::TakeBack(which) => self.take_back(which),
        }
    }

    fn take_back(&mut self, which: &prop::sample::Index) {
        let known: Vec<_> = self.model.rows.keys().chain(self.model.tombstones.keys()).cloned().collect();
        if known.is_empty() {
            return;
        }
        let entity = known[which.index(known.len())].clone();
        let (table, key) = (tasklog_projections::table(entity.0).unwrap(), &*entity.1);
        let below = self.overlay.peek_below();
        let (row, tombstone) = (below.get(table, key).unwrap(), below.tombstone(table, key).unwrap());
        let rev = row.as_ref().map(|held| held.rev).or(tombstone).unwrap_or_default();
        let after = row.map(|held| held.row);
        let change = RowChange { after: after.clone(), rev, ..self.model.change(table, key, None) };
        self.write(&change);
        self.model.rows.remove(&entity);
        self.model.tombstones.remove(&entity);
        match after {
            Some(row) => drop(self.model.rows.insert(entity, Held { row, rev })),
            None => self.model.tombstones.extend(tombstone.map(|rev| (entity, rev))),
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let shown = |held: &Held| {
            (held.row.key(), held.rev, held.row.cells().into_iter().map(Cell::into_owned).collect::<Vec<_>>())
        };
        for table in TABLES {
            for scan in scans(table, &self.model) {
                for limit in [1, 3, PAGE_ROWS_MAX] {
                    let scan = scan.clone().limit(limit);
                    let of = |view: &dyn View| view.scan(table, &scan).unwrap().iter().map(shown).collect::<Vec<_>>();
                    prop_assert_eq!(of(&self.overlay), of(&self.plain), "{} {:?}", table.name, &scan);
                }
                let count = |view: &dyn View| view.count(table, &scan).unwrap();
                prop_assert_eq!(count(&self.overlay), count(&self.plain), "{} {:?}", table.name, &scan);
            }
            if self.plain.any_tombstone(table).unwrap() {
                prop_assert!(self.overlay.any_tombstone(table).unwrap(), "{}", table.name);
            }
        }
        for (name, key) in self.model.rows.keys().chain(self.model.tombstones.keys()) {
            let table = tasklog_projections::table(name).unwrap();
            let row = |view: &dyn View| view.get(table, key).unwrap().as_ref().map(shown);
            prop_assert_eq!(row(&self.overlay), row(&self.plain), "{}/{}", name, key);
            let tombstone = |view: &dyn View| view.tombstone(table, key).unwrap();
            prop_assert_eq!(tombstone(&self.overlay), tombstone(&self.plain), "{}/{}", name, key);
        }
        Ok(())
    }
}

/// What a step does to a row; nothing if it deletes one that is not there.
fn change(model: &Model, Step { table, picks, delete }: &Step) -> Option<RowChange> {
    let table = TABLES[*table];
    let made = any_row(table, picks);
    let key = made.key();
    let known = model.rows.contains_key(&(table.name, key.clone()));
    (known || !delete).then(|| model.change(table, &key, (!delete).then_some(made)))
}

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]

    #[test]
    fn pending_changes_are_met_as_if_they_were_written(
        below in prop::collection::vec(step(), 0..60),
        above in prop::collection::vec(pending(), 1..60),
    ) {
        let mut layers = Layers::new(&below);
        above.iter().for_each(|pending| layers.run(pending));
        layers.check()?;
        // And written, they are what the other view has.
        let (changes, _) = layers.overlay.take();
        layers.overlay.below().write(&changes).unwrap();
        layers.check()?;
    }
}

/// The rows that are pending hide as many below: a page of the view below alone would come out too short.
#[test]
fn a_page_is_full_although_most_of_what_lies_below_is_deleted() {
    let (Overlaid(mut overlay), model) = many::<Overlaid>(2_500);
    let (Memory(mut plain), _) = many::<Memory>(2_500);
    let deleted = |at: &usize| !at.is_multiple_of(5);
    let changes: Vec<_> =
        (0..2_500).filter(deleted).map(|at| model.change(&tasks::DEF, &format!("t{at:05}"), None)).collect();
    overlay.write(&changes).unwrap();
    plain.write(&changes).unwrap();
    for limit in [1, 100, 499, 500, 501, PAGE_ROWS_MAX] {
        for scan in [Scan::all("by_created"), Scan::all("pk"), Scan::equal("by_status", ["failed".into()])] {
            for scan in [scan.clone().limit(limit), scan.limit(limit).descending()] {
                let of = |view: &dyn View| keys(&view.scan(&tasks::DEF, &scan).unwrap());
                assert_eq!(of(&overlay), of(&plain), "{scan:?}");
            }
        }
    }
}
