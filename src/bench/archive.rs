use std::{path::Path, sync::Arc, time::Instant};

use tasklog_log::{
    Commit, CommitId, Log, ManualClock, MemoryBlobs, Position, READ_EVENTS_MAX,
    archive::{Archive, ArchivedLog, Sealing},
    memory::MemoryLog,
    read_checked,
};
use uuid::Uuid;

use super::{
    Figure, Plan, rate,
    workload::{Life, TASK_EVENTS},
};
use crate::{
    Config, Error,
    backend::MemoryBackend,
    command::CommandOptions,
    engine::{Engine, Request},
};

/// Lives that go on at the same time.
const LIVES_AT_ONCE: usize = 256;
/// Commands in the same millisecond.
const COMMANDS_PER_MS: u64 = 4;
/// ms: when the first life begins.
const BEGIN_MS: i64 = 1_767_225_600_000;
/// Events read one by one.
const EVENTS_READ: u64 = 2_000;

/// Sealing a log of task lives, and reading it back. Ids of tasks and commits are random: nothing about them can be
/// guessed. In memory, so that no place of blobs is measured.
pub(super) fn archive(plan: &Plan, _: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let mut log = lives((plan.events / TASK_EVENTS) as usize)?;
    let archive = Archive::new(Arc::new(MemoryBlobs::default()));
    let began = Instant::now();
    let how = Sealing { all: true, ..Sealing::default() };
    let manifest = archive.seal(&log, &how, &mut |_| {})?;
    let (events, sealed) = (manifest.last().0, began.elapsed());
    let bytes: u64 = manifest.segments.iter().map(|segment| segment.bytes).sum();
    tell(Figure::at_most("archive_bytes_per_event", bytes as f64 / events as f64, 40.0));
    tell(Figure::plain("archive_events_per_s", rate(events, sealed)));

    log.trim(manifest.last().next());
    let whole = ArchivedLog::new(&log, Some(&archive));
    let began = Instant::now();
    let mut after = Position::ZERO;
    while let Some(last) = read_checked(&whole, after, READ_EVENTS_MAX)?.last().map(Commit::last) {
        after = last;
    }
    tell(Figure::plain("archive_read_events_per_s", rate(after.0, began.elapsed())));
    let mut took = Vec::new();
    for at in 0..EVENTS_READ {
        let position = Position(1 + (at * 7_919).wrapping_mul(104_729) % events);
        let began = Instant::now();
        whole.event(position)?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    tell(Figure::plain("archive_event_ms_p99", took[took.len() * 99 / 100].as_secs_f64() * 1e3));
    Ok(())
}

fn lives(count: usize) -> Result<MemoryLog, Error> {
    let clock = ManualClock::at(BEGIN_MS);
    let backend = MemoryBackend::new(Arc::new(clock.clone()))?;
    let log = backend.log.clone();
    let mut engine = Engine::new(backend, Config::default(), "tasklog".into())?;
    let mut commands = 0;
    for group in 0..count.div_ceil(LIVES_AT_ONCE) {
        let numbers = group * LIVES_AT_ONCE..count.min((group + 1) * LIVES_AT_ONCE);
        let mut lives: Vec<_> = numbers
            .map(|number| Life::new(&format!("mtask-{}", Uuid::new_v4()), number as u64).commands().into_iter())
            .collect();
        while let Some(step) = lives.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>() {
            for command in step {
                let command_id = Some(CommitId(Uuid::new_v4()));
                engine.execute(Request::one(command, CommandOptions { command_id, ..CommandOptions::default() }))?;
                commands += 1;
                if commands % COMMANDS_PER_MS == 0 {
                    clock.advance(1);
                }
            }
        }
    }
    Ok(log)
}
