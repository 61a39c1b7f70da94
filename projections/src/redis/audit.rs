//! What the key space holds, slot by slot, looked at and put right. For verifying and repairing only: no served path
//! comes here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use tasklog_log::{Millis, Position, StoreError, redis::Script};

use super::{
    Expiry, Names, Own, RedisView, Said, Slot, Slots, pack_bytes, position, script,
    shape::{Shape, shape},
    slots,
};
use crate::{Cell, TableDef};

/// ms: so close to an instant of expiry, whether a key is there yet is not asked.
const EXPIRY_SLACK_MS: Millis = 1_000;

static LOOK: LazyLock<Script> = LazyLock::new(|| script(include_str!("look.lua")));
static REPAIR: LazyLock<Script> = LazyLock::new(|| script(include_str!("repair.lua")));

/// An entity, and the slots in which something of it is expected, or was found.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its table.
    pub table: &'static TableDef,
    /// Its row key.
    pub key: String,
    /// Beside those that belong to it alone.
    pub probes: BTreeSet<Slot>,
}

/// Several entities at one moment.
#[derive(Debug)]
pub struct Look {
    /// The log's head at that moment.
    pub position: Position,
    /// ms: by which rows are dead or alive at that moment.
    pub now: Millis,
    /// In the order in which they were asked for.
    pub seen: Vec<Seen>,
}

/// One entity as the key space holds it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What is there.
    pub actual: Slots,
    /// Slots that were looked at one by one.
    asked: BTreeSet<Slot>,
    /// Keys of a wrong type, and what the server says of them.
    pub wrong: BTreeMap<String, String>,
}

/// A slot that does not hold what it must.
#[derive(Clone, Debug)]
pub struct Flaw {
    /// Which.
    pub slot: Slot,
    /// What the log says.
    pub expected: Option<Vec<u8>>,
    /// What is there.
    pub actual: Option<Vec<u8>>,
}

/// What a comparison has come to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What is wrong.
    pub flaws: Vec<Flaw>,
    /// Whether something is expected in a slot that was not looked at: the entity has changed since it was asked for.
    pub unsure: bool,
}

/// What has become of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// Done.
    Done,
    /// A key of a wrong type is in the way; nothing was changed.
    InTheWay(String),
    /// The entity has moved on; nothing was changed.
    Moved,
}

/// An element of a key, and its value; empty where there is none.
pub type Element<'e> = (&'e [u8], &'e [u8]);

/// What a probe is about.
enum Probe {
    Slot(Slot),
    Hash(String),
}

impl RedisView {
    /// Whether keys are left to Redis to expire.
    #[must_use]
    pub const fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// Looks at several entities in one moment: one script, which reads only.
    ///
    /// # Errors
    /// `unavailable`; a wrong type is in [`Seen::wrong`].
    pub fn look(&self, asked: &[Asked]) -> Result<Look, StoreError> {
        let mut probes: Vec<(usize, Probe)> = Vec::new();
        for (at, Asked { table, key, probes: wanted }) in asked.iter().enumerate() {
            let own = Own::of(&self.names, table, key);
            probes.extend(own.slots().map(|slot| (at, Probe::Slot(slot))));
            probes.extend(own.hash.iter().map(|hash| (at, Probe::Hash(hash.clone()))));
            let others = wanted.iter().filter(|slot| Some(slot.key()) != own.hash.as_deref());
            probes.extend(others.map(|slot| (at, Probe::Slot(slot.clone()))));
        }
        let mut packed = Vec::new();
        // Writing to a vector cannot fail.
        let _ = rmp::encode::write_array_len(&mut packed, probes.len() as u32);
        probes.iter().for_each(|(_, probe)| probe.pack(&mut packed));
        type Answer = (String, Millis, Millis, Vec<::redis::Value>);
        let (at, recorded_at, server_ms, answers): Answer =
            self.link.ask(|conn| LOOK.run(conn, &[self.keys.head()], &[&packed[..]]))?;
        let mut seen = vec![Seen::default(); asked.len()];
        for ((at, probe), answer) in probes.into_iter().zip(answers) {
            seen[at].take(probe, answer);
        }
        let now = match self.expiry {
            Expiry::ByServer => server_ms.max(recorded_at),
            Expiry::BySweep => recorded_at,
        };
        Ok(Look { position: position(self.keys.head(), &at)?, now, seen })
    }

    /// Compares what was seen of an entity with what the log says of it at that moment.
    #[must_use]
    pub fn compare(&self, asked: &Asked, said: &Said, seen: &Seen, now: Millis) -> Verdict {
        let Asked { table, key, .. } = asked;
        let own = Own::of(&self.names, table, key);
        let mut expected = slots(&self.names, self.expiry, table, key, said);
        let slack = if self.expiry == Expiry::ByServer { EXPIRY_SLACK_MS } else { 0 };
        if let Some(held) = said.row()
            && !held.row.is_live(now.saturating_add(slack))
        {
            return lifeless(table, &own, &expected, seen);
        }
        let ends = said.row().and_then(|held| Own::outside_ends(table, held)).filter(|_| slack > 0);
        if let (Some(end), Some(outside)) = (ends, &own.outside)
            && end <= now + slack
        {
            // It may be gone already, and is not missed.
            expected.retain(|slot, _| slot.key() != outside);
            if end + slack > now {
                let mut seen = seen.clone();
                seen.actual.retain(|slot, _| slot.key() != outside);
                return self.differences(&own, &expected, &seen);
            }
        }
        self.differences(&own, &expected, seen)
    }

    fn differences(&self, own: &Own, expected: &Slots, seen: &Seen) -> Verdict {
        let mut verdict = Verdict::default();
        let is_wrong = |slot: &Slot| seen.wrong.contains_key(slot.key());
        for (slot, value) in expected.iter().filter(|(slot, _)| !is_wrong(slot)) {
            let known = seen.asked.contains(slot) || own.hash.as_deref() == Some(slot.key());
            match seen.actual.get(slot) {
                None if !known => verdict.unsure = true,
                Some(actual) if same(slot, value, actual, own) => {}
                // Nobody needs it: the entity may begin a new chain.
                None if own.is_short() && own.is_burial(slot) && !own.is_half_buried(seen) => {}
                actual => verdict.flaws.push(Flaw {
                    slot: slot.clone(),
                    expected: Some(value.clone()),
                    actual: actual.cloned(),
                }),
            }
        }
        for (slot, actual) in seen.actual.iter().filter(|(slot, _)| !expected.contains_key(slot)) {
            verdict.flaws.push(Flaw { slot: slot.clone(), expected: None, actual: Some(actual.clone()) });
        }
        verdict
    }

    /// Brings entities to what the log says of them, each only if it is still as it was seen. One script.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn repair(&self, repairs: &[(&Asked, &Seen, &[Flaw])]) -> Result<Vec<Repaired>, StoreError> {
        let mut packed = Vec::new();
        let _ = rmp::encode::write_array_len(&mut packed, repairs.len() as u32);
        for (asked, seen, flaws) in repairs {
            let own = Own::of(&self.names, asked.table, &asked.key);
            let guards = [&own.rev, &own.tombstone].into_iter().filter_map(|slot| match slot {
                Slot::Field { hash, field } => {
                    let value = seen.actual.get(slot).cloned();
                    Some([Some(hash.clone().into_bytes()), Some(field.clone()), value].into_iter().flatten().collect())
                }
                _ => None,
            });
            let types: BTreeMap<&str, &str> =
                flaws.iter().filter_map(|flaw| Some((flaw.slot.key(), flaw.slot.kind()?))).collect();
            let _ = rmp::encode::write_array_len(&mut packed, 3);
            pack_all(&guards.collect::<Vec<_>>(), &mut packed);
            pack_all(&types.iter().map(|(key, kind)| words(&[key, kind])).collect::<Vec<_>>(), &mut packed);
            pack_all(&flaws.iter().map(command).collect::<Vec<_>>(), &mut packed);
        }
        let results: Vec<Vec<::redis::Value>> =
            self.link.call(|conn| REPAIR.run(conn, &[self.keys.head()], &[&packed[..]]))?;
        let outcome = |result: Vec<::redis::Value>| match &result[..] {
            [::redis::Value::Int(0), ..] => Repaired::Done,
            [::redis::Value::Int(1), ::redis::Value::BulkString(why), ..] => {
                Repaired::InTheWay(String::from_utf8_lossy(why).into_owned())
            }
            _ => Repaired::Moved,
        };
        Ok(results.into_iter().map(outcome).collect())
    }

    /// Removes an element that can belong to no row.
    ///
    /// # Errors
    /// `unavailable`; `corrupt` if the key has changed its type.
    pub fn remove(&self, slot: &Slot) -> Result<(), StoreError> {
        let flaw = Flaw { slot: slot.clone(), expected: None, actual: None };
        let mut words = command(&flaw);
        if words[0] == b"HDELIF" {
            words = vec![b"HDEL".to_vec(), words[1].clone(), words[2].clone()];
        }
        self.link.call(|conn| {
            let mut cmd = ::redis::Cmd::new();
            words.iter().for_each(|word| {
                cmd.arg(&word[..]);
            });
            cmd.exec(conn)
        })
    }
}

impl Own {
    fn slots(&self) -> impl Iterator<Item = Slot> {
        let expiry = self.hash.iter().chain(&self.outside).map(|key| Slot::Expiry { key: key.clone() });
        let outside = self.outside.iter().map(|key| Slot::Text { key: key.clone() });
        let buried = [Some(self.tombstone.clone()), self.buried_at.clone()].into_iter().flatten();
        let rev = self.hash.is_none().then(|| self.rev.clone());
        expiry.chain(outside).chain(buried).chain(rev)
    }

    fn is_short(&self) -> bool {
        self.buried_at.is_some()
    }

    fn is_burial(&self, slot: &Slot) -> bool {
        *slot == self.tombstone || Some(slot) == self.buried_at.as_ref()
    }

    fn is_half_buried(&self, seen: &Seen) -> bool {
        let there = |slot: &Slot| seen.actual.contains_key(slot);
        there(&self.tombstone) || self.buried_at.as_ref().is_some_and(there)
    }
}

/// A row that has died by time, or is about to: what is left of it is housekeeping, unless it looks alive.
fn lifeless(table: &TableDef, own: &Own, expected: &Slots, seen: &Seen) -> Verdict {
    let mut verdict = Verdict::default();
    let (Some(hash), Some(dies_at)) = (&own.hash, table.dies_at) else { return verdict };
    let end = Slot::Field { hash: hash.clone(), field: dies_at.into() };
    if seen.actual.get(&end).is_some_and(|actual| Some(actual) != expected.get(&end)) {
        let here = seen.actual.iter().filter(|(slot, _)| slot.key() == hash && slot.kind().is_some());
        let gone = here.map(|(slot, actual)| Flaw { slot: slot.clone(), expected: None, actual: Some(actual.clone()) });
        verdict.flaws.extend(gone);
    }
    verdict
}

/// Whether two values are the same; scores are numbers, and when a tombstone was made is not compared.
fn same(slot: &Slot, expected: &[u8], actual: &[u8], own: &Own) -> bool {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<f64>().ok();
    match slot {
        Slot::Scored { .. } if Some(slot) == own.buried_at.as_ref() => true,
        Slot::Scored { .. } => number(expected) == number(actual),
        _ => expected == actual,
    }
}

impl Seen {
    fn take(&mut self, probe: Probe, answer: ::redis::Value) {
        use ::redis::Value::{Array, BulkString, Int};
        let key = probe.key().to_owned();
        match (probe, answer) {
            (_, Array(parts)) if matches!(&parts[..], [BulkString(mark), _] if mark == b"!") => {
                let why = match parts.get(1) {
                    Some(BulkString(why)) => String::from_utf8_lossy(why).into_owned(),
                    _ => String::new(),
                };
                self.wrong.insert(key, why);
            }
            (Probe::Hash(hash), Array(parts)) => {
                for pair in parts.chunks_exact(2) {
                    if let [BulkString(field), BulkString(value)] = pair {
                        self.actual.insert(Slot::Field { hash: hash.clone(), field: field.clone() }, value.clone());
                    }
                }
            }
            (Probe::Hash(_), _) => {}
            (Probe::Slot(slot), answer) => {
                self.asked.insert(slot.clone());
                let value = match (&slot, answer) {
                    (_, BulkString(bytes)) => Some(bytes),
                    (Slot::Member { .. }, Int(1)) => Some(b"1".to_vec()),
                    (Slot::Expiry { .. }, Int(at)) if at >= 0 => Some(at.to_string().into_bytes()),
                    _ => None,
                };
                self.actual.extend(value.map(|value| (slot, value)));
            }
        }
    }

    /// Whether the row is there in some form.
    #[must_use]
    pub fn has_row(&self, names: &Names, table: &TableDef, key: &str) -> bool {
        let own = Own::of(names, table, key);
        match (&own.hash, shape(table)) {
            (None, _) | (_, Shape::Run) => self.actual.contains_key(&own.rev),
            (Some(hash), _) => self.actual.keys().any(|slot| slot.key() == hash),
        }
    }

    /// The row's rev as it is stored; 0 if that is no number.
    #[must_use]
    pub fn rev(&self, names: &Names, table: &TableDef, key: &str) -> Position {
        let rev = self.actual.get(&Own::of(names, table, key).rev);
        rev.and_then(|rev| std::str::from_utf8(rev).ok()?.parse().ok()).map_or(Position::ZERO, Position)
    }
}

impl Probe {
    fn key(&self) -> &str {
        match self {
            Self::Slot(slot) => slot.key(),
            Self::Hash(hash) => hash,
        }
    }

    fn pack(&self, out: &mut Vec<u8>) {
        let (name, rest): (&str, Option<&[u8]>) = match self {
            Self::Hash(_) => ("HGETALL", None),
            Self::Slot(Slot::Field { field, .. }) => ("HGET", Some(field)),
            Self::Slot(Slot::Scored { member, .. }) => ("ZSCORE", Some(member)),
            Self::Slot(Slot::Member { member, .. }) => ("SISMEMBER", Some(member)),
            Self::Slot(Slot::Text { .. }) => ("GET", None),
            Self::Slot(Slot::Expiry { .. }) => ("PEXPIRETIME", None),
        };
        let words = [Some(name.as_bytes()), Some(self.key().as_bytes()), rest];
        let words: Vec<Vec<u8>> = words.into_iter().flatten().map(<[u8]>::to_vec).collect();
        pack_words(&words, out);
    }
}

/// The command that puts a slot right.
fn command(flaw: &Flaw) -> Vec<Vec<u8>> {
    let all = |name: &str, key: &str, rest: &[&[u8]]| -> Vec<Vec<u8>> {
        [name.as_bytes(), key.as_bytes()].iter().chain(rest).map(|word| word.to_vec()).collect()
    };
    let Flaw { slot, expected, actual } = flaw;
    let key = slot.key();
    match (slot, expected) {
        (Slot::Field { field, .. }, Some(value)) => all("HSET", key, &[field, value]),
        (Slot::Field { field, .. }, None) => all("HDELIF", key, &[field, actual.as_deref().unwrap_or_default()]),
        (Slot::Scored { member, .. }, Some(score)) => all("ZADD", key, &[score, member]),
        (Slot::Scored { member, .. }, None) => all("ZREM", key, &[member]),
        (Slot::Member { member, .. }, Some(_)) => all("SADD", key, &[member]),
        (Slot::Member { member, .. }, None) => all("SREM", key, &[member]),
        // How long it stays is a slot of its own.
        (Slot::Text { .. }, Some(value)) => all("SET", key, &[value, b"KEEPTTL"]),
        (Slot::Text { .. }, None) => all("DEL", key, &[]),
        (Slot::Expiry { .. }, Some(at)) => all("PEXPIREAT", key, &[at]),
        (Slot::Expiry { .. }, None) => all("PERSIST", key, &[]),
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn pack_words(words: &[Vec<u8>], out: &mut Vec<u8>) {
    let _ = rmp::encode::write_array_len(out, words.len() as u32);
    words.iter().for_each(|word| pack_bytes(out, word));
}

fn pack_all(lists: &[Vec<Vec<u8>>], out: &mut Vec<u8>) {
    let _ = rmp::encode::write_array_len(out, lists.len() as u32);
    lists.iter().for_each(|words| pack_words(words, out));
}

/// A column as it is stored, as JSON for people.
#[must_use]
pub fn shown(table: &TableDef, column: &str, stored: Option<&[u8]>) -> String {
    let Some(stored) = stored else { return "null".into() };
    let text = String::from_utf8_lossy(stored);
    let kind = table.column(column).map(|at| table.columns[at].kind);
    let as_is = matches!(kind, Some(crate::Kind::Integer | crate::Kind::Bool | crate::Kind::Json));
    if as_is && crate::Json::parse(&text).is_ok() {
        return text.into_owned();
    }
    crate::cell_json(&TEXT, &Cell::Text(text)).map_or_else(|why| why, |json| json.to_string())
}

const TEXT: crate::Column = crate::Column { name: "", kind: crate::Kind::Text, nullable: false, key: false };
