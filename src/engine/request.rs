//! What a caller wants of the engine: the request, as the wire and the store's handles make it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tasklog_log::{Millis, StoreError};

use crate::{
    command::{AnyCommand, CommandOptions, ReplyMeta},
    rejection::Rejection,
    text,
};

/// Commands in one transact.
pub const TRANSACT_COMMANDS_MAX: usize = 1_000;

/// One caller's wish: a command, or several to be decided as one commit.
#[derive(Debug)]
pub struct Request {
    /// In order.
    pub commands: Vec<Box<dyn AnyCommand>>,
    /// Whether they are one transact; otherwise there is exactly one.
    pub transact: bool,
    /// Actor, reason, ids, lease.
    pub options: CommandOptions,
    /// The instant to decide at, for recordings that bring their own time.
    pub at: Option<Millis>,
    /// What the last round of a chunked command made, if there was one.
    pub(crate) earlier: Option<ReplyMeta>,
    /// Whether its caller sends others without waiting for the answer: they are decided, and stand in the log, in the
    /// order in which they came.
    pub(crate) ordered: bool,
    /// The others that its caller sends without waiting for the answer: what follows one at which the store failed is not
    /// carried out.
    pub stream: Option<Stream>,
}

/// What a caller sends in order without waiting for answers. Once the store has failed at one of them, it refuses those
/// behind it: they were sent for a state that did not come about, and what is in the log is always a beginning of the stream.
#[derive(Clone, Debug, Default)]
pub struct Stream(Arc<AtomicBool>);

impl Stream {
    /// The store has failed at one of them.
    pub(crate) fn fail(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// # Errors
    /// `unavailable` once the store has failed at one of them.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !self.0.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(StoreError::unavailable(
            "the store failed at a command before this one in the same stream, and so this one is not carried out",
        ))
    }
}

impl Request {
    /// Several commands, decided in order as one commit.
    #[must_use]
    pub fn transact(commands: Vec<Box<dyn AnyCommand>>, options: CommandOptions) -> Self {
        Self { commands, transact: true, options, at: None, earlier: None, ordered: false, stream: None }
    }

    /// One command.
    #[must_use]
    pub fn one(command: Box<dyn AnyCommand>, options: CommandOptions) -> Self {
        Self {
            commands: vec![command],
            transact: false,
            options,
            at: None,
            earlier: None,
            ordered: false,
            stream: None,
        }
    }

    /// The request as it is before a round that a clash may take back; none if a round changes nothing in it.
    pub(crate) fn before_round(&self) -> Option<Self> {
        let chunked = self.commands.iter().any(|command| command.chunked());
        chunked.then(|| Self {
            commands: self.commands.iter().map(|command| command.fork()).collect(),
            transact: self.transact,
            options: self.options.clone(),
            at: self.at,
            earlier: self.earlier,
            ordered: self.ordered,
            stream: self.stream.clone(),
        })
    }

    /// The names of its commands.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.commands.iter().map(|command| command.name()).collect()
    }

    /// Refuses what no decision has to look at.
    pub(super) fn check(&self) -> Result<(), Rejection> {
        let CommandOptions { actor, reason, request_id, .. } = &self.options;
        for (what, value) in [("actor", actor), ("reason", reason), ("request_id", request_id)] {
            text::meta(what, value.as_deref().unwrap_or_default())?;
        }
        let found = self.commands.len();
        if found > TRANSACT_COMMANDS_MAX {
            return Err(Rejection::invalid(format!(
                "transact: at most {TRANSACT_COMMANDS_MAX} commands, found {found}"
            )));
        }
        Ok(())
    }
}
