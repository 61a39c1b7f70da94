//! What a caller is answered: now, after the append has given the positions, and again under the same `command_id`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use tasklog_log::{CommitId, Position, StoreError};

use super::{Engine, Request};
use crate::{
    backend::Backend,
    command::{AnyAnswer, Completion, ReplyMeta, Subject},
    rejection::{Error, Rejection},
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
        let Known { mut meta, of, texts } = match self.batch.answered.get(&id) {
            Some(known) => known.clone(),
            None => match self.backend.find(id)? {
                Some(stored) => parse_kept(id, &stored.answer)?,
                None => return Ok(None),
            },
        };
        check_repeat(id, &of, &request.names())?;
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

/// What is known of a command under its id.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) meta: ReplyMeta,
    /// The names of the commands.
    pub(super) of: Vec<Box<str>>,
    /// What they answered.
    pub(super) texts: Vec<String>,
}

/// The first part of a kept answer.
#[derive(Deserialize)]
struct KeptMeta {
    #[serde(flatten)]
    meta: ReplyMeta,
    /// The names of the commands; none in answers that were kept before these were.
    #[serde(default)]
    of: Vec<Box<str>>,
}

/// What a repeat of the command will be answered: `[meta, [answers]]`.
pub(super) fn kept_answer(meta: &ReplyMeta, of: &[&str], texts: &[String]) -> Vec<u8> {
    // Plain structs of numbers, ids and names.
    let meta = serde_json::to_string(meta).unwrap_or_default();
    let of = serde_json::to_string(of).unwrap_or_default();
    format!(r#"[{},"of":{of}}},[{}]]"#, meta.trim_end_matches('}'), texts.join(",")).into_bytes()
}

fn parse_kept(id: CommitId, answer: &[u8]) -> Result<Known, StoreError> {
    let (KeptMeta { meta, of }, texts): (KeptMeta, Vec<Box<RawValue>>) = serde_json::from_slice(answer)
        .map_err(|error| StoreError::corrupt_store(format!("kept answer of {id}: {error}")))?;
    let texts = texts.into_iter().map(|text| Box::<str>::from(text).into()).collect();
    Ok(Known { meta, of, texts })
}

/// An id stands for one command and its repeats: a caller that gives it to another one must not take the first one's answer
/// for its own.
fn check_repeat(id: CommitId, of: &[Box<str>], asked: &[&str]) -> Result<(), Rejection> {
    if of.is_empty() || of.iter().map(|name| &**name).eq(asked.iter().copied()) {
        return Ok(());
    }
    let (of, asked) = (of.join(", "), asked.join(", "));
    Err(Rejection::invalid(format!(
        "command_id: {id} is that of {of}, already done, and not of {asked}: use another one"
    )))
}
