//! What a decision leaves in the batch: its commit, or the conditions it rests on.

use std::sync::Arc;

use tasklog_log::{CommitId, CommitMeta, Millis, NewCommit, Position};
use tasklog_projections::TableDef;

use super::{
    Answers, AnyReply, Decided, Engine, Request,
    reply::{Known, Unplaced, kept_answer, texts_of, with_places},
};
use crate::{
    Rejection,
    backend::{Backend, Item},
    command::{AnyAnswer, ReplyMeta, Subject},
    decision::Made,
    keep::{self, KeptPart},
    rejection::Error,
};

/// Whether a decision rests on rows that somebody has looked at.
pub(super) enum Sure {
    Yes,
    No,
}

/// What a repeat will be answered: as it is stored, or in pieces as long as it has no positions.
#[derive(Default)]
struct Kept {
    answer: Option<Vec<u8>>,
    parts: Option<Vec<KeptPart>>,
}

impl<B: Backend> Engine<B> {
    /// Puts what was decided into the batch.
    pub(super) fn accept(
        &mut self,
        request: &mut Request,
        made: Made,
        subjects: &[Option<(&'static TableDef, String)>],
        mut answers: Vec<Box<dyn AnyAnswer>>,
        now: Millis,
    ) -> Result<Decided, Error> {
        let first = self.batch.last.next();
        let known = |(table, key): &(&'static TableDef, String)| {
            let (row, rev) = self.rows.peek(table, key)?;
            Some(Subject { table, key: key.clone(), row, rev })
        };
        let unplaced = Unplaced { first, rows: subjects.iter().map(|at| at.as_ref().and_then(known)).collect() };
        // The round that ends a chunked command carries the caller's id: if it is in the log, the command is done.
        let asked = request.options.command_id;
        let given = asked.filter(|_| !made.more);
        if given == Some(self.batch.from.commit) {
            // Two neighbours under one id could not be told from one commit that was appended twice.
            return Err(Rejection::invalid(format!(
                "command_id: it is the id of the newest commit, at event {}, whose answer is no longer kept: use another one",
                self.batch.from.position
            ))
            .into());
        }
        self.batch.latest = now;
        self.batch.last = Position(self.batch.last.0 + made.events.len() as u64);
        let id = given.unwrap_or_else(CommitId::mint);
        let meta = self.meta(Some((id, first)), subjects.last().and_then(Option::as_ref), now);
        let shared = self.backend.shared().is_some();
        if !shared {
            unplaced.complete(&mut answers);
        }
        let kept = match given {
            Some(id) => self.keep(id, &request.names(), &meta, &unplaced, &mut answers)?,
            None => Kept::default(),
        };
        let decided_at = (now != self.batch.now).then_some(now);
        let Made { conditions, events, valid_until, dead, more, look_again, .. } = made;
        let commit =
            NewCommit { meta: self.commit_meta(request, id), decided_at, conditions, events, answer: kept.answer };
        self.push(Item { commit, valid_until, dead, asked, kept: kept.parts, first, ordered: request.ordered });
        if more || (look_again && !request.transact) {
            request.earlier = Some(meta);
            if given.is_some() {
                // It is spent: the next round would find its own command's first outcome under it.
                request.options.command_id = None;
            }
            return Ok(Decided::Again);
        }
        let waits_for = shared.then(|| Box::new(unplaced));
        Ok(Decided::Reply(AnyReply { meta, answers: Answers::Fresh(answers), waits_for }))
    }

    /// Keeps what a repeat under `id` will be answered, within this batch and after it.
    fn keep(
        &mut self,
        id: CommitId,
        of: &[&'static str],
        meta: &ReplyMeta,
        unplaced: &Unplaced,
        answers: &mut [Box<dyn AnyAnswer>],
    ) -> Result<Kept, Error> {
        let known = |texts| Known { meta: *meta, of: of.iter().map(|name| (*name).into()).collect(), texts };
        if self.backend.shared().is_some() {
            let parts = keep::with_places(answers, |answers, real| {
                unplaced.placed(real)?.complete(answers);
                Ok(kept_answer(&with_places(meta, real), of, &texts_of(answers)))
            })?;
            // Until it has its places, a repeat within the batch waits for the next one.
            self.batch.answered.insert(id, known(Vec::new()));
            return Ok(Kept { answer: None, parts: Some(parts) });
        }
        let texts = texts_of(answers);
        let answer = kept_answer(meta, of, &texts);
        self.batch.answered.insert(id, known(texts));
        Ok(Kept { answer: Some(answer), parts: None })
    }

    /// What the reply says beside the answers; `made` is the commit and its first event, if there is one.
    pub(super) fn meta(
        &self,
        made: Option<(CommitId, Position)>,
        subject: Option<&(&'static TableDef, String)>,
        now: Millis,
    ) -> ReplyMeta {
        // A dead row is gone, whether housekeeping has removed it or not.
        let row = subject.and_then(|(table, key)| self.rows.peek(table, key)).filter(|(row, _)| row.is_live(now));
        let rev = row.map(|(_, rev)| rev);
        let (commit_id, first) = made.unzip();
        ReplyMeta { changed: made.is_some(), commit_id, first, position: self.batch.last, rev, repeated: false }
    }

    /// A decision that made no event rests on what it read all the same: where others write as well, the append checks
    /// that it still holds.
    pub(super) fn observe(&mut self, request: &Request, made: Made) -> Sure {
        if self.backend.shared().is_none() || (made.conditions.is_empty() && request.options.command_id.is_none()) {
            return Sure::Yes;
        }
        if made.assumed {
            return Sure::No;
        }
        let meta = self.commit_meta(request, CommitId::mint());
        let Made { conditions, valid_until, dead, .. } = made;
        let commit = NewCommit { meta, decided_at: None, conditions, events: Vec::new(), answer: None };
        self.push(Item {
            commit,
            valid_until,
            dead,
            asked: request.options.command_id,
            kept: None,
            first: self.batch.last,
            ordered: request.ordered,
        });
        Sure::Yes
    }

    fn push(&mut self, item: Item) {
        self.item = Some(self.batch.items.len());
        self.batch.items.push(item);
    }

    fn commit_meta(&self, request: &Request, id: CommitId) -> CommitMeta {
        let options = &request.options;
        CommitMeta {
            id,
            actor: options.actor.clone().unwrap_or_else(|| Arc::clone(&self.actor)),
            reason: options.reason.clone(),
            request_id: options.request_id.clone(),
        }
    }
}
