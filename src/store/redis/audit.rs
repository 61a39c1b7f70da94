//! Compares what a store in Redis holds with a replay of its log, beside its writers, and puts it right if asked to.
//!
//! ```text
//! look at some entities and at the head, in one script  ─► the head is h
//! fold the log into the scratch file, through exactly h  ─► what the entities must be at h
//! compare                                                ─► nothing that writers do makes a difference
//! ```
//! Every row and every tombstone of the replay is looked at, then every key under the prefix: what is found there must be
//! what its row gives. Keys and elements are paged with SCAN and its relatives; no served path does that.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tasklog_log::{Checkpoint, Log, Position, StoreError, redis::RedisLog};
use tasklog_projections::{
    Cell, PROJECTED, Scan, TableDef, View, facts,
    redis::{Asked, Flaw, Own, RedisView, Repaired, Role, Said, Seen, Slot, locate, shown, slots},
    sqlite::SqliteView,
};
use tasklog_replay::{Difference, Finding, Problem, Report, Verifier, snapshot::Snapshots};

use super::{rebuild::Repairs, turn::Turn};
use crate::store::{archive, scratch::Scratch, snapshots::begin_with, sqlite::VERIFY_PAGE_EVENTS};

/// Entities looked at, and repaired, by one script.
const ENTITIES_PER_LOOK: usize = 64;
/// Rows and tombstones of the replay read at once.
const PAGE_ROWS: usize = 512;
/// Keys and elements asked for at once.
const PAGE_ELEMENTS: usize = 512;
/// How often an entity that keeps changing is looked at.
const LOOKS_MAX: usize = 64;
/// Reports of strays remembered, so that one that is met twice is told once.
const STRAYS_KNOWN_MAX: usize = 100_000;

/// What is done about what is found.
pub(super) enum Mode {
    /// It is reported.
    Verify,
    /// It is put right.
    Repair(Option<Turn>),
}

/// One comparison of tables with the log.
pub(super) struct Audit<'a> {
    log: &'a RedisLog,
    live: &'a RedisView,
    fresh: SqliteView<'a>,
    verifier: Verifier,
    tables: &'a [&'static TableDef],
    mode: Mode,
    reached: Checkpoint,
    repairs: Repairs,
    strays: HashSet<(String, Vec<u8>)>,
}

/// Verifies a store while its writers go on.
///
/// # Errors
/// The store's; what is wrong is in the report.
pub(in crate::store) fn verify(
    log: &RedisLog,
    live: &RedisView,
    mut note: impl FnMut(Position),
) -> Result<Report, StoreError> {
    let scratch = Scratch::new()?;
    let mut audit = Audit::new(log, live, &scratch, &PROJECTED, Mode::Verify)?;
    audit.replay(&mut note)?;
    audit.run()?;
    let reached = audit.verifier.position();
    Ok(audit.verifier.end(reached))
}

impl<'a> Audit<'a> {
    pub(super) fn new(
        log: &'a RedisLog,
        live: &'a RedisView,
        scratch: &'a Scratch,
        tables: &'a [&'static TableDef],
        mode: Mode,
    ) -> Result<Self, StoreError> {
        let first = match mode {
            Mode::Verify => archive::joined(log, live, |log| log.first())?,
            // A log without its beginning gives other rows.
            Mode::Repair(_) => Position(1),
        };
        Ok(Self {
            log,
            live,
            fresh: scratch.view(log)?,
            verifier: Verifier::new(first, facts::quarantined(live)?),
            tables,
            mode,
            reached: Checkpoint::start(log.info()?),
            repairs: Repairs::default(),
            strays: HashSet::new(),
        })
    }

    /// Begins with the newest usable snapshot, if there is one, instead of the first event.
    pub(super) fn begin_with(&mut self, snapshots: &Snapshots, scratch: &'a Scratch) -> Result<(), StoreError> {
        let head = self.log.head()?.position;
        let fresh = &mut self.fresh;
        let (at, half) =
            archive::joined(self.log, self.live, |log| begin_with(snapshots, log, head, &PROJECTED, fresh));
        if half {
            scratch.clear()?;
            self.fresh = scratch.view(self.log)?;
        }
        if let Some(at) = at {
            self.verifier = Verifier::after_snapshot(at.position, &self.fresh, facts::quarantined(self.live)?)?;
            self.reached = at;
        }
        Ok(())
    }

    /// What was repaired.
    pub(super) fn repairs(&self) -> Repairs {
        self.repairs.clone()
    }

    /// Replays the log so far. Nothing is compared, and nothing repaired, before.
    pub(super) fn replay(&mut self, note: &mut dyn FnMut(Position)) -> Result<(), StoreError> {
        let head = self.log.head()?.position;
        self.fold_to(head, note)?;
        self.verifier.report().head = head;
        Ok(())
    }

    /// Replays the log through exactly `position`, the end of a commit.
    fn fold_to(&mut self, position: Position, note: &mut dyn FnMut(Position)) -> Result<(), StoreError> {
        if position < self.reached.position {
            let log = Box::new(self.live.checkpoint()?);
            return Err(StoreError::Diverged { checkpoint: Box::new(self.reached), log });
        }
        while self.verifier.position() < position {
            let mut page =
                archive::joined(self.log, self.live, |log| log.read(self.verifier.position(), VERIFY_PAGE_EVENTS))?;
            page.retain(|commit| commit.last() <= position);
            let Some(last) = page.last() else {
                let missing = self.verifier.position().next();
                return Err(StoreError::corrupt(missing, format!("missing from the log: its head is {position}")));
            };
            self.reached.position = last.last();
            self.reached.commit = last.meta.id;
            self.reached.recorded_at = last.recorded_at;
            self.verifier.page(&page, &mut self.fresh)?;
            self.repairs.position = self.verifier.position();
            note(self.verifier.position());
            if let Mode::Repair(turn) = &mut self.mode {
                turn.as_mut().map_or(Ok(()), Turn::renew)?;
                if let Some(finding) = self.verifier.report().findings.first() {
                    return Err(match finding {
                        Finding::Event { position, why } => StoreError::corrupt(*position, why.clone()),
                        other => StoreError::corrupt_store(other.to_string()),
                    });
                }
            }
        }
        self.verifier.flush(&mut self.fresh)
    }

    /// Compares everything.
    pub(super) fn run(&mut self) -> Result<(), StoreError> {
        for table in self.tables {
            self.rows(table)?;
            self.tombstones(table)?;
        }
        self.keys()
    }

    fn said(&self, table: &'static TableDef, key: &str) -> Result<Said, StoreError> {
        if let Some(held) = self.fresh.get(table, key)? {
            return Ok(Said::Row(held));
        }
        Ok(self.fresh.tombstone(table, key)?.map_or(Said::Nothing, Said::Deleted))
    }

    /// Every row that the log gives.
    fn rows(&mut self, table: &'static TableDef) -> Result<(), StoreError> {
        let mut scan = Scan::all("pk").limit(PAGE_ROWS);
        loop {
            let page = self.fresh.scan(table, &scan)?;
            let now = self.reached.recorded_at;
            let live: Vec<_> = page.iter().filter(|held| held.row.is_live(now)).map(|held| held.row.key()).collect();
            self.verifier.report().rows += live.len() as u64;
            for keys in live.chunks(ENTITIES_PER_LOOK) {
                self.settle(keys.iter().map(|key| asked(table, key)).collect())?;
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else { return Ok(()) };
            let cursor = table.cursor("pk", 0, &last.row)?;
            scan = scan.after(cursor.into_iter().map(Cell::into_owned).collect());
        }
    }

    /// Every deletion that the log gives.
    fn tombstones(&mut self, table: &'static TableDef) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.fresh.tombstones_page(table, after.as_deref(), PAGE_ROWS)?;
            for keys in page.chunks(ENTITIES_PER_LOOK) {
                self.settle(keys.iter().map(|(key, _)| asked(table, key)).collect())?;
            }
            let full = page.len() == PAGE_ROWS;
            after = page.into_iter().last().map(|(key, _)| key).filter(|_| full);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Every key of the tables.
    fn keys(&mut self) -> Result<(), StoreError> {
        let mut cursor = 0;
        loop {
            let (next, keys) = self.live.keys_page(cursor, PAGE_ELEMENTS)?;
            for key in keys {
                // A name that is no text is none of the tables'.
                let Ok(key) = String::from_utf8(key) else { continue };
                let Some((table, role)) = locate(self.live.names(), &key) else { continue };
                if self.tables.iter().any(|wanted| wanted.name == table.name) {
                    self.key(table, &role, &key)?;
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn key(&mut self, table: &'static TableDef, role: &Role, name: &str) -> Result<(), StoreError> {
        match role {
            Role::Row(key) => match self.said(table, key)? {
                Said::Row(held) if held.row.is_live(self.reached.recorded_at) => Ok(()),
                // It was looked at as a deleted one.
                Said::Deleted(_) => Ok(()),
                _ if !self.strays.insert((table.name.into(), key.as_bytes().into())) => Ok(()),
                _ => self.settle(vec![asked(table, key)]),
            },
            Role::Foreign => {
                self.foreign(table, name.as_bytes(), name);
                Ok(())
            }
            helper => self.elements(table, helper, name),
        }
    }

    fn elements(&mut self, table: &'static TableDef, role: &Role, name: &str) -> Result<(), StoreError> {
        let Some(scan) = role.scan() else { return Ok(()) };
        let mut cursor = 0;
        loop {
            let page = self.live.elements_page(scan, name, cursor, PAGE_ELEMENTS);
            let (next, page) = match page {
                Ok(page) => page,
                Err(StoreError::Corrupt { why, .. }) => {
                    self.in_the_way(table, name, &why);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let mut suspects: BTreeMap<String, Asked> = BTreeMap::new();
            for (element, value) in page {
                let (owner, slot) = role.owner(table, name, &element, &value);
                let Some(key) = owner else {
                    self.foreign(table, &element, name);
                    if matches!(self.mode, Mode::Repair(_)) {
                        self.live.remove(&slot)?;
                        self.repairs.repaired += 1;
                    }
                    continue;
                };
                let said = self.said(table, &key)?;
                let given = slots(self.live.names(), self.live.expiry(), table, &key, &said);
                if !given.contains_key(&slot) && self.stray_is_new(name, &element) {
                    suspects.entry(key.clone()).or_insert_with(|| asked(table, &key)).probes.insert(slot);
                }
            }
            let suspects: Vec<_> = suspects.into_values().collect();
            for suspects in suspects.chunks(ENTITIES_PER_LOOK) {
                self.settle(suspects.to_vec())?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn stray_is_new(&mut self, name: &str, element: &[u8]) -> bool {
        self.strays.len() >= STRAYS_KNOWN_MAX || self.strays.insert((name.to_owned(), element.to_vec()))
    }

    /// Looks at some entities until each has been compared as it was at one moment.
    fn settle(&mut self, mut left: Vec<Asked>) -> Result<(), StoreError> {
        for looks in 1..=LOOKS_MAX {
            if left.is_empty() {
                return Ok(());
            }
            if let Mode::Repair(Some(turn)) = &mut self.mode {
                turn.renew()?;
            }
            let mut asked = left.clone();
            for entity in &mut asked {
                let said = self.said(entity.table, &entity.key)?;
                let given = slots(self.live.names(), self.live.expiry(), entity.table, &entity.key, &said);
                entity.probes.extend(given.into_keys());
            }
            let look = self.live.look(&asked)?;
            self.fold_to(look.position, &mut |_| {})?;
            let (mut again, mut flawed) = (Vec::new(), Vec::new());
            for ((wanted, asked), seen) in left.iter().zip(&asked).zip(&look.seen) {
                if self.verifier.is_tainted(asked.table.name, &asked.key) {
                    continue;
                }
                let said = self.said(asked.table, &asked.key)?;
                let mut verdict = self.live.compare(asked, &said, seen, look.now);
                if verdict.unsure && looks < LOOKS_MAX {
                    again.push(wanted.clone());
                    continue;
                }
                seen.wrong.iter().for_each(|(key, why)| self.in_the_way(asked.table, key, why));
                match self.mode {
                    Mode::Verify => {
                        if !wanted.probes.is_empty() {
                            // The rest was reported when the row was looked at.
                            verdict.flaws.retain(|flaw| wanted.probes.contains(&flaw.slot));
                        }
                        self.report(asked, &said, seen, &verdict.flaws);
                    }
                    Mode::Repair(_) if verdict.flaws.is_empty() => {}
                    Mode::Repair(_) => flawed.push((wanted, asked, seen, verdict.flaws)),
                }
            }
            if !flawed.is_empty() {
                let repairs: Vec<_> =
                    flawed.iter().map(|(_, asked, seen, flaws)| (*asked, *seen, &flaws[..])).collect();
                for (outcome, (wanted, asked, ..)) in self.live.repair(&repairs)?.into_iter().zip(&flawed) {
                    match outcome {
                        Repaired::Done => self.repairs.repaired += 1,
                        Repaired::Moved => again.push((*wanted).clone()),
                        Repaired::InTheWay(why) => {
                            let key =
                                why.split([' ', '\n']).next().unwrap_or_default().trim_end_matches(':').to_owned();
                            self.in_the_way(asked.table, &key, &why);
                        }
                    }
                }
            }
            left = again;
        }
        for entity in left {
            tracing::warn!(
                table = entity.table.name,
                "an entity changed whenever it was looked at: left for the next time"
            );
        }
        Ok(())
    }

    /// A key's name without the prefix.
    fn short(&self, key: &str) -> String {
        let prefix = self.live.names().prefix();
        key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':')).unwrap_or(key).to_owned()
    }

    fn in_the_way(&mut self, table: &'static TableDef, key: &str, why: &str) {
        if self.repairs.in_the_way.insert(self.short(key), why.to_owned()).is_none() {
            let (helper, problem) = (self.short(key), Problem::InTheWay(why.to_owned()));
            self.found(Finding::Helper { table: table.name, key: String::new(), helper, problem });
        }
    }

    fn foreign(&mut self, table: &'static TableDef, element: &[u8], key: &str) {
        let (key, helper) = (String::from_utf8_lossy(element).into_owned(), self.short(key));
        let helper = if locate(self.live.names(), &key).is_some() { "the keys of its rows".into() } else { helper };
        self.found(Finding::Helper { table: table.name, key, helper, problem: Problem::Stray });
    }

    fn found(&mut self, finding: Finding) {
        if matches!(self.mode, Mode::Verify) {
            self.verifier.report().add(finding);
        }
    }

    /// Tells what is wrong with one entity.
    fn report(&mut self, asked: &Asked, said: &Said, seen: &Seen, flaws: &[Flaw]) {
        let Asked { table, key, .. } = asked;
        let own = Own::of(self.live.names(), table, key);
        let names = self.live.names();
        let rev = seen.rev(names, table, key);
        let whole = match (said.row(), seen.has_row(names, table, key)) {
            (Some(held), false) => Some(Difference::Missing { table: table.name, key: key.clone(), rev: held.rev }),
            (None, true) => Some(Difference::Stray { table: table.name, key: key.clone(), rev }),
            // It died by time, and looks alive.
            (Some(held), true) if flaws.iter().any(|flaw| flaw.slot == own.rev && flaw.expected.is_none()) => {
                let _ = held;
                Some(Difference::Stray { table: table.name, key: key.clone(), rev })
            }
            _ => None,
        };
        let of_row = |slot: &Slot| {
            let key = Some(slot.key());
            key == own.hash.as_deref() || key == own.outside.as_deref() || *slot == own.rev
        };
        let is_row = flaws.iter().any(|flaw| of_row(&flaw.slot));
        let whole = whole.filter(|_| is_row);
        let told = whole.is_some();
        if let Some(difference) = whole {
            self.found(Finding::Row(difference));
        }
        for flaw in flaws.iter().filter(|flaw| !(told && of_row(&flaw.slot))) {
            let finding = self.finding(asked, said, &own, flaw);
            self.found(finding);
        }
    }

    fn finding(&self, Asked { table, key, .. }: &Asked, said: &Said, own: &Own, flaw: &Flaw) -> Finding {
        let column = match &flaw.slot {
            slot if *slot == own.rev => Some("_rev"),
            Slot::Field { hash, field } if Some(hash) == own.hash.as_ref() => {
                table.columns.iter().map(|column| column.name).find(|name| name.as_bytes() == field)
            }
            Slot::Text { .. } => Own::outside_column(table),
            _ => None,
        };
        if let Some(column) = column {
            let shown = |stored: &Option<Vec<u8>>| shown(table, column, stored.as_deref());
            return Finding::Row(Difference::Column {
                table: table.name,
                key: key.clone(),
                column,
                live: shown(&flaw.actual),
                replayed: shown(&flaw.expected),
                rev: said.rev(),
            });
        }
        let helper = match &flaw.slot {
            Slot::Expiry { .. } => "the expiry of its key".into(),
            Slot::Field { hash, field } if Some(hash) == own.hash.as_ref() => {
                format!("its field {}", String::from_utf8_lossy(field))
            }
            slot => self.short(slot.key()),
        };
        let problem = match (&flaw.expected, &flaw.actual) {
            (Some(_), None) => Problem::Missing,
            (None, _) => Problem::Stray,
            (Some(_), Some(_)) => Problem::Wrong,
        };
        Finding::Helper { table: table.name, key: key.clone(), helper, problem }
    }
}

fn asked(table: &'static TableDef, key: &str) -> Asked {
    Asked { table, key: key.to_owned(), probes: BTreeSet::new() }
}
