//! Steps are taken.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};
use tasklog::{
    Error,
    command::CommandOptions,
    engine::AnyReply,
    log::{CommitId, Position, archive::Sealing},
    projections::{PROJECTED, TableDef},
    store::{Begin, Keep, Rebuilt, rebuild, restore},
    wire,
};

use crate::{
    check::{done_or_refused, same},
    commands::{Pick, call},
    dump::live,
    image::Image,
    quiet::quietly,
    step::Step,
    store::Rows,
    world::{Checked, World, ensure, failed, told},
};

/// Attempts to have a file alone: a thread of the program may still hold the store that was just closed.
const ALONE_ATTEMPTS_MAX: usize = 100;

impl World {
    pub fn take(&mut self, step: &Step) -> Checked {
        match step {
            Step::Run(pick) => self.batch(&[*pick]),
            Step::RunTwice(pick) => self.twice(*pick),
            Step::Transact(picks) => self.transact(picks),
            Step::Batch(picks) => self.batch(picks),
            Step::Failing(picks, after) => self.failing(picks, *after),
            Step::Clock(ms) => {
                self.clock.advance(*ms);
                Ok(())
            }
            Step::Reopen if self.is_in_memory() => Ok(()),
            Step::Reopen => self.open(),
            Step::Crash(picks, cut) => self.crash(picks, *cut),
            Step::Snapshot => self.snapshot(),
            Step::Archive(events, all) => self.seal(usize::from(*events), *all),
            Step::Trim(keep) => self.trim(u64::from(*keep)),
            Step::Rebuild(tables) => self.rebuild_beside(&tables_of(*tables)),
            Step::RebuildAlone(tables, with_snapshot) => self.rebuild_alone(&tables_of(*tables), *with_snapshot),
            Step::Interrupted(tables, alone) => self.interrupted(&tables_of(*tables), *alone),
            Step::Lose(tables) => self.lose(&tables_of(*tables)),
            Step::Follow(into_file, from_snapshot) => self.follow(*into_file, *from_snapshot),
            Step::StopFollowing => self.stop_following(),
            Step::Quarantine(at) => self.quarantine(*at),
            Step::Lift(which) => self.lift(*which),
            Step::AsOf(which) => self.check_as_of(*which),
            Step::Restore(go_on) => self.restore(*go_on),
            Step::Check => self.check(),
            Step::Tamper => self.tamper(),
            Step::Lie => {
                self.acknowledge(CommitId(uuid::Uuid::nil()), Position(1));
                Ok(())
            }
            Step::LoseTheWriteAheadLog => self.lose_the_write_ahead_log(),
        }
    }

    fn is_in_memory(&self) -> bool {
        self.url == tasklog::StoreUrl::Memory
    }

    fn lines(&self, picks: &[Pick]) -> Vec<Value> {
        let rows = Rows::read(self.store());
        let calls = picks.iter().map(|pick| call(&self.names, *pick, &rows));
        let line = |call: crate::commands::Call| match call.lease {
            Some(lease) => json!({ "command": call.name, "args": call.args, "lease": lease }),
            None => json!({ "command": call.name, "args": call.args }),
        };
        calls.map(line).collect()
    }

    /// Queues lines without waiting, and answers what came of each.
    fn queue(&self, lines: &[Value]) -> Checked<Vec<Result<AnyReply, Error>>> {
        let queued: Vec<_> =
            lines.iter().map(|line| self.store().queue(wire::parse(&line.to_string())?.request)).collect();
        Ok(queued.into_iter().map(|queued| queued?.wait()).collect())
    }

    fn batch(&mut self, picks: &[Pick]) -> Checked {
        for reply in self.queue(&self.lines(picks))? {
            self.note(&done_or_refused("a command", reply)?);
        }
        Ok(())
    }

    fn note(&mut self, reply: &Option<AnyReply>) {
        let Some(AnyReply { meta, .. }) = reply else { return };
        if let Some(id) = meta.commit_id.filter(|_| !meta.repeated) {
            self.acknowledge(id, meta.position);
        }
    }

    fn twice(&mut self, pick: Pick) -> Checked {
        self.ids += 1;
        let mut lines = self.lines(&[pick]);
        lines[0]["command_id"] = uuid::Uuid::from_u128(self.ids).to_string().into();
        lines.push(lines[0].clone());
        let mut replies = self.queue(&lines)?.into_iter();
        let mut next = || replies.next().map(|reply| done_or_refused("a command", reply)).transpose();
        let (first, second) = (next()?.flatten(), next()?.flatten());
        self.note(&first);
        if let Some(first) = first.filter(|first| first.meta.changed) {
            let again = second.map(|second| second.meta);
            let as_before = again.is_some_and(|again| again.repeated && again.commit_id == first.meta.commit_id);
            ensure(as_before, || format!("{:?} was answered again as {again:?}", first.meta))?;
        }
        Ok(())
    }

    fn transact(&mut self, picks: &[Pick]) -> Checked {
        let mut items = self.lines(picks);
        let lease = items.iter_mut().filter_map(|item| item.as_object_mut()?.remove("lease")).next();
        let mut line = json!({ "transact": items });
        if let Some(lease) = lease {
            line["lease"] = lease;
        }
        for reply in self.queue(&[line])? {
            self.note(&done_or_refused("a transact", reply)?);
        }
        Ok(())
    }

    /// A trigger whose expression overflows stands for a disk that is full, or broken, in the middle of a batch.
    fn failing(&mut self, picks: &[Pick], after: u8) -> Checked {
        let Some(file) = self.file() else { return Ok(()) };
        let lines = self.lines(picks);
        let from = self.store().head().map_err(told("the head"))?.0 + u64::from(after);
        let by_hand = rusqlite::Connection::open(file).map_err(|error| error.to_string())?;
        let sql = |sql: &str| by_hand.execute_batch(sql).map_err(|error| format!("{sql}: {error}"));
        sql(&format!(
            "CREATE TRIGGER broken AFTER INSERT ON events WHEN NEW.position > {from}
             BEGIN SELECT abs(-9223372036854775807 - 1); END"
        ))?;
        let replies = self.queue(&lines)?;
        sql("DROP TRIGGER broken")?;
        for reply in replies {
            match reply {
                Ok(reply) => self.note(&Some(reply)),
                Err(Error::Rejected(_)) => {}
                Err(error) => {
                    self.did.insert("a batch that failed");
                    ensure(error.kind() == "unavailable", || told("a broken disk")(error))?;
                }
            }
        }
        Ok(())
    }

    fn crash(&mut self, picks: &[Pick], cut: u8) -> Checked {
        if self.is_in_memory() {
            return Ok(());
        }
        self.stop_following()?;
        let Some(file) = self.file() else { return self.restart_server() };
        let take = || Image::take(&file).map_err(failed("an image"));
        let before = take()?;
        if picks.is_empty() {
            return self.go_on_with(&before);
        }
        // Nobody is told of these.
        self.queue(&self.lines(picks))?;
        let after = take()?;
        let whole = self.store().head().map_err(told("the head"))?;
        self.go_on_with(&before.torn(&after, cut))?;
        if self.store().head().map_err(told("the head"))? < whole {
            self.did.insert("a torn end");
        }
        Ok(())
    }

    fn lose_the_write_ahead_log(&mut self) -> Checked {
        let Some(file) = self.file() else { return Ok(()) };
        self.stop_following()?;
        let image = Image::take(&file).map_err(failed("an image"))?;
        self.go_on_with(&image.without_the_write_ahead_log())
    }

    fn snapshot(&mut self) -> Checked {
        if self.store().head().map_err(told("the head"))? == Position::ZERO {
            return Ok(());
        }
        done_or_refused("a snapshot", self.store().snapshot(|_| ())).map(drop)
    }

    fn seal(&mut self, segment_events: usize, all: bool) -> Checked {
        if self.is_in_memory() {
            return Ok(());
        }
        let place = self.archive_place();
        self.store().set_archive(Some(&place)).map_err(told("the place of the archive"))?;
        let how = Sealing { segment_events, all, segments_max: usize::MAX };
        self.store().archive(&place, &how, &mut |_| {}).map(drop).map_err(told("archive"))
    }

    fn trim(&mut self, keep: u64) -> Checked {
        let trimmed = done_or_refused("trim", self.store().trim(&Keep { events: Some(keep), age_ms: None }))?;
        if trimmed.is_some_and(|trimmed| trimmed.first > trimmed.before) {
            self.did.insert("a trim");
        }
        Ok(())
    }

    fn rebuild_beside(&mut self, tables: &[&'static TableDef]) -> Checked {
        let Some(rebuilt) = done_or_refused("rebuild", self.store().rebuild(tables, |_| ()))? else {
            return ensure(self.is_in_memory(), || "rebuild was refused".into());
        };
        rebuilt_as_it_was(&rebuilt)
    }

    fn rebuild_alone(&mut self, tables: &[&'static TableDef], with_snapshot: bool) -> Checked {
        let Some(file) = self.file() else { return Ok(()) };
        let begin = if with_snapshot { Begin::WithSnapshot } else { Begin::AtTheStart };
        self.close();
        for _ in 0..ALONE_ATTEMPTS_MAX {
            match rebuild(&file, tables, begin, |_| ()) {
                Ok(rebuilt) => {
                    rebuilt_as_it_was(&rebuilt)?;
                    return self.open();
                }
                Err(error) if error.kind().as_str() == "unavailable" => {
                    self.open()?;
                    self.close();
                }
                Err(error) => return Err(told("rebuild alone")(error.into())),
            }
        }
        Err("the file was never free".into())
    }

    fn interrupted(&mut self, tables: &[&'static TableDef], alone: bool) -> Checked {
        let stop = |_| panic!("a rebuild is interrupted");
        let Some(file) = self.file() else { return Ok(()) };
        let store = self.store().clone();
        if alone {
            drop(store);
            self.close();
            // One that has nothing to fold is not interrupted; nor is one that finds the file held.
            let _ = quietly(|| catch_unwind(AssertUnwindSafe(|| rebuild(&file, tables, Begin::AtTheStart, stop))));
            return self.open();
        }
        let _ = quietly(|| catch_unwind(AssertUnwindSafe(|| store.rebuild(tables, stop))));
        Ok(())
    }

    fn lose(&mut self, tables: &[&'static TableDef]) -> Checked {
        let Some(file) = self.file() else { return Ok(()) };
        self.close();
        let drops: String = tables.iter().map(|table| format!("DROP TABLE {};", table.name)).collect();
        let dropped = rusqlite::Connection::open(file).and_then(|by_hand| by_hand.execute_batch(&drops));
        dropped.map_err(|error| format!("{drops} {error}"))?;
        self.open()
    }

    fn quarantine(&mut self, at: u8) -> Checked {
        let head = self.store().head().map_err(told("the head"))?;
        let position = Position(1 + head.0 * u64::from(at) / 256);
        let decided = self.store().quarantine(position, "a simulation", CommandOptions::default());
        let decided = done_or_refused("quarantine", decided)?;
        self.decided(false, decided.map(|reply| (reply.commit_id, reply.position)));
        Ok(())
    }

    fn lift(&mut self, which: u8) -> Checked {
        let all = self.store().quarantined().map_err(told("what is quarantined"))?;
        let Some(one) = all.get(usize::from(which) * all.len() / 256) else { return Ok(()) };
        let lifted = self.store().lift_quarantine(one.position, None, CommandOptions::default());
        let lifted = done_or_refused("lift", lifted)?;
        self.decided(true, lifted.map(|reply| (reply.commit_id, reply.position)));
        Ok(())
    }

    fn decided(&mut self, lift: bool, reply: Option<(Option<CommitId>, Position)>) {
        let Some((Some(id), position)) = reply else { return };
        self.did.insert(if lift { "a lifted quarantine" } else { "a quarantine" });
        self.acknowledge(id, position);
        self.forget_moments();
    }

    fn restore(&mut self, go_on: bool) -> Checked {
        if self.file().is_none() {
            return Ok(());
        }
        let (backup, into) = (self.new_file(), self.new_file());
        self.store().backup(&backup).map_err(told("backup"))?;
        restore(&backup, &into, "the simulation").map_err(told("restore"))?;
        let rows = self.store().read(|log, view| Ok(live(log, view)?)).map_err(told("reading"))?;
        let old = std::mem::replace(&mut self.url, tasklog::StoreUrl::Sqlite(into));
        self.stop_following()?;
        self.open()?;
        let theirs = self.store().read(|log, view| Ok(live(log, view)?)).map_err(told("reading what was restored"))?;
        same("restored", &rows, &theirs)?;
        if !go_on {
            self.url = old;
            self.open()?;
        }
        Ok(())
    }

    fn tamper(&mut self) -> Checked {
        let Some(file) = self.file() else { return Ok(()) };
        let by_hand = rusqlite::Connection::open(file).map_err(|error| error.to_string())?;
        by_hand.execute("UPDATE tasks SET error = 'by hand'", []).map(drop).map_err(|error| error.to_string())
    }
}

/// A row that was not what the log says was found too late.
fn rebuilt_as_it_was(rebuilt: &Rebuilt) -> Checked {
    ensure(rebuilt.differed.unwrap_or(0) == 0, || format!("a rebuild has found other rows: {rebuilt:?}"))
}

fn tables_of(set: u16) -> Vec<&'static TableDef> {
    let tables = PROJECTED.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0);
    tables.map(|(_, table)| *table).collect()
}
