//! One script call for a batch, or a part of it.

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use redis::{RedisError, Value};
use tasklog_log::{
    Checkpoint, CommitId, Millis, Position, StoreError,
    redis::{Script, Time, is_answer_lost},
};
use tasklog_projections::redis::script;

use super::{
    RedisBackend,
    answers::{parsed, unexpected},
    groups::{Group, Packer, array, number, text},
};
use crate::backend::{Fate, Item, Written};

/// ms: how far behind the append's instant the decisions' instant may be.
const CLOCK_LAG_MAX_MS: u64 = 1_000;
/// How often a call is made again because the connection was replaced before it.
const CALLS_MAX: usize = 3;

static COMMIT: LazyLock<Script> = LazyLock::new(|| script(include_str!("commit.lua")));

/// What a script call has come to.
pub(super) enum Called {
    /// What became of each group.
    Judged(Vec<Value>),
    /// Nothing was written; the groups are to be decided again.
    Not,
    /// Nothing was sent, because the connection is a new one.
    Replaced,
}

impl RedisBackend {
    /// One script call for some groups.
    pub(super) fn call<'b>(&mut self, now: Millis, items: &'b [Item], groups: &mut [Group<'b>], written: &mut Written) {
        let fail = |written: &mut Written, groups: &[Group<'_>], error: &StoreError| {
            written.errors.push(error.share());
            let failed = Fate::Failed(written.errors.len() - 1);
            groups.iter().flat_map(|group| &group.items).for_each(|item| written.fates[*item] = failed);
        };
        for _ in 0..CALLS_MAX {
            match self.try_call(now, items, groups) {
                Ok(Called::Judged(results)) => {
                    if let Err(error) = self.take(results, items, groups, written) {
                        fail(written, groups, &error);
                    }
                    return;
                }
                Ok(Called::Replaced) => match self.compare() {
                    Ok(false) => {}
                    Ok(true) => return self.put_off(groups, written),
                    Err(error) => return fail(written, groups, &error),
                },
                Ok(Called::Not) => return self.put_off(groups, written),
                Err(error) => return fail(written, groups, &error),
            }
        }
        self.put_off(groups, written);
    }

    fn put_off(&mut self, groups: &[Group<'_>], written: &mut Written) {
        groups.iter().flat_map(|group| &group.items).for_each(|item| written.fates[*item] = Fate::Later);
    }

    fn try_call<'b>(&mut self, now: Millis, items: &'b [Item], groups: &mut [Group<'b>]) -> Result<Called, StoreError> {
        self.sequence += 1;
        let packed = self.pack(now, items, groups)?;
        let prefix = self.keys.prefix();
        let keys = [
            self.keys.log().to_owned(),
            self.keys.head().to_owned(),
            self.keys.identity().to_owned(),
            format!("{prefix}:_turns"),
        ];
        let (mut replaced, mut lost) = (false, false);
        let (link, generation) = (Arc::clone(&self.link), self.generation);
        let answer = self.link.call(|conn| {
            replaced = link.generation() != generation;
            if replaced {
                return Ok(Value::Nil);
            }
            COMMIT.run(conn, &keys, &[&packed[..]]).inspect_err(|error: &RedisError| lost = is_answer_lost(error))
        });
        match answer {
            Ok(_) if replaced => Ok(Called::Replaced),
            Ok(answer) => self.judged(&answer),
            Err(error) if lost => self.resolve(items, groups, error),
            Err(error) => {
                // The next batch asks the server first, before anything is decided for it.
                self.clock = None;
                Err(error)
            }
        }
    }

    fn pack<'b>(&self, now: Millis, items: &'b [Item], groups: &mut [Group<'b>]) -> Result<Vec<u8>, StoreError> {
        let mut packed = Vec::with_capacity(512 * items.len() + 256);
        let given = match self.time {
            Time::Server => String::new(),
            Time::Given(_) => {
                // Each commit brings its own instant; rows must live at the first of them.
                let first = items.iter().map(|item| item.commit.decided_at.unwrap_or(now)).min();
                first.unwrap_or(now).to_string()
            }
        };
        array(&mut packed, 10);
        text(&mut packed, &self.writer.to_string());
        text(&mut packed, &self.sequence.to_string());
        text(&mut packed, &self.head.log.id.to_string());
        text(&mut packed, &self.head.log.epoch.to_string());
        text(&mut packed, &self.head.position.to_string());
        text(&mut packed, &self.repairs);
        text(&mut packed, &now.to_string());
        text(&mut packed, &given);
        number(&mut packed, CLOCK_LAG_MAX_MS);
        array(&mut packed, groups.len());
        let packer = Packer {
            view: self.view_below(),
            keys: &self.keys,
            items,
            answer_kept_ms: self.answer_kept_ms,
            now,
            urgent: self.overtaken,
            given: matches!(self.time, Time::Given(_)),
        };
        for group in groups {
            group.conditions.clear();
            packer.pack(group, items, &mut packed)?;
        }
        Ok(packed)
    }

    fn judged(&mut self, answer: &Value) -> Result<Called, StoreError> {
        let parts: Vec<Value> = parsed(answer)?;
        let kind: String = parsed(parts.first().unwrap_or(&Value::Nil))?;
        let part = |at: usize| parts.get(at).unwrap_or(&Value::Nil);
        match kind.as_str() {
            "done" => {
                self.clock = Some((parsed(part(1))?, Instant::now()));
                let (position, commit): (u64, String) = (parsed(part(2))?, parsed(part(3))?);
                let commit = commit.parse().map_err(|_| unexpected())?;
                self.head = Checkpoint {
                    log: self.head.log,
                    position: Position(position),
                    commit: CommitId(commit),
                    recorded_at: parsed(part(4))?,
                };
                self.newest.raise(self.head);
                Ok(Called::Judged(parsed(part(5))?))
            }
            "clock" => {
                self.clock = Some((parsed(part(1))?, Instant::now()));
                Ok(Called::Not)
            }
            "repaired" => {
                self.repairs = parsed(part(1))?;
                self.forget = true;
                Ok(Called::Not)
            }
            "diverged" => self.compare().map(|_| Called::Not),
            // A call with a later number was carried out: this one never will be.
            _ => Ok(Called::Not),
        }
    }
}
