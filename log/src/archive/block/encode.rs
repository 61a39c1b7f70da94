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
    columns.put_commits(commits);
    let payloads = columns.put_events(first, &events)?;
    let mut bytes = Vec::new();
    for number in [first.0, commits.len() as u64, events.len() as u64, payloads.len() as u64] {
        put_number(&mut bytes, number);
    }
    for number in [columns.texts.templates.len(), columns.texts.ids.len()] {
        put_number(&mut bytes, number as u64);
    }
    columns.pack(packer, &mut bytes, commits)?;
    for of_kind in &payloads {
        pack_payloads(packer, &mut bytes, of_kind)?;
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
    /// What there is once for each commit.
    fn put_commits(&mut self, commits: &[Commit]) {
        let mut recorded_at = 0;
        let mut before: Option<&CommitMeta> = None;
        for commit in commits {
            let meta = &commit.meta;
            put_number(&mut self.counts, commit.events.len() as u64);
            put_signed(&mut self.instants, commit.recorded_at.wrapping_sub(recorded_at));
            recorded_at = commit.recorded_at;
            self.texts.put_optional(&mut self.actors, Some(&meta.actor), before.map(|meta| Some(&*meta.actor)));
            let reasons = before.map(|meta| meta.reason.as_deref());
            self.texts.put_optional(&mut self.reasons, meta.reason.as_deref(), reasons);
            let requests = before.map(|meta| meta.request_id.as_deref());
            self.texts.put_optional(&mut self.requests, meta.request_id.as_deref(), requests);
            before = Some(meta);
        }
    }

    /// What there is once for each event; answers the payloads, by kind.
    fn put_events<'c>(&mut self, first: Position, events: &[&'c Event]) -> Result<Vec<Vec<&'c [u8]>>, Malformed> {
        let mut payloads: Vec<Vec<&[u8]>> = Vec::new();
        let mut known: HashMap<(&str, &str, u32), usize> = HashMap::new();
        for (index, event) in events.iter().enumerate() {
            if event.position.0 != first.0 + index as u64 {
                return Err(Malformed("positions are not dense"));
            }
            let kind = (&*event.table, &*event.event_type, event.type_version);
            let at = *known.entry(kind).or_insert_with(|| {
                put_text(&mut self.kinds, kind.0.as_bytes());
                put_text(&mut self.kinds, kind.1.as_bytes());
                put_number(&mut self.kinds, kind.2.into());
                payloads.push(Vec::new());
                payloads.len() - 1
            });
            put_number(&mut self.event_kinds, at as u64);
            payloads[at].push(&event.payload);
            let back = match event.prev {
                None => 0,
                Some(prev) if prev < event.position && prev > Position::ZERO => event.position.0 - prev.0,
                Some(_) => return Err(Malformed("an event links to none before it")),
            };
            put_number(&mut self.links, back);
            let previous = (back > 0 && back <= index as u64).then(|| events[index - back as usize]);
            match previous {
                Some(previous) if previous.key == event.key => put_number(&mut self.keys, FORM_NONE),
                _ => {
                    let before = index.checked_sub(1).map(|before| Some(&*events[before].key));
                    self.texts.put_optional(&mut self.keys, Some(&event.key), before);
                }
            }
        }
        Ok(payloads)
    }

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
