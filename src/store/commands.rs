//! Commands on their way to the committer, and their answers.

use tasklog_log::StoreError;

use super::TaskStore;
use crate::{
    command::{AnyCommand, Command, CommandOptions, Reply, typed_answer},
    committer::{Lanes, Pending},
    engine::{Answers, AnyReply, Request},
    rejection::{Error, Rejection},
};

impl TaskStore {
    /// Runs a command.
    ///
    /// # Errors
    /// Its rejections, and the store's errors.
    pub async fn run<C: Command>(&self, command: C) -> Result<Reply<C::Answer>, Error> {
        self.run_with(command, CommandOptions::default()).await
    }

    /// Runs a command on behalf of somebody, with a reason, under a lease, or repeatable under an id.
    ///
    /// # Errors
    /// Its rejections, and the store's errors.
    pub async fn run_with<C: Command>(&self, command: C, options: CommandOptions) -> Result<Reply<C::Answer>, Error> {
        let pending = self.committer()?.send(Request::one(Box::new(command), options)).await?;
        typed_reply::<C>(pending.answer().await?)
    }

    /// [`TaskStore::run_with`] for threads outside an async runtime.
    ///
    /// # Errors
    /// Its rejections, and the store's errors.
    pub fn run_blocking<C: Command>(&self, command: C, options: CommandOptions) -> Result<Reply<C::Answer>, Error> {
        typed_reply::<C>(self.send_blocking(Request::one(Box::new(command), options))?)
    }

    /// Decides several commands in order as one commit: each sees the effects of those before it, and the first
    /// rejection refuses all.
    ///
    /// # Errors
    /// The first rejection, naming its command; and the store's errors.
    pub async fn transact(
        &self,
        commands: Vec<Box<dyn AnyCommand>>,
        options: CommandOptions,
    ) -> Result<AnyReply, Error> {
        self.send(Request::transact(commands, options)).await
    }

    /// Runs a request whose commands are known at run time only.
    ///
    /// # Errors
    /// The rejection, and the store's errors.
    pub async fn send(&self, request: Request) -> Result<AnyReply, Error> {
        self.committer()?.send(request).await?.answer().await
    }

    /// [`TaskStore::send`] for threads outside an async runtime.
    ///
    /// # Errors
    /// The rejection, and the store's errors.
    pub fn send_blocking(&self, request: Request) -> Result<AnyReply, Error> {
        self.committer()?.send_blocking(request)?.answer_blocking()
    }

    /// Queues a request from a thread outside an async runtime; the answer comes when its batch is durable.
    ///
    /// # Errors
    /// `read_only` or `unavailable`.
    pub fn queue(&self, request: Request) -> Result<QueuedAnswer, Error> {
        Ok(QueuedAnswer(self.committer()?.send_blocking(request)?))
    }

    /// Queues a request, waiting for room: requests that one caller queues one after another are decided in that order,
    /// and stand so in the log. With a [`Stream`](crate::engine::Stream) of their own none of them is carried out behind one that the
    /// store could not carry out.
    ///
    /// # Errors
    /// `read_only` or `unavailable`.
    pub async fn enqueue(&self, request: Request) -> Result<QueuedAnswer, Error> {
        Ok(QueuedAnswer(self.committer()?.send_ordered(request).await?))
    }

    pub(super) fn committer(&self) -> Result<&Lanes, StoreError> {
        self.inner.committer.as_ref().ok_or_else(|| {
            StoreError::ReadOnly(self.inner.read_only.clone().unwrap_or_else(|| "this handle takes no commands".into()))
        })
    }
}

/// The answer of a queued request.
pub struct QueuedAnswer(Pending);

impl QueuedAnswer {
    /// Waits until the request's batch is durable.
    ///
    /// # Errors
    /// The rejection, and the store's errors.
    pub fn wait(self) -> Result<AnyReply, Error> {
        self.0.answer_blocking()
    }

    /// [`QueuedAnswer::wait`] in an async runtime.
    ///
    /// # Errors
    /// The rejection, and the store's errors.
    pub async fn answer(self) -> Result<AnyReply, Error> {
        self.0.answer().await
    }
}

fn typed_reply<C: Command>(reply: AnyReply) -> Result<Reply<C::Answer>, Error> {
    let AnyReply { meta, answers, .. } = reply;
    let answer = match answers {
        Answers::Fresh(mut answers) => answers.pop().and_then(typed_answer::<C>),
        Answers::Repeated(texts) => texts.first().and_then(|text| serde_json::from_str(text).ok()),
    };
    let answer = answer.ok_or_else(|| Rejection::conflict("command_id", C::NAME, "the id of another command"))?;
    let crate::command::ReplyMeta { changed, commit_id, position, rev, repeated, .. } = meta;
    Ok(Reply { changed, commit_id, position, rev, repeated, answer })
}
