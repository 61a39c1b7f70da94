//! Columns into commits: nothing that is read is trusted, and nothing may be left over.

use std::sync::Arc;

use super::{
    BlockError,
    ids::unpack_ids,
    payloads::unpack_payloads,
    sums::{sum, take_damaged},
    texts::{FORM_NONE, FORM_SAME, KnownTexts, SharedTexts},
};
use crate::{
    Commit, CommitId, CommitMeta, Event, Name, Position,
    archive::bytes::{COLUMN_BYTES_MAX, Malformed, Taker, Unpacker},
    checksum,
};

/// The commits of a block, with the checksums that are right for what it holds, but for those that were stored.
pub(in crate::archive) fn decode(bytes: &[u8]) -> Result<Vec<Commit>, BlockError> {
    let mut unpacker = Unpacker::new()?;
    let (bytes, summed) = bytes.split_last_chunk().ok_or(Malformed("it ends too early"))?;
    let mut from = Taker(bytes);
    let first = from.position()?;
    let mut counts = [0; 5];
    for count in &mut counts {
        // No column has more bytes than this, and nothing takes less than a byte of one.
        *count = from.count(COLUMN_BYTES_MAX)?;
    }
    let [commits, events, kinds, templates, ids] = counts;
    if first.0.checked_add(events as u64).is_none() {
        return Err(Malformed("its positions are too large").into());
    }

    let (counts, instants) = (unpacker.take(&mut from)?, unpacker.take(&mut from)?);
    let commit_ids = unpack_ids(&mut unpacker, &mut from, commits)?;
    let template_list = unpacker.take(&mut from)?;
    let text_ids = unpack_ids(&mut unpacker, &mut from, ids)?;
    let mut texts = KnownTexts::new(&template_list, templates, &text_ids)?;
    let mut column = || unpacker.take(&mut from);
    let (actors, reasons, requests) = (column()?, column()?, column()?);
    let (kind_list, event_kinds, links, keys) = (column()?, column()?, column()?, column()?);

    let mut heads = Heads {
        counts: Taker(&counts),
        instants: Taker(&instants),
        recorded_at: 0,
        actors: SharedTexts::new(&actors),
        reasons: SharedTexts::new(&reasons),
        requests: SharedTexts::new(&requests),
    };
    let mut decoded = Vec::with_capacity(commits);
    let mut left = events;
    for id in commit_ids {
        let (commit, count) = heads.next(CommitId(id), &mut texts, left)?;
        left -= count;
        decoded.push((commit, count));
    }
    if left > 0 {
        return Err(Malformed("events are left over").into());
    }
    heads.end()?;

    let mut kinds = unpack_kinds(&kind_list, kinds)?;
    let kind_of = unpack_event_kinds(&event_kinds, events, &mut kinds)?;
    for kind in &mut kinds {
        kind.unpack_payloads(&mut unpacker, &mut from)?;
    }
    let damaged = take_damaged(&mut from, events)?;
    from.end()?;

    let (links, keys) = (Taker(&links), Taker(&keys));
    let mut tails = Tails { first, kinds, kind_of: kind_of.into_iter(), links, keys, seen: Vec::with_capacity(events) };
    let mut commits = Vec::with_capacity(decoded.len());
    for (mut commit, count) in decoded {
        for _ in 0..count {
            let mut event = tails.next(&mut texts)?;
            let stored = damaged.get(&((event.position.0 - first.0) as usize)).copied();
            event.checksum = stored.unwrap_or_else(|| checksum(&commit.meta, commit.recorded_at, &event));
            commit.events.push(event);
        }
        commits.push(commit);
    }
    tails.end()?;
    texts.end()?;
    if sum(&commits) != u32::from_be_bytes(*summed) {
        return Err(Malformed("its events do not have the checksums that were sealed").into());
    }
    Ok(commits)
}

/// The columns that have one entry a commit.
struct Heads<'b> {
    counts: Taker<'b>,
    instants: Taker<'b>,
    recorded_at: i64,
    actors: SharedTexts<'b>,
    reasons: SharedTexts<'b>,
    requests: SharedTexts<'b>,
}

impl Heads<'_> {
    /// The next commit, still without events, and how many it has.
    fn next(
        &mut self,
        id: CommitId,
        texts: &mut KnownTexts<'_>,
        events_max: usize,
    ) -> Result<(Commit, usize), Malformed> {
        let count = self.counts.count(events_max)?;
        if count == 0 {
            return Err(Malformed("a commit has no event"));
        }
        self.recorded_at = self.recorded_at.wrapping_add(self.instants.signed()?);
        let actor = self.actors.next(texts)?.ok_or(Malformed("a commit has no actor"))?;
        let meta = CommitMeta { id, actor, reason: self.reasons.next(texts)?, request_id: self.requests.next(texts)? };
        Ok((Commit { meta, recorded_at: self.recorded_at, events: Vec::with_capacity(count) }, count))
    }

    fn end(self) -> Result<(), Malformed> {
        let Self { counts, instants, actors, reasons, requests, .. } = self;
        for column in [counts, instants] {
            column.end()?;
        }
        for column in [actors, reasons, requests] {
            column.end()?;
        }
        Ok(())
    }
}

/// A kind of events, and their payloads.
struct KnownKind {
    table: Name,
    event_type: Name,
    type_version: u32,
    events: usize,
    payloads: std::vec::IntoIter<Vec<u8>>,
}

fn unpack_kinds(list: &[u8], count: usize) -> Result<Vec<KnownKind>, Malformed> {
    let mut from = Taker(list);
    let mut kinds = Vec::new();
    for _ in 0..count {
        let (table, event_type) = (Name::from(Arc::<str>::from(from.text()?)), Arc::<str>::from(from.text()?).into());
        let type_version = u32::try_from(from.number()?).map_err(|_| Malformed("a type version is too large"))?;
        kinds.push(KnownKind { table, event_type, type_version, events: 0, payloads: Vec::new().into_iter() });
    }
    from.end()?;
    Ok(kinds)
}

/// The kind of each event; counts those of each kind.
fn unpack_event_kinds(column: &[u8], events: usize, kinds: &mut [KnownKind]) -> Result<Vec<usize>, Malformed> {
    let mut from = Taker(column);
    let mut kind_of = Vec::with_capacity(events);
    for _ in 0..events {
        let kind = from.count(kinds.len().saturating_sub(1))?;
        kinds.get_mut(kind).ok_or(Malformed("it has events of no kind"))?.events += 1;
        kind_of.push(kind);
    }
    from.end()?;
    Ok(kind_of)
}

impl KnownKind {
    fn unpack_payloads(&mut self, unpacker: &mut Unpacker, from: &mut Taker<'_>) -> Result<(), Malformed> {
        self.payloads = unpack_payloads(unpacker, from, self.events)?.into_iter();
        Ok(())
    }
}

/// The columns that have one entry an event.
struct Tails<'b> {
    first: Position,
    kinds: Vec<KnownKind>,
    kind_of: std::vec::IntoIter<usize>,
    links: Taker<'b>,
    keys: Taker<'b>,
    /// The keys of the events so far.
    seen: Vec<Box<str>>,
}

impl Tails<'_> {
    fn next(&mut self, texts: &mut KnownTexts<'_>) -> Result<Event, Malformed> {
        let index = self.seen.len();
        let position = Position(self.first.0 + index as u64);
        let kind = self.kind_of.next().and_then(|kind| self.kinds.get_mut(kind)).ok_or(Malformed("too few events"))?;
        let payload = kind.payloads.next().ok_or(Malformed("a payload is missing"))?;
        let back = self.links.number()?;
        let prev = (back > 0)
            .then(|| position.0.checked_sub(back).filter(|prev| *prev > 0))
            .map(|prev| prev.map(Position).ok_or(Malformed("an event links to none before it")));
        let key = match self.keys.number()? {
            FORM_NONE => {
                let previous = usize::try_from(back).ok().filter(|back| *back > 0 && *back <= index);
                let previous = previous.ok_or(Malformed("a key is that of an event in another block"))?;
                self.seen[index - previous].clone()
            }
            FORM_SAME => self.seen.last().cloned().ok_or(Malformed("the first key is that of the one before"))?,
            form => texts.text(form)?.into(),
        };
        self.seen.push(key.clone());
        Ok(Event {
            position,
            table: kind.table.clone(),
            key,
            event_type: kind.event_type.clone(),
            type_version: kind.type_version,
            prev: prev.transpose()?,
            payload,
            checksum: 0,
        })
    }
    fn end(self) -> Result<(), Malformed> {
        self.links.end()?;
        self.keys.end()
    }
}
