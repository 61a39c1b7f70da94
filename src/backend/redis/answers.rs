//! What the script answers.

use redis::{FromRedisValue, Value};
use tasklog_log::{Appended, Millis, Position, StoreError, Stored};

use super::{RedisBackend, groups::Group};
use crate::backend::{Fate, Item, Written};

impl RedisBackend {
    /// Takes over what the script says of each group.
    pub(super) fn take(
        &mut self,
        results: Vec<Value>,
        items: &[Item],
        groups: &[Group<'_>],
        written: &mut Written,
    ) -> Result<(), StoreError> {
        let mut committed = false;
        let mut found = Vec::new();
        for (group, result) in groups.iter().zip(results) {
            let parts = match &result {
                Value::Array(parts) => &parts[..],
                base => {
                    if group.events > 0 {
                        committed = true;
                        place(group, items, Position(parsed(base)?), written);
                    }
                    continue;
                }
            };
            let part = |at: usize| parts.get(at).unwrap_or(&Value::Nil);
            let fate = match parsed::<i64>(part(0))? {
                1 => {
                    for number in parsed::<Vec<usize>>(part(1))? {
                        let entity = group.conditions.get(number.wrapping_sub(1)).copied().flatten();
                        written.stale.extend(entity.map(|entity| (entity.clone(), (None, None))));
                    }
                    self.overtaken = true;
                    Fate::Stale
                }
                2 => {
                    let asked = group.asked.get(parsed::<usize>(part(1))?.wrapping_sub(1)).copied();
                    if let Some((at, id)) = asked.and_then(|at| Some((at, items[at].asked?))) {
                        self.answers.insert(id, stored(&parsed::<Vec<u8>>(part(2))?)?);
                        found.push(at);
                    }
                    Fate::Later
                }
                3 => {
                    written.errors.push(StoreError::corrupt_store(parsed::<String>(part(1))?));
                    Fate::Failed(written.errors.len() - 1)
                }
                _ => {
                    self.waits = true;
                    Fate::Later
                }
            };
            group.items.iter().for_each(|item| written.fates[*item] = fate);
        }
        // A first outcome may be one that was not confirmed: telling it again promises no less.
        if (committed || !found.is_empty())
            && let Some(error) = self.confirm()?
        {
            written.errors.push(error);
            let unconfirmed = Fate::Failed(written.errors.len() - 1);
            found.into_iter().for_each(|at| written.fates[at] = unconfirmed);
            self.answers.clear();
            for at in groups.iter().flat_map(|group| &group.items) {
                if written.fates[*at] == Fate::Stands && !items[*at].commit.events.is_empty() {
                    written.fates[*at] = unconfirmed;
                }
            }
        }
        Ok(())
    }
}

/// Notes the positions of what a group has appended after `base`.
fn place(group: &Group<'_>, items: &[Item], base: Position, written: &mut Written) {
    let mut next = base.next();
    for item in group.items.iter().map(|at| &items[*at]) {
        let events = item.commit.events.len() as u64;
        if let Some(first) = item.first.as_provisional().filter(|_| events > 0) {
            written.placed.spans.push((first, events, next));
            next = Position(next.0 + events);
        }
    }
}

pub(super) fn parsed<T: FromRedisValue>(value: &Value) -> Result<T, StoreError> {
    redis::from_redis_value_ref(value).map_err(|_| unexpected())
}

/// What was answered is not told: it may hold what only the command's caller is to see.
pub(super) fn unexpected() -> StoreError {
    StoreError::unavailable("the commit script answered something that this program does not understand")
}

/// The first outcome as the script keeps it: `first last recorded_at`, a line end, and the answer.
fn stored(bytes: &[u8]) -> Result<Stored, StoreError> {
    let wrong = || StoreError::corrupt_store("a kept answer does not begin with its positions");
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(wrong)?;
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong())?;
    let mut numbers = line.split(' ');
    let mut next = || numbers.next().and_then(|number| number.parse::<u64>().ok()).ok_or_else(wrong);
    let (first, last, at) = (next()?, next()?, next()?);
    let recorded_at = Millis::try_from(at).map_err(|_| wrong())?;
    let appended = Appended { first: Position(first), last: Position(last), recorded_at };
    Ok(Stored { appended, answer: bytes[end + 1..].to_vec() })
}
