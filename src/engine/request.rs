//! What a caller wants of the engine: the request, as the wire and the store's handles make it.

use tasklog_log::Millis;

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
}

impl Request {
    /// Several commands, decided in order as one commit.
    #[must_use]
    pub fn transact(commands: Vec<Box<dyn AnyCommand>>, options: CommandOptions) -> Self {
        Self { commands, transact: true, options, at: None, earlier: None, ordered: false }
    }

    /// One command.
    #[must_use]
    pub fn one(command: Box<dyn AnyCommand>, options: CommandOptions) -> Self {
        Self { commands: vec![command], transact: false, options, at: None, earlier: None, ordered: false }
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
        })
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
