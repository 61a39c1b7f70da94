use std::{
    collections::{BTreeSet, HashSet},
    fmt,
};

use tasklog_log::{Commit, Log, Position, StoreError, merkle::Kept};
use tasklog_projections::{PROJECTED, TableDef, View};

use crate::{Difference, Folder, compare, tree_check::TreeCheck};

/// Findings kept; further ones are only counted.
const FINDINGS_KEPT_MAX: usize = 1_000;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Positions without an event.
    Gap {
        /// The first missing position.
        first: Position,
        /// The last missing position.
        last: Position,
    },
    /// An event whose bytes, link or transition cannot be right.
    Event {
        /// Where.
        position: Position,
        /// What is wrong.
        why: String,
    },
    /// Two neighbouring commits under one id, or tables that do not reflect the head.
    Commit {
        /// The first event of the second place.
        position: Position,
        /// What is wrong.
        why: String,
    },
    /// A row that the live tables and the log do not agree on.
    Row(Difference),
    /// Events that are not those whose hashes the kept Merkle tree has.
    Tree {
        /// The first position of the chunks that differ.
        first: Position,
        /// The last one.
        last: Position,
        /// How.
        why: String,
    },
    /// What leads to rows (an index, a set, a tombstone) does not agree with them.
    Helper {
        /// The table.
        table: &'static str,
        /// The row key; what was found there, if it is none.
        key: String,
        /// What it is that is wrong.
        helper: String,
        /// How.
        problem: Problem,
    },
    /// What is remembered of a deleted row is not what the log says.
    Tombstone {
        /// The table.
        table: String,
        /// The row key.
        key: String,
        /// The rev that is remembered; none if there is no tombstone.
        live: Option<Position>,
        /// The rev that the log gives; none if no deleted row is to be remembered.
        replayed: Option<Position>,
    },
    /// Something of a store's file that is neither an event nor a row: its pages, a table, an index, a head.
    Store {
        /// What.
        what: String,
        /// What is wrong with it, and what mends it.
        why: String,
    },
}

/// What is wrong with something that leads to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The row's entry is not there.
    Missing,
    /// There is an entry that no row gives.
    Stray,
    /// The row's entry holds something else.
    Wrong,
    /// A key of a wrong type is in the way; what the store says of it.
    InTheWay(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { first, last } if first == last => write!(f, "event {first}: missing from the log"),
            Self::Gap { first, last } => write!(f, "events {first} to {last}: missing from the log"),
            Self::Event { position, why } => write!(f, "event {position}: {why}"),
            Self::Commit { position, why } => write!(f, "commit at event {position}: {why}"),
            Self::Row(difference) => difference.fmt(f),
            Self::Tree { first, last, why } => write!(f, "events {first} to {last}: {why}"),
            Self::Helper { table, key, helper, problem } => match problem {
                Problem::Missing => write!(f, "{table}/{key}: missing from {helper}"),
                Problem::Stray => write!(f, "{table}/{key}: in {helper}, but the log says it does not belong there"),
                Problem::Wrong => write!(f, "{table}/{key}: {helper} does not hold what the log says"),
                Problem::InTheWay(why) => write!(f, "{table}: {helper} is of a wrong type: {why}"),
            },
            Self::Tombstone { table, key, live, replayed } => match (live, replayed) {
                (None, Some(rev)) => write!(f, "{table}/{key}: its tombstone is missing; event {rev} deleted the row"),
                (Some(rev), None) => {
                    write!(f, "{table}/{key}: a tombstone with rev {rev}, but the log says there is to be none")
                }
                (live, replayed) => {
                    let (live, replayed) = (live.unwrap_or_default(), replayed.unwrap_or_default());
                    write!(f, "{table}/{key}: its tombstone has rev {live}, the log says {replayed}")
                }
            },
            Self::Store { what, why } => write!(f, "{what}: {why}"),
        }
    }
}

/// What a verification has looked at and found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The position of the snapshot that the log begins with, whose rows the replay began with; 0 if it began with event 1.
    pub began: Position,
    /// Events read and folded.
    pub events: u64,
    /// Commits read.
    pub commits: u64,
    /// Rows compared.
    pub rows: u64,
    /// Chunks of events compared with the kept Merkle tree.
    pub chunks: u64,
    /// The head that was verified.
    pub head: Position,
    /// Events that the fold passed over, because somebody has quarantined them.
    pub quarantined: Vec<Position>,
    /// Those of them whose checksums are wrong.
    pub damaged: Vec<Position>,
    /// What is wrong; the first thousand.
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub found: u64,
}

impl Report {
    /// Adds what was found; beyond the first thousand it is only counted.
    pub fn add(&mut self, finding: Finding) {
        self.found += 1;
        if self.findings.len() < FINDINGS_KEPT_MAX {
            self.findings.push(finding);
        }
    }
}

/// Verifies a log and the tables derived from it: density, checksums, every link, and every row against a replay. It
/// goes on after a finding, so that one report tells all of them.
pub struct Verifier {
    folder: Folder,
    report: Report,
    next: Position,
    /// Entities whose events could not all be folded; their rows cannot be compared.
    tainted: HashSet<(String, String)>,
    /// Positions whose events are there and cannot be read.
    unreadable: BTreeSet<Position>,
    last_commit: Option<tasklog_log::CommitId>,
    flushed: bool,
    tree: TreeCheck,
}

impl Verifier {
    /// Verifies a log that begins at `first`. The fold passes over what is quarantined.
    #[must_use]
    pub fn new(first: Position, quarantined: Vec<Position>) -> Self {
        Self {
            folder: Folder::new(&PROJECTED).passing_over(quarantined.iter().copied()),
            report: Report { quarantined, ..Report::default() },
            next: first,
            tainted: HashSet::new(),
            unreadable: BTreeSet::new(),
            last_commit: None,
            flushed: false,
            tree: TreeCheck::new(Kept::default()),
        }
    }

    /// Verifies what comes after a snapshot whose rows are in `fresh`.
    ///
    /// # Errors
    /// The view's.
    pub fn after_snapshot(
        position: Position,
        fresh: &dyn View,
        quarantined: Vec<Position>,
    ) -> Result<Self, StoreError> {
        let folder = Folder::on(&PROJECTED, fresh)?.after_snapshot(position);
        let folder = folder.passing_over(quarantined.iter().copied());
        let mut verifier = Self { folder, flushed: true, ..Self::new(position.next(), quarantined) };
        verifier.report.began = position;
        Ok(verifier)
    }

    /// The same, with room for so many rows before anything is written to the view.
    #[must_use]
    pub fn with_room(self, rows: usize) -> Self {
        Self { folder: self.folder.with_room(rows), ..self }
    }

    /// What was folded, as long as none of it was written to the view.
    #[must_use]
    pub fn unflushed(&self) -> Option<&Folder> {
        (!self.flushed).then_some(&self.folder)
    }

    /// Compares the events with the Merkle tree that was kept of them, too.
    #[must_use]
    pub fn with_tree(mut self, kept: Kept) -> Self {
        self.tree = TreeCheck::new(kept);
        self
    }

    /// Goes on with a report that has findings already.
    #[must_use]
    pub fn with_findings(mut self, report: Report) -> Self {
        self.report.found = report.found;
        self.report.findings = report.findings;
        self
    }

    /// How far it has come: the last position it has seen.
    #[must_use]
    pub fn position(&self) -> Position {
        self.next.before()
    }

    /// Says that the event at `position`, which is one of the next, is there and cannot be read; its entity, if at least that
    /// can.
    pub fn unreadable(&mut self, position: Position, why: String, entity: Option<(String, String)>) {
        self.report.add(Finding::Event { position, why });
        self.unreadable.insert(position);
        self.tainted.extend(entity);
        self.pass_unreadable();
    }

    /// Goes on behind what cannot be read.
    fn pass_unreadable(&mut self) {
        while self.unreadable.contains(&self.next) {
            self.next = self.next.next();
        }
    }

    /// Notes which positions before `position` have no event.
    fn expect(&mut self, position: Position) {
        self.pass_unreadable();
        while self.next < position {
            let end = self.unreadable.range(self.next..position).next().copied().unwrap_or(position);
            self.report.add(Finding::Gap { first: self.next, last: end.before() });
            self.next = end;
            self.pass_unreadable();
        }
    }

    /// Takes the next page of the log; `fresh` is the view it is replayed into.
    ///
    /// # Errors
    /// The view's; what is wrong with events becomes findings.
    pub fn page(&mut self, page: &[Commit], fresh: &mut dyn View) -> Result<(), StoreError> {
        for commit in page {
            self.report.commits += 1;
            if self.last_commit == Some(commit.meta.id) {
                let why = format!("its id {} is that of the commit before", commit.meta.id);
                self.report.add(Finding::Commit { position: commit.first(), why });
            }
            self.last_commit = Some(commit.meta.id);
            self.commit(commit, fresh)?;
        }
        self.pass_unreadable();
        if self.folder.is_full() {
            self.flush(fresh)?;
        }
        Ok(())
    }

    fn commit(&mut self, commit: &Commit, fresh: &dyn View) -> Result<(), StoreError> {
        for event in &commit.events {
            self.tree.event(commit, event);
            self.expect(event.position);
            self.next = event.position.next();
            if event.prev.is_some_and(|prev| self.unreadable.contains(&prev)) {
                // Nobody knows what the row was before it.
                self.tainted.insert((event.table.to_string(), event.key.to_string()));
            }
            self.report.events += 1;
            let quarantined = self.report.quarantined.binary_search(&event.position).is_ok();
            match commit.check(event) {
                Ok(()) => {}
                Err(_) if quarantined => self.report.damaged.push(event.position),
                Err(error) => self.report.add(as_finding(event.position, &error)),
            }
            if self.is_tainted(&event.table, &event.key) {
                continue;
            }
            match self.folder.fold_event(event, commit.recorded_at, fresh) {
                Ok(()) => {}
                Err(error @ (StoreError::Corrupt { .. } | StoreError::SchemaAhead { .. })) => {
                    self.report.add(as_finding(event.position, &error));
                    self.tainted.insert((event.table.to_string(), event.key.to_string()));
                    self.folder.skip(event);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what was folded so far to `fresh`.
    ///
    /// # Errors
    /// The view's.
    pub fn flush(&mut self, fresh: &mut dyn View) -> Result<(), StoreError> {
        self.flushed = true;
        let changes = self.folder.changes();
        let at = fresh.checkpoint()?;
        fresh.apply(&changes, &at, &at)
    }

    /// Whether the events of an entity could not all be folded, so that its row cannot be compared.
    #[must_use]
    pub fn is_tainted(&self, table: &str, key: &str) -> bool {
        !self.tainted.is_empty() && self.tainted.contains(&(table.to_owned(), key.to_owned()))
    }

    /// What was found so far.
    pub fn report(&mut self) -> &mut Report {
        &mut self.report
    }

    /// The report, for whoever has compared the rows in another way; all of the log up to `head` was to be taken.
    #[must_use]
    pub fn end(mut self, head: Position) -> Report {
        self.check_end(head);
        self.report
    }

    fn check_end(&mut self, head: Position) {
        self.expect(head.next());
        self.report.head = head;
        let (chunks, findings) = std::mem::replace(&mut self.tree, TreeCheck::new(Kept::default())).end(head);
        self.report.chunks = chunks;
        for finding in findings {
            self.report.add(finding);
        }
    }

    /// Compares what was replayed with the live tables, once every page up to `log`'s head was taken.
    ///
    /// # Errors
    /// The views'.
    pub fn finish(mut self, log: &dyn Log, live: &dyn View, fresh: &mut dyn View) -> Result<Report, StoreError> {
        self.compare(&PROJECTED, log, live, fresh)?;
        Ok(self.report)
    }

    /// [`Verifier::finish`] for some of the tables, for whoever has more to look at. What is so damaged that it cannot be read
    /// at all is a finding as well.
    ///
    /// # Errors
    /// The views', other than `corrupt`.
    pub fn compare(
        &mut self,
        tables: &[&'static TableDef],
        log: &dyn Log,
        live: &dyn View,
        fresh: &mut dyn View,
    ) -> Result<(), StoreError> {
        self.flush(fresh)?;
        let head = log.head()?;
        self.check_end(head.position);
        match live.checkpoint() {
            Ok(at) if at == head => {}
            Ok(at) => {
                let why = format!("the tables reflect {at}, the head of the log is {head}");
                self.report.add(Finding::Commit { position: head.position, why });
            }
            Err(StoreError::Corrupt { why, .. }) => self.store("the head of the tables", why),
            Err(error) => return Err(error),
        }
        for table in tables {
            let (report, tainted) = (&mut self.report, &self.tainted);
            let mut rows = 0;
            let compared = compare(table, live, fresh, head.recorded_at, |difference| {
                let (table, key) = difference.entity();
                if !tainted.contains(&(table.to_owned(), key.to_owned())) {
                    report.add(Finding::Row(difference));
                }
            });
            match compared {
                Ok(compared) => rows = compared,
                Err(StoreError::Corrupt { why, .. }) => {
                    self.store(&format!("table {}", table.name), format!("not all of it can be read: {why}"));
                }
                Err(error) => return Err(error),
            }
            self.report.rows += rows;
        }
        Ok(())
    }

    /// Adds a finding about something that is neither an event nor a row.
    pub fn store(&mut self, what: &str, why: String) {
        self.report.add(Finding::Store { what: what.to_owned(), why });
    }

    /// The report as it is.
    #[must_use]
    pub fn into_report(self) -> Report {
        self.report
    }
}

fn as_finding(position: Position, error: &StoreError) -> Finding {
    let why = match error {
        StoreError::Corrupt { why, .. } => why.clone(),
        other => other.to_string(),
    };
    Finding::Event { position, why }
}
