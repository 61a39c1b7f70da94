//! What can happen to a store, as values: a failure is repeated and made smaller from these alone.

use std::fmt;

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    commands::{Pick, THEMES, names},
    world::Kind,
};

/// Something that happens. A step that makes no sense where it comes (nothing to lift, no file to lose) does nothing,
/// so that any selection of steps is a history too.
#[derive(Clone, Debug)]
pub enum Step {
    Run(Pick),
    /// With a `command_id`, and then once more.
    RunTwice(Pick),
    Transact(Vec<Pick>),
    /// Queued without waiting, so that they share group commits.
    Batch(Vec<Pick>),
    /// A batch whose events from this one on cannot be written.
    Failing(Vec<Pick>, u8),
    /// The clock moves by so many ms, forwards or backwards.
    Clock(i64),
    Reopen,
    /// The process ends without closing anything while these commands are being written; so many 256ths of what they put
    /// into the write-ahead log reach the disk.
    Crash(Vec<Pick>, u8),
    Snapshot,
    /// Segments of so many events; with or without the log's end.
    Archive(u8, bool),
    /// So many of the newest events stay.
    Trim(u8),
    /// The tables of this set, beside commands.
    Rebuild(u16),
    /// The same with the file closed, from the first event or from a snapshot.
    RebuildAlone(u16, bool),
    /// A rebuild that ends in the middle, beside commands or with the file closed.
    Interrupted(u16, bool),
    /// The tables of this set are dropped by hand.
    Lose(u16),
    /// A follower begins or goes on, in a file or in memory, with the first event or with a snapshot; the one that was running
    /// ends.
    Follow(bool, bool),
    StopFollowing,
    /// The event at so many 256ths of the log.
    Quarantine(u8),
    /// One of those that are quarantined.
    Lift(u8),
    /// A look at one of the moments that were looked at when they were the present.
    AsOf(u8),
    /// A backup, restored into another file; the history goes on there, or here.
    Restore(bool),
    Check,
    /// A row is changed by hand. Only for tests of the simulation, like the two below.
    Tamper,
    /// A commit is taken for acknowledged that never was.
    Lie,
    /// The process ends, and the write-ahead log was never synced.
    LoseTheWriteAheadLog,
}

impl Step {
    /// As a line of a report, for a history of these commands.
    pub fn line(&self, names: &[&'static str]) -> String {
        Line(self, names).to_string()
    }
}

struct Line<'s>(&'s Step, &'s [&'static str]);

struct Picks<'s>(&'s [Pick], &'s [&'static str]);

impl fmt::Display for Picks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Pick { command, a, b, c, d, lease }) in self.0.iter().enumerate() {
            let name = self.1[usize::from(*command) % self.1.len()];
            write!(f, "{}{name}[{command} {a} {b} {c} {d} {lease}]", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(step, names) = self;
        let one = |pick: &Pick| Picks(&[*pick], names).to_string();
        let all = |picks: &[Pick]| Picks(picks, names).to_string();
        match step {
            Step::Run(pick) => write!(f, "run {}", one(pick)),
            Step::RunTwice(pick) => write!(f, "run twice {}", one(pick)),
            Step::Transact(picks) => write!(f, "transact {}", all(picks)),
            Step::Batch(picks) => write!(f, "batch {}", all(picks)),
            Step::Failing(picks, after) => write!(f, "batch that fails after {after} events {}", all(picks)),
            Step::Crash(picks, cut) if !picks.is_empty() => write!(f, "crash at {cut}/256 of {}", all(picks)),
            Step::Clock(ms) => write!(f, "clock {ms:+}"),
            other => {
                let text = format!("{other:?}");
                write!(f, "{}", text.to_lowercase())
            }
        }
    }
}

/// A whole history.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub kind: Kind,
    pub names: Vec<&'static str>,
    /// The thread of snapshots makes one every so many events; 0 for never.
    pub snapshot_every: u64,
    pub steps: Vec<Step>,
}

const CLOCK_MS: [i64; 12] =
    [1, 999, 3_000, 30_000, 300_000, 900_000, 86_400_000, 604_800_000, 2_592_000_000, -1_000, -60_000, -86_400_000];

impl Plan {
    /// The history of a seed on this kind of store.
    pub fn of(seed: u64, kind: Kind) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let theme = if rng.random_range(0..3) == 0 { THEMES.len() - 1 } else { rng.random_range(0..THEMES.len()) };
        let snapshot_every = if rng.random_range(0..3) == 0 { rng.random_range(5..40) } else { 0 };
        let count = rng.random_range(kind.steps());
        let steps = (0..count).map(|_| step(&mut rng)).collect();
        Self { seed, kind, names: names(THEMES[theme]), snapshot_every, steps }
    }

    /// The steps, one a line, numbered as a failure counts them.
    pub fn lines(&self) -> String {
        let lines = self.steps.iter().enumerate().map(|(at, step)| format!("{at:>4}  {}\n", step.line(&self.names)));
        lines.collect()
    }
}

fn pick(rng: &mut ChaCha8Rng) -> Pick {
    let command = rng.random();
    let [a, b, c, d, lease] = std::array::from_fn(|_| rng.random_range(0..12));
    Pick { command, a, b, c, d, lease }
}

fn picks(rng: &mut ChaCha8Rng, max: usize) -> Vec<Pick> {
    let count = rng.random_range(1..=max);
    (0..count).map(|_| pick(rng)).collect()
}

fn step(rng: &mut ChaCha8Rng) -> Step {
    // Some of the tables, or all.
    let tables = |rng: &mut ChaCha8Rng| if rng.random() { u16::MAX } else { rng.random() };
    match rng.random_range(0..100) {
        0..34 => Step::Run(pick(rng)),
        34..38 => Step::RunTwice(pick(rng)),
        38..43 => Step::Transact(picks(rng, 4)),
        43..53 => Step::Batch(picks(rng, 12)),
        53..55 => Step::Failing(picks(rng, 6), rng.random_range(0..6)),
        55..64 => Step::Clock(*CLOCK_MS.choose(rng).unwrap()),
        64..66 => Step::Reopen,
        66..70 => Step::Crash(if rng.random() { picks(rng, 6) } else { Vec::new() }, rng.random()),
        70..74 => Step::Snapshot,
        74..78 => Step::Archive(rng.random_range(1..40), rng.random()),
        78..81 => Step::Trim(rng.random_range(0..30)),
        81..83 => Step::Rebuild(tables(rng)),
        83 => Step::RebuildAlone(tables(rng), rng.random()),
        84 => Step::Interrupted(tables(rng), rng.random()),
        85..87 => Step::Lose(tables(rng)),
        87..89 => Step::Follow(rng.random(), rng.random()),
        89 => Step::StopFollowing,
        90..92 => Step::Quarantine(rng.random()),
        92 => Step::Lift(rng.random()),
        93..95 => Step::AsOf(rng.random()),
        95 => Step::Restore(rng.random()),
        _ => Step::Check,
    }
}
