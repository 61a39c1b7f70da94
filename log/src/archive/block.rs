//! A block: a bounded number of whole commits, column by column, so that what is alike stands together. `docs/formats.md`
//! shows its bytes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    bytes::{COLUMN_BYTES_MAX, Malformed, Packer, Taker, Unpacker, put_number, put_signed, put_text},
    template,
};
use crate::{Commit, CommitId, CommitMeta, Event, Name, Position, checksum};

/// The bytes of a UUID, each in a column of its own.
const PLANES: usize = 16;
/// A text that is not there; of a key: the one of the entity's previous event.
const FORM_NONE: u64 = 0;
/// The text of the commit or event before.
const FORM_SAME: u64 = 1;
/// The first template that was not used yet.
const FORM_NEW: u64 = 2;
/// Template `n` is this and `n`.
const FORM_KNOWN: u64 = 3;
/// Payloads one after another.
const LAYOUT_ROWS: u8 = 0;
/// Payloads of one length together, shorter ones first; their first bytes, then their second bytes, …
const LAYOUT_PLANES: u8 = 1;

/// A block cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BlockError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("zstd: {0}")]
    Zstd(#[from] std::io::Error),
}

/// Texts as templates and the ids in them.
#[derive(Default)]
struct Texts {
    templates: Vec<(String, usize)>,
    known: HashMap<String, usize>,
    ids: Vec<Uuid>,
}

impl Texts {
    fn put(&mut self, forms: &mut Vec<u8>, text: &str) {
        let parts = template::split(text);
        let next = self.templates.len();
        let at = *self.known.entry(parts.template.clone()).or_insert(next);
        if at == next {
            self.templates.push((parts.template, parts.ids.len()));
        }
        put_number(forms, if at == next { FORM_NEW } else { FORM_KNOWN + at as u64 });
        self.ids.extend(parts.ids);
    }

    fn put_optional(&mut self, forms: &mut Vec<u8>, text: Option<&str>, before: Option<Option<&str>>) {
        match text {
            None => put_number(forms, FORM_NONE),
            Some(_) if before == Some(text) => put_number(forms, FORM_SAME),
            Some(text) => self.put(forms, text),
        }
    }
}

#[derive(Default)]
struct Kind<'c> {
    payloads: Vec<&'c [u8]>,
}

/// The bytes of a block of dense commits.
pub(super) fn encode(packer: &mut Packer, commits: &[Commit]) -> Result<Vec<u8>, BlockError> {
    let first = commits.first().map_or(Position::ZERO, Commit::first);
    let events: Vec<&Event> = commits.iter().flat_map(|commit| &commit.events).collect();
    let mut columns = Columns::default();
    let mut recorded_at = 0;
    let mut before: Option<&CommitMeta> = None;
    for commit in commits {
        let meta = &commit.meta;
        put_number(&mut columns.counts, commit.events.len() as u64);
        put_signed(&mut columns.instants, commit.recorded_at.wrapping_sub(recorded_at));
        recorded_at = commit.recorded_at;
        columns.texts.put_optional(&mut columns.actors, Some(&meta.actor), before.map(|meta| Some(&*meta.actor)));
        let reasons = before.map(|meta| meta.reason.as_deref());
        columns.texts.put_optional(&mut columns.reasons, meta.reason.as_deref(), reasons);
        let requests = before.map(|meta| meta.request_id.as_deref());
        columns.texts.put_optional(&mut columns.requests, meta.request_id.as_deref(), requests);
        before = Some(meta);
    }
    let mut kinds: Vec<Kind<'_>> = Vec::new();
    let mut kinds_known: HashMap<(&str, &str, u32), usize> = HashMap::new();
    for (index, event) in events.iter().enumerate() {
        if event.position.0 != first.0 + index as u64 {
            return Err(Malformed("positions are not dense").into());
        }
        let kind = (&*event.table, &*event.event_type, event.type_version);
        let at = *kinds_known.entry(kind).or_insert_with(|| {
            put_text(&mut columns.kinds, kind.0.as_bytes());
            put_text(&mut columns.kinds, kind.1.as_bytes());
            put_number(&mut columns.kinds, kind.2.into());
            kinds.push(Kind::default());
            kinds.len() - 1
        });
        put_number(&mut columns.event_kinds, at as u64);
        kinds[at].payloads.push(&event.payload);
        let back = match event.prev {
            None => 0,
            Some(prev) if prev < event.position && prev > Position::ZERO => event.position.0 - prev.0,
            Some(_) => return Err(Malformed("an event links to none before it").into()),
        };
        put_number(&mut columns.links, back);
        let previous = (back > 0 && back <= index as u64).then(|| events[index - back as usize]);
        match previous {
            Some(previous) if previous.key == event.key => put_number(&mut columns.keys, FORM_NONE),
            _ => {
                let before = index.checked_sub(1).map(|before| Some(&*events[before].key));
                columns.texts.put_optional(&mut columns.keys, Some(&event.key), before);
            }
        }
    }
    let mut bytes = Vec::new();
    for number in [first.0, commits.len() as u64, events.len() as u64, kinds.len() as u64] {
        put_number(&mut bytes, number);
    }
    for number in [columns.texts.templates.len(), columns.texts.ids.len()] {
        put_number(&mut bytes, number as u64);
    }
    columns.pack(packer, &mut bytes, commits)?;
    for kind in &kinds {
        pack_payloads(packer, &mut bytes, &kind.payloads)?;
    }
    put_damaged(&mut bytes, first, commits);
    bytes.extend_from_slice(&sum(commits).to_be_bytes());
    Ok(bytes)
}

/// The events whose checksums are not those of their bytes, with their commits.
fn damaged(commits: &[Commit]) -> impl Iterator<Item = &Event> {
    commits.iter().flat_map(|commit| commit.events.iter().filter(|event| commit.check(event).is_err()))
}

/// Whether a block of these commits has checksums of its own.
pub(super) fn any_damaged(commits: &[Commit]) -> bool {
    damaged(commits).next().is_some()
}

/// Nothing at all if every checksum is right, as it nearly always is.
fn put_damaged(bytes: &mut Vec<u8>, first: Position, commits: &[Commit]) {
    let damaged: Vec<_> = damaged(commits).collect();
    if damaged.is_empty() {
        return;
    }
    put_number(bytes, damaged.len() as u64);
    for event in damaged {
        put_number(bytes, event.position.0 - first.0);
        bytes.extend_from_slice(&event.checksum.to_be_bytes());
    }
}

/// The checksums of damaged events, by the events' places in the block.
fn take_damaged(from: &mut Taker<'_>, events: usize) -> Result<BTreeMap<usize, u32>, Malformed> {
    let mut damaged = BTreeMap::new();
    if from.0.is_empty() {
        return Ok(damaged);
    }
    for _ in 0..from.count(events)? {
        let at = from.count(events.saturating_sub(1))?;
        let (checksum, rest) = from.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        from.0 = rest;
        damaged.insert(at, u32::from_be_bytes(*checksum));
    }
    Ok(damaged)
}

/// CRC32C over the checksums of all events. Checksums are computed again when a block is read; this says that they are the
/// ones that the log had.
fn sum(commits: &[Commit]) -> u32 {
    let checksums = commits.iter().flat_map(|commit| &commit.events).map(|event| event.checksum);
    checksums.fold(0, |sum, checksum| crc32c::crc32c_append(sum, &checksum.to_be_bytes()))
}

#[derive(Default)]
struct Columns {
    counts: Vec<u8>,
    instants: Vec<u8>,
    actors: Vec<u8>,
    reasons: Vec<u8>,
    requests: Vec<u8>,
    kinds: Vec<u8>,
    event_kinds: Vec<u8>,
    links: Vec<u8>,
    keys: Vec<u8>,
    texts: Texts,
}

impl Columns {
    fn pack(&self, packer: &mut Packer, bytes: &mut Vec<u8>, commits: &[Commit]) -> Result<(), BlockError> {
        let mut templates = Vec::new();
        for (template, ids) in &self.texts.templates {
            put_text(&mut templates, template.as_bytes());
            put_number(&mut templates, *ids as u64);
        }
        for column in [&self.counts, &self.instants] {
            packer.put(bytes, column)?;
        }
        pack_ids(packer, bytes, commits.iter().map(|commit| commit.meta.id.0))?;
        packer.put(bytes, &templates)?;
        pack_ids(packer, bytes, self.texts.ids.iter().copied())?;
        for column in
            [&self.actors, &self.reasons, &self.requests, &self.kinds, &self.event_kinds, &self.links, &self.keys]
        {
            packer.put(bytes, column)?;
        }
        Ok(())
    }
}

fn pack_ids(
    packer: &mut Packer,
    bytes: &mut Vec<u8>,
    ids: impl Iterator<Item = Uuid> + Clone,
) -> Result<(), BlockError> {
    for plane in 0..PLANES {
        let column: Vec<u8> = ids.clone().map(|id| id.as_bytes()[plane]).collect();
        packer.put(bytes, &column)?;
    }
    Ok(())
}

fn pack_payloads(packer: &mut Packer, bytes: &mut Vec<u8>, payloads: &[&[u8]]) -> Result<(), BlockError> {
    let mut lengths = Vec::new();
    let mut by_length: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
    for payload in payloads {
        put_number(&mut lengths, payload.len() as u64);
        by_length.entry(payload.len()).or_default().push(payload);
    }
    packer.put(bytes, &lengths)?;
    let mut planes = Vec::new();
    for (length, payloads) in by_length {
        for plane in 0..length {
            planes.extend(payloads.iter().map(|payload| payload[plane]));
        }
    }
    let (mut in_rows, mut in_planes) = (vec![LAYOUT_ROWS], vec![LAYOUT_PLANES]);
    packer.put(&mut in_rows, &payloads.concat())?;
    packer.put(&mut in_planes, &planes)?;
    bytes.extend(if in_rows.len() <= in_planes.len() { in_rows } else { in_planes });
    Ok(())
}

/// The commits of a block, with the checksums that are right for what it holds, but for those that were stored.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Commit>, BlockError> {
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
    let mut event_kinds = Taker(&event_kinds);
    let mut kind_of = Vec::with_capacity(events);
    for _ in 0..events {
        let kind = event_kinds.count(kinds.len().saturating_sub(1))?;
        kinds.get_mut(kind).ok_or(Malformed("it has events of no kind"))?.events += 1;
        kind_of.push(kind);
    }
    event_kinds.end()?;
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
    tails.links.end()?;
    tails.keys.end()?;
    if !texts.ids.is_empty() {
        return Err(Malformed("ids are left over").into());
    }
    if sum(&commits) != u32::from_be_bytes(*summed) {
        return Err(Malformed("its events do not have the checksums that were sealed").into());
    }
    Ok(commits)
}

/// Texts as they are read: the templates, and the ids that were not used yet.
struct KnownTexts<'b> {
    templates: Vec<(&'b str, usize)>,
    used: usize,
    ids: &'b [Uuid],
}

impl<'b> KnownTexts<'b> {
    fn new(list: &'b [u8], count: usize, ids: &'b [Uuid]) -> Result<Self, Malformed> {
        let mut from = Taker(list);
        let mut templates = Vec::new();
        for _ in 0..count {
            let template = from.text()?;
            let ids = from.count(ids.len())?;
            if ids > 0 && template::places(template) != ids {
                return Err(Malformed("a text has another number of ids"));
            }
            templates.push((template, ids));
        }
        from.end()?;
        Ok(Self { templates, used: 0, ids })
    }

    /// The text of a form that is neither [`FORM_NONE`] nor [`FORM_SAME`].
    fn text(&mut self, form: u64) -> Result<String, Malformed> {
        let at = match form.checked_sub(FORM_KNOWN) {
            Some(known) => usize::try_from(known).unwrap_or(usize::MAX),
            None => {
                self.used += 1;
                self.used - 1
            }
        };
        let (template, ids) = *self.templates.get(at).ok_or(Malformed("it has no such text"))?;
        if ids == 0 {
            return Ok(template.to_owned());
        }
        let (own, rest) = self.ids.split_at_checked(ids).ok_or(Malformed("it has too few ids"))?;
        self.ids = rest;
        Ok(template::join(template, own))
    }
}

/// A column of texts that are often repeated, each of them allocated once in a row.
struct SharedTexts<'b> {
    forms: Taker<'b>,
    last: Option<Arc<str>>,
}

impl<'b> SharedTexts<'b> {
    fn new(column: &'b [u8]) -> Self {
        Self { forms: Taker(column), last: None }
    }

    fn next(&mut self, texts: &mut KnownTexts<'_>) -> Result<Option<Arc<str>>, Malformed> {
        self.last = match self.forms.number()? {
            FORM_NONE => None,
            FORM_SAME => self.last.take(),
            form => Some(texts.text(form)?.into()),
        };
        Ok(self.last.clone())
    }
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
        for column in [self.counts, self.instants, self.actors.forms, self.reasons.forms, self.requests.forms] {
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

impl KnownKind {
    fn unpack_payloads(&mut self, unpacker: &mut Unpacker, from: &mut Taker<'_>) -> Result<(), Malformed> {
        let lengths = unpacker.take(from)?;
        let mut lengths_from = Taker(&lengths);
        let mut lengths = Vec::with_capacity(self.events);
        for _ in 0..self.events {
            lengths.push(lengths_from.count(COLUMN_BYTES_MAX)?);
        }
        lengths_from.end()?;
        let layout = from.bytes(1)?;
        let packed = unpacker.take(from)?;
        let mut packed = Taker(&packed);
        let mut payloads = vec![Vec::new(); self.events];
        match layout {
            [LAYOUT_ROWS] => {
                for (payload, length) in payloads.iter_mut().zip(&lengths) {
                    payload.extend_from_slice(packed.bytes(*length)?);
                }
            }
            [LAYOUT_PLANES] => {
                let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                for (at, length) in lengths.iter().enumerate() {
                    by_length.entry(*length).or_default().push(at);
                }
                for (length, places) in by_length {
                    let bytes = length.checked_mul(places.len()).ok_or(Malformed("payloads are too large"))?;
                    let planes = packed.bytes(bytes)?;
                    for (index, place) in places.iter().enumerate() {
                        payloads[*place] = (0..length).map(|plane| planes[plane * places.len() + index]).collect();
                    }
                }
            }
            _ => return Err(Malformed("payloads are laid out in an unknown way")),
        }
        packed.end()?;
        self.payloads = payloads.into_iter();
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
}

fn unpack_ids(unpacker: &mut Unpacker, from: &mut Taker<'_>, count: usize) -> Result<Vec<Uuid>, Malformed> {
    let mut planes = Vec::with_capacity(PLANES);
    for _ in 0..PLANES {
        let plane = unpacker.take(from)?;
        if plane.len() != count {
            return Err(Malformed("a column of ids has another length"));
        }
        planes.push(plane);
    }
    Ok((0..count).map(|at| Uuid::from_bytes(std::array::from_fn(|plane| planes[plane][at]))).collect())
}
