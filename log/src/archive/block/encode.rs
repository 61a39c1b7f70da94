//! Commits into columns.

use std::collections::HashMap;

use super::{
    BlockError,
    ids::pack_ids,
    payloads::pack_payloads,
    sums::{put_damaged, sum},
    texts::{FORM_NONE, Texts},
};
use crate::{
    Commit, CommitMeta, Event, Position,
    archive::bytes::{Malformed, Packer, put_number, put_signed, put_text},
};

/// The bytes of a block of dense commits.
pub(in crate::archive) fn encode(packer: &mut Packer, commits: &[Commit]) -> Result<Vec<u8>, BlockError> {
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
    let mut kinds: Vec<Vec<&[u8]>> = Vec::new();
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
            kinds.push(Vec::new());
            kinds.len() - 1
        });
        put_number(&mut columns.event_kinds, at as u64);
        kinds[at].push(&event.payload);
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
    for payloads in &kinds {
        pack_payloads(packer, &mut bytes, payloads)?;
    }
    put_damaged(&mut bytes, first, commits);
    bytes.extend_from_slice(&sum(commits).to_be_bytes());
    Ok(bytes)
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
        for column in [&self.counts, &self.instants] {
            packer.put(bytes, column)?;
        }
        pack_ids(packer, bytes, commits.iter().map(|commit| commit.meta.id.0))?;
        packer.put(bytes, &self.texts.list())?;
        pack_ids(packer, bytes, self.texts.ids.iter().copied())?;
        for column in
            [&self.actors, &self.reasons, &self.requests, &self.kinds, &self.event_kinds, &self.links, &self.keys]
        {
            packer.put(bytes, column)?;
        }
        Ok(())
    }
}
