//! Compares what a store in Redis holds with a replay of its log, beside its writers, and puts it right if asked to.
//!
//! ```text
//! fold the log through the head                         ─► what rows, tombstones and helpers must be
//! look through the whole key space (look_through.rs)    ─► suspects: entities that may be wrong
//!
//! look at some suspects and at the head, in one script  ─► the head is h
//! fold the log on, through exactly h                    ─► what the suspects must be at h
//! compare                                               ─► nothing that writers do makes a difference
//! ```
//! The replay is kept in memory up to a bound and in a scratch file beyond it. Keys and elements are paged with SCAN and its
//! relatives; no served path does that.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, mpsc::sync_channel},
    thread,
};

use tasklog_log::{
    Checkpoint, Commit, Log, Position, StoreError,
    merkle::{Kept, RedisTree},
    redis::RedisLog,
};
use tasklog_projections::{
    Held, PROJECTED, TableDef, View, facts,
    redis::{Asked, Expiry, Flaw, Own, RedisView, Repaired, Said, Seen, Slot, locate, shown, slots},
};
use tasklog_replay::{Difference, Finding, Problem, Report, Verifier, snapshot::Snapshots};

use super::{rebuild::Repairs, turn::Turn};
use crate::store::{
    archive,
    scratch::{LazyScratch, LazyView},
    snapshots::begin_with,
    sqlite::VERIFY_PAGE_EVENTS,
};

/// Entities looked at, and repaired, by one script.
const ENTITIES_PER_LOOK: usize = 64;
/// Events in a page that is read ahead: few, so that the memory of what has been folded is there for what is read next.
const AHEAD_PAGE_EVENTS: usize = 2_000;
/// Pages of the log read ahead of the fold.
const PAGES_AHEAD: usize = 4;
/// How often an entity that keeps changing is looked at.
const LOOKS_MAX: usize = 64;
/// Findings remembered, so that what is met twice is told once.
const TOLD_MAX: usize = 100_000;

/// What is done about what is found.
pub(super) enum Mode {
    /// It is reported.
    Verify,
    /// It is put right.
    Repair(Option<Turn>),
}

/// What an audit keeps in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Rows of the replay; beyond it all of them go to the scratch file.
    pub(super) kept_rows: usize,
    /// Entities whose fingerprints are kept at once. For more of them helpers are read through several times.
    pub(super) part_entities: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { kept_rows: 100_000, part_entities: 250_000 }
    }
}

/// One comparison of tables with the log.
pub(super) struct Audit<'a> {
    log: &'a RedisLog,
    pub(super) live: &'a RedisView,
    pub(super) fresh: LazyView<'a>,
    pub(super) verifier: Verifier,
    pub(super) tables: &'a [&'static TableDef],
    mode: Mode,
    pub(super) bounds: Bounds,
    pub(super) reached: Checkpoint,
    repairs: Repairs,
    pub(super) suspects: BTreeMap<(&'static str, String), Asked>,
    told: HashSet<Slot>,
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
    let scratch = LazyScratch::default();
    let mut audit = Audit::new(log, live, &scratch, &PROJECTED, Mode::Verify, Bounds::default())?;
    audit.run(&mut note)?;
    let reached = audit.verifier.position();
    Ok(audit.verifier.end(reached))
}

impl<'a> Audit<'a> {
    pub(super) fn new(
        log: &'a RedisLog,
        live: &'a RedisView,
        scratch: &'a LazyScratch,
        tables: &'a [&'static TableDef],
        mode: Mode,
        bounds: Bounds,
    ) -> Result<Self, StoreError> {
        let first = match mode {
            Mode::Verify => archive::joined(log, live, |log| log.first())?,
            // A log without its beginning gives other rows.
            Mode::Repair(_) => Position(1),
        };
        let kept = match mode {
            Mode::Verify => Kept::load(&RedisTree::new(Arc::clone(log.link()), log.keys().clone()))?,
            Mode::Repair(_) => Kept::default(),
        };
        Ok(Self {
            log,
            live,
            fresh: scratch.view(log)?,
            verifier: Verifier::new(first, facts::quarantined(live)?).with_room(bounds.kept_rows).with_tree(kept),
            tables,
            mode,
            bounds,
            reached: Checkpoint::start(log.info()?),
            repairs: Repairs::default(),
            suspects: BTreeMap::new(),
            told: HashSet::new(),
        })
    }

    /// Begins with the newest usable snapshot, if there is one, instead of the first event.
    pub(super) fn begin_with(&mut self, snapshots: &Snapshots, scratch: &'a LazyScratch) -> Result<(), StoreError> {
        let head = self.log.head()?.position;
        let fresh = &mut self.fresh;
        let (at, half) =
            archive::joined(self.log, self.live, |log| begin_with(snapshots, log, head, &PROJECTED, fresh));
        if half {
            scratch.clear()?;
            self.fresh = scratch.view(self.log)?;
        }
        if let Some(at) = at {
            // Chunks before it were not read, so that there is nothing to compare with the tree.
            self.verifier = Verifier::after_snapshot(at.position, &self.fresh, facts::quarantined(self.live)?)?;
            self.reached = at;
        }
        Ok(())
    }

    /// What was repaired.
    pub(super) fn repairs(&self) -> Repairs {
        self.repairs.clone()
    }

    /// Replays the log so far. Nothing is compared, and nothing repaired, before. `note` hears how far it has come, and how
    /// many events are left.
    pub(super) fn replay(&mut self, note: &mut dyn FnMut(Position, u64)) -> Result<(), StoreError> {
        let head = self.log.head()?.position;
        let mut note = |at: Position| note(at, head.0.saturating_sub(at.0));
        note(self.verifier.position());
        self.fold_to(head, &mut note)?;
        self.verifier.report().head = head;
        Ok(())
    }

    /// Replays the log through exactly `position`, the end of a commit.
    fn fold_to(&mut self, position: Position, note: &mut dyn FnMut(Position)) -> Result<(), StoreError> {
        if position < self.reached.position {
            let log = Box::new(self.live.checkpoint()?);
            return Err(StoreError::Diverged { checkpoint: Box::new(self.reached), log });
        }
        if position.0 - self.verifier.position().0 > VERIFY_PAGE_EVENTS as u64 {
            self.fold_ahead(position, note)?;
        }
        while self.verifier.position() < position {
            let page =
                archive::joined(self.log, self.live, |log| log.read(self.verifier.position(), VERIFY_PAGE_EVENTS))?;
            self.take(page, position, note)?;
        }
        if self.verifier.unflushed().is_none() {
            self.verifier.flush(&mut self.fresh)?;
        }
        Ok(())
    }

    /// The same, with reading on a thread of its own, so that server and fold do not wait for each other.
    fn fold_ahead(&mut self, position: Position, note: &mut dyn FnMut(Position)) -> Result<(), StoreError> {
        let (log, mut after) = (self.log.clone(), self.verifier.position());
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(PAGES_AHEAD);
            let read = move || {
                // Says where the log's archive is.
                let view = RedisView::new(Arc::clone(log.link()), log.keys().prefix(), Expiry::BySweep);
                archive::joined(&log, &view, |log| {
                    while after < position {
                        let page = log.read(after, AHEAD_PAGE_EVENTS);
                        let last = page.as_ref().ok().and_then(|page| page.last()).map(Commit::last);
                        // Whoever folds may have stopped; and stops at what is no page.
                        if sender.send(page).is_err() {
                            return;
                        }
                        let Some(last) = last else { return };
                        after = last;
                    }
                });
            };
            let reader = thread::Builder::new().name("tasklog-read-ahead".into()).spawn_scoped(scope, read);
            reader.map_err(|error| StoreError::unavailable_because("starting a reader thread", error))?;
            receiver.into_iter().try_for_each(|page| self.take(page?, position, note))
        })
    }

    /// Folds one page, without what is behind `position`.
    fn take(
        &mut self,
        mut page: Vec<Commit>,
        position: Position,
        note: &mut dyn FnMut(Position),
    ) -> Result<(), StoreError> {
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
        self.renew()?;
        match (&self.mode, self.verifier.report().findings.first()) {
            (Mode::Repair(_), Some(Finding::Event { position, why })) => {
                Err(StoreError::corrupt(*position, why.clone()))
            }
            (Mode::Repair(_), Some(other)) => Err(StoreError::corrupt_store(other.to_string())),
            _ => Ok(()),
        }
    }

    /// Keeps the turn.
    pub(super) fn renew(&mut self) -> Result<(), StoreError> {
        match &mut self.mode {
            Mode::Repair(Some(turn)) => turn.renew(),
            _ => Ok(()),
        }
    }

    /// What the log says of an entity, as far as it was folded.
    pub(super) fn said(&self, table: &'static TableDef, key: &str) -> Result<Said, StoreError> {
        if let Some(folder) = self.verifier.unflushed() {
            return Ok(match folder.entity(table, key) {
                Some((Some(row), rev)) => Said::Row(Held { row: row.clone(), rev }),
                Some((None, rev)) if rev != Position::ZERO => Said::Deleted(rev),
                _ => Said::Nothing,
            });
        }
        if let Some(held) = self.fresh.get(table, key)? {
            return Ok(Said::Row(held));
        }
        Ok(self.fresh.tombstone(table, key)?.map_or(Said::Nothing, Said::Deleted))
    }

    /// An element that can belong to no row.
    pub(super) fn without_owner(
        &mut self,
        table: &'static TableDef,
        slot: &Slot,
        element: &[u8],
        key: &str,
    ) -> Result<(), StoreError> {
        if !self.is_new(slot) {
            return Ok(());
        }
        self.foreign(table, element, key);
        if matches!(self.mode, Mode::Repair(_)) {
            self.live.remove(slot)?;
            self.repairs.repaired += 1;
        }
        Ok(())
    }

    /// A key that can be no row's.
    pub(super) fn foreign_key(&mut self, table: &'static TableDef, key: &str) {
        if self.is_new(&Slot::Text { key: key.to_owned() }) {
            self.foreign(table, key.as_bytes(), key);
        }
    }

    fn is_new(&mut self, slot: &Slot) -> bool {
        if self.told.len() >= TOLD_MAX { !self.told.contains(slot) } else { self.told.insert(slot.clone()) }
    }

    /// Looks at all suspects.
    pub(super) fn settle_suspects(&mut self) -> Result<(), StoreError> {
        let suspects: Vec<_> = std::mem::take(&mut self.suspects).into_values().collect();
        suspects.chunks(ENTITIES_PER_LOOK).try_for_each(|suspects| self.settle(suspects.to_vec()))
    }

    /// Looks at some entities until each has been compared as it was at one moment.
    fn settle(&mut self, mut left: Vec<Asked>) -> Result<(), StoreError> {
        for looks in 1..=LOOKS_MAX {
            if left.is_empty() {
                return Ok(());
            }
            self.renew()?;
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
                        verdict.flaws.retain(|flaw| self.is_new(&flaw.slot));
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

    pub(super) fn in_the_way(&mut self, table: &'static TableDef, key: &str, why: &str) {
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
