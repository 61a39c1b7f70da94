//! Commands and their replies: what somebody wants changed, and the pure decision whether and how.

use std::{any::Any, fmt::Debug, sync::Arc};

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tasklog_log::{CommitId, Position};
use tasklog_projections::{AnyRow, Table, TableDef, typed};

use crate::{
    decision::{Decision, EventIndex, LeaseClaim},
    rejection::{Error, Rejection},
    text,
};

/// A command: what somebody wants changed, and the pure decision whether and how.
pub trait Command: DeserializeOwned + JsonSchema + Clone + Debug + Send + 'static {
    /// `<table>.<verb>`
    const NAME: &'static str;
    /// One line for the catalogue.
    const ABOUT: &'static str;
    /// Whether it goes on in further commits until it is done or its limit is reached.
    const CHUNKED: bool = false;
    /// The scope of the lease it cannot be called without, as the catalogue shows it.
    const LEASE: Option<&'static str> = None;
    /// What its reply says beyond what every reply says.
    type Answer: Serialize + DeserializeOwned + JsonSchema + Send + 'static;

    /// `(rows, command, now, configuration) -> events and answer | rejection`. A chunked command that calls
    /// [`Decision::more`] is decided again on the same value, which carries what it has done so far.
    ///
    /// # Errors
    /// A rejection, or the store's error.
    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Self::Answer, Error>;

    /// The key of the row that it is about, if it is about one that has little to do with others: commands on different
    /// rows may be decided at the same time by different writers, and those on one row had better not.
    fn row(&self) -> Option<&str> {
        None
    }

    /// Completes the answer with what only the append knows: positions, and the rows as folded with them.
    fn complete(_answer: &mut Self::Answer, _done: &Completion<'_>) {}
}

/// What every command may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOptions {
    /// Who; the store's actor if absent.
    pub actor: Option<Arc<str>>,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// The caller's request.
    pub request_id: Option<Arc<str>>,
    /// Becomes the commit id; a repeat answers the first outcome.
    pub command_id: Option<CommitId>,
    /// The lease under which the command works.
    pub lease: Option<LeaseClaim>,
}

/// A reply: what every command answers, and what this one adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reply<A> {
    /// False for a no-op.
    pub changed: bool,
    /// None for a no-op.
    pub commit_id: Option<CommitId>,
    /// The commit's last event, or the head the answer reflects.
    pub position: Position,
    /// The row's rev; none if it is gone, or if the command is about no one row.
    pub rev: Option<Position>,
    /// Whether this is the outcome of an earlier call with the same `command_id`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// What this command adds.
    #[serde(flatten)]
    pub answer: A,
}

/// The part of a reply that every command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyMeta {
    /// False for a no-op.
    pub changed: bool,
    /// None for a no-op.
    pub commit_id: Option<CommitId>,
    /// The commit's first event; none for a no-op.
    pub first: Option<Position>,
    /// The commit's last event, or the head the answer reflects.
    pub position: Position,
    /// The row's rev.
    pub rev: Option<Position>,
    /// Whether this is the outcome of an earlier call.
    #[serde(default)]
    pub repeated: bool,
}

/// What an append tells a reply.
pub struct Completion<'a> {
    pub(crate) first: Position,
    /// The row that the command was about, as the commit left it.
    pub(crate) row: Option<&'a Subject>,
}

/// A row that a command was about, as its commit left it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) table: &'static TableDef,
    pub(crate) key: String,
    pub(crate) row: AnyRow,
    pub(crate) rev: Position,
}

impl Completion<'_> {
    /// Where an event went.
    #[must_use]
    pub fn position(&self, event: EventIndex) -> Position {
        Position(self.first.0 + event.0 as u64)
    }

    /// The command's subject as this commit left it; none if it is gone.
    #[must_use]
    pub fn row<T: Table>(&self, key: &str) -> Option<(Arc<T::Row>, Position)> {
        let subject = self.row.filter(|subject| subject.table.name == T::NAME && subject.key == key)?;
        typed::<T>(Arc::clone(&subject.row)).ok().map(|row| (row, subject.rev))
    }
}

/// A command whose type is known at run time only.
pub trait AnyCommand: Send + Debug {
    /// [`Command::NAME`]
    fn name(&self) -> &'static str;
    /// [`Command::CHUNKED`]
    fn chunked(&self) -> bool;
    /// [`Command::decide`]
    ///
    /// # Errors
    /// A rejection, or the store's error.
    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Box<dyn AnyAnswer>, Error>;
    /// [`Command::row`]
    fn row(&self) -> Option<&str>;
    /// The same command with what it has done so far.
    fn fork(&self) -> Box<dyn AnyCommand>;
}

/// An answer whose type is known at run time only.
pub trait AnyAnswer: Any + Send {
    /// [`Command::complete`]
    fn complete(&mut self, done: &Completion<'_>);
    /// The fields as the text of a JSON object.
    fn to_json(&self) -> String;
}

struct AnswerOf<C: Command>(C::Answer);

impl<C: Command> AnyCommand for C {
    fn name(&self) -> &'static str {
        C::NAME
    }
    fn chunked(&self) -> bool {
        C::CHUNKED
    }
    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Box<dyn AnyAnswer>, Error> {
        Ok(Box::new(AnswerOf::<C>(Command::decide(self, cx)?)))
    }
    fn row(&self) -> Option<&str> {
        Command::row(self)
    }
    fn fork(&self) -> Box<dyn AnyCommand> {
        Box::new(self.clone())
    }
}

impl<C: Command> AnyAnswer for AnswerOf<C> {
    fn complete(&mut self, done: &Completion<'_>) {
        C::complete(&mut self.0, done);
    }
    fn to_json(&self) -> String {
        // Answers are plain structs of texts, numbers and rows.
        serde_json::to_string(&self.0).unwrap_or_else(|_| "{}".into())
    }
}

/// The typed answer in a box, if it is `C`'s.
pub(crate) fn typed_answer<C: Command>(answer: Box<dyn AnyAnswer>) -> Option<C::Answer> {
    (answer as Box<dyn Any>).downcast::<AnswerOf<C>>().ok().map(|answer| answer.0)
}

/// A command as the catalogue lists it.
#[derive(Clone, Copy)]
pub struct CommandDef {
    /// `<table>.<verb>`
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether it may take several commits.
    pub chunked: bool,
    /// The lease it cannot be called without.
    pub lease: Option<&'static str>,
    /// JSON Schema of the arguments.
    pub args: fn() -> Schema,
    /// JSON Schema of what the reply adds.
    pub answer: fn() -> Schema,
    /// From arguments.
    pub parse: fn(&RawValue) -> Result<Box<dyn AnyCommand>, Rejection>,
}

impl CommandDef {
    /// The catalogue's entry for `C`.
    #[must_use]
    pub const fn of<C: Command>() -> Self {
        Self {
            name: C::NAME,
            about: C::ABOUT,
            chunked: C::CHUNKED,
            lease: C::LEASE,
            args: || schemars::schema_for!(C),
            answer: || schemars::schema_for!(C::Answer),
            parse: |args| match text::arguments::<C>(args) {
                Ok(command) => Ok(Box::new(command)),
                Err(why) => Err(Rejection::invalid(format!("{}: arguments: {why}", C::NAME))),
            },
        }
    }
}
