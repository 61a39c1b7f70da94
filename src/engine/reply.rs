//! What a caller is answered: now, after the append has given the positions, and again under the same `command_id`.

use std::sync::Arc;

use serde_json::value::RawValue;
use tasklog_log::{CommitId, Position, StoreError};

use super::{Engine, Request};
use crate::{
    backend::Backend,
    command::{AnyAnswer, Completion, ReplyMeta, Subject},
    rejection::Error,
};

/// A reply whose command is known at run time only.
pub struct AnyReply {
    /// What every reply says.
    pub meta: ReplyMeta,
    /// What the commands add, in order.
    pub answers: Answers,
    /// What its answers wait for, if its positions are not known yet.
    pub(crate) waits_for: Option<Box<Unplaced>>,
}

/// What completes the answers of one request.
pub(crate) struct Unplaced {
    pub(super) first: Position,
    /// The subject of each command.
    pub(super) rows: Vec<Option<Subject>>,
}

impl Unplaced {
    /// The same with positions as `real` gives them.
    pub(super) fn placed(&self, real: &dyn Fn(Position) -> Position) -> Result<Self, StoreError> {
        let place = |subject: &Subject| {
            let row = subject.table.with_positions(Arc::clone(&subject.row), real);
            let row = row.map_err(StoreError::corrupt_store)?;
            Ok(Subject { table: subject.table, key: subject.key.clone(), row, rev: real(subject.rev) })
        };
        let rows = self.rows.iter().map(|row| row.as_ref().map(place).transpose());
        Ok(Self { first: real(self.first), rows: rows.collect::<Result<_, StoreError>>()? })
    }

    pub(super) fn complete(&self, answers: &mut [Box<dyn AnyAnswer>]) {
        for (answer, row) in answers.iter_mut().zip(&self.rows) {
            answer.complete(&Completion { first: self.first, row: row.as_ref() });
        }
    }
}

/// Answers of one request.
pub enum Answers {
    /// Of commands decided now.
    Fresh(Vec<Box<dyn AnyAnswer>>),
    /// Of an earlier call with the same `command_id`: the texts of JSON objects.
    Repeated(Vec<String>),
}

impl Answers {
    /// Every answer as the text of a JSON object.
    #[must_use]
    pub fn to_json(&self) -> Vec<String> {
        match self {
            Self::Fresh(answers) => texts_of(answers),
            Self::Repeated(texts) => texts.clone(),
        }
    }
}

impl<B: Backend> Engine<B> {
    /// What was answered before under the `command_id` that the request brings.
    pub(super) fn repeated(&mut self, request: &Request) -> Result<Option<AnyReply>, Error> {
        let Some(id) = request.options.command_id else { return Ok(None) };
        let (mut meta, texts) = match self.batch.answered.get(&id) {
            Some((meta, texts)) => (*meta, texts.clone()),
            None => match self.backend.find(id)? {
                Some(stored) => parse_kept(id, &stored.answer)?,
                None => return Ok(None),
            },
        };
        meta.repeated = true;
        Ok(Some(AnyReply { meta, answers: Answers::Repeated(texts), waits_for: None }))
    }

    /// Gives a reply its positions, once its batch is written.
    ///
    /// # Errors
    /// `corrupt`, if a row cannot hold its positions.
    pub fn complete(&self, reply: &mut AnyReply, item: Option<usize>) -> Result<(), StoreError> {
        let placed = &self.batch.placed;
        let Some(head) = placed.known_head() else { return Ok(()) };
        let real = |position: Position| placed.real(position).unwrap_or(head);
        reply.meta = with_places(&reply.meta, &real);
        if !reply.meta.changed && item.is_some() {
            // What it saw was so when the batch was written.
            reply.meta.position = head;
        }
        if let (Some(unplaced), Answers::Fresh(answers)) = (reply.waits_for.take(), &mut reply.answers) {
            unplaced.placed(&real)?.complete(answers);
        }
        Ok(())
    }

    /// Gives a request that wants another round the positions of the one that was just written: the last round may find
    /// nothing left, and then reports it.
    pub fn complete_round(&self, request: &mut Request) {
        let placed = &self.batch.placed;
        if let (Some(earlier), Some(head)) = (&mut request.earlier, placed.known_head()) {
            *earlier = with_places(earlier, &|position| placed.real(position).unwrap_or(head));
        }
    }
}

/// What the commands add, as the texts of JSON objects.
pub(super) fn texts_of(answers: &[Box<dyn AnyAnswer>]) -> Vec<String> {
    answers.iter().map(|answer| answer.to_json()).collect()
}

/// The same with positions as `real` gives them.
pub(super) fn with_places(meta: &ReplyMeta, real: &dyn Fn(Position) -> Position) -> ReplyMeta {
    ReplyMeta { first: meta.first.map(real), position: real(meta.position), rev: meta.rev.map(real), ..*meta }
}

/// What a repeat of the command will be answered: `[meta, [answers]]`.
pub(super) fn kept_answer(meta: &ReplyMeta, texts: &[String]) -> Vec<u8> {
    // A plain struct of numbers and ids.
    let meta = serde_json::to_string(meta).unwrap_or_default();
    format!("[{meta},[{}]]", texts.join(",")).into_bytes()
}

fn parse_kept(id: CommitId, answer: &[u8]) -> Result<(ReplyMeta, Vec<String>), StoreError> {
    let (meta, texts): (ReplyMeta, Vec<Box<RawValue>>) = serde_json::from_slice(answer)
        .map_err(|error| StoreError::corrupt_store(format!("kept answer of {id}: {error}")))?;
    Ok((meta, texts.into_iter().map(|text| Box::<str>::from(text).into()).collect()))
}
