//! The writer without its thread: decides requests in order and writes a batch of them as one transaction.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use ahash::RandomState;
use tasklog_log::{Checkpoint, CommitId, CommitMeta, Millis, NewCommit, Position, StoreError};
use tasklog_projections::TABLES;

use crate::{
    backend::Backend,
    command::{AnyAnswer, AnyCommand, CommandOptions, Completion, ReplyMeta},
    config::Config,
    decision::{Decision, Made},
    rejection::{Error, Rejection},
    rows::Rows,
    tables::leader_lease,
    text,
};

/// How often housekeeping removes what has died, by the log's clock.
const SWEEP_INTERVAL_MS: Millis = 1_000;
/// Dead rows removed from one table by one round of housekeeping.
const SWEEP_ROWS_MAX: usize = 2_000;
/// How often a decision is made again because its rows changed under it.
pub const DECIDE_ATTEMPTS_MAX: usize = 8;
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
}

impl Request {
    /// Several commands, decided in order as one commit.
    #[must_use]
    pub fn transact(commands: Vec<Box<dyn AnyCommand>>, options: CommandOptions) -> Self {
        Self { commands, transact: true, options, at: None, earlier: None }
    }

    /// One command.
    #[must_use]
    pub fn one(command: Box<dyn AnyCommand>, options: CommandOptions) -> Self {
        Self { commands: vec![command], transact: false, options, at: None, earlier: None }
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
        })
    }
}

/// A reply whose command is known at run time only.
pub struct AnyReply {
    /// What every reply says.
    pub meta: ReplyMeta,
    /// What the commands add, in order.
    pub answers: Answers,
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
            Self::Fresh(answers) => answers.iter().map(|answer| answer.to_json()).collect(),
            Self::Repeated(texts) => texts.clone(),
        }
    }
}

/// What has become of a request within a batch.
pub enum Decided {
    /// Its reply, to be given once the batch is durable.
    Reply(AnyReply),
    /// A round of a chunked command is in the batch, and it wants another one in the next.
    Again,
}

/// Decides requests in order against one store, and writes a whole batch of them as one transaction.
///
/// ```text
/// begin ─► decide ─► decide ─► ... ─► finish      (answer the callers only now)
///             └─ rejected: undone, costs the others nothing
/// ```
/// It has no thread and no queue: the committer gives it both.
pub struct Engine<B> {
    backend: B,
    rows: Rows,
    config: Config,
    actor: Arc<str>,
    batch: Batch,
    swept_at: Millis,
    /// The newest commit's instant, for readers in this process.
    recorded_at: Arc<AtomicI64>,
}

struct Batch {
    from: Checkpoint,
    now: Millis,
    /// The instant of the newest commit, of this batch or before it.
    latest: Millis,
    last: Position,
    commits: Vec<NewCommit>,
    answered: HashMap<CommitId, (ReplyMeta, Vec<String>), RandomState>,
}

impl<B: Backend> Engine<B> {
    /// A writer over `backend`.
    ///
    /// # Errors
    /// `unavailable`, or `invalid` configuration.
    pub fn new(mut backend: B, config: Config, actor: Arc<str>) -> Result<Self, Error> {
        config.check()?;
        let from = backend.head()?;
        let answered = HashMap::default();
        let batch =
            Batch { from, now: 0, latest: from.recorded_at, last: from.position, commits: Vec::new(), answered };
        Ok(Self {
            backend,
            rows: Rows::new(),
            config,
            actor,
            batch,
            swept_at: 0,
            recorded_at: Arc::new(AtomicI64::new(from.recorded_at)),
        })
    }

    /// The store.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// The newest durable commit's instant, kept up to date.
    #[must_use]
    pub fn recorded_at(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.recorded_at)
    }

    /// Decides one request and makes it durable, alone.
    ///
    /// # Errors
    /// The rejection, or the store's error.
    pub fn execute(&mut self, mut request: Request) -> Result<AnyReply, Error> {
        for _ in 0..DECIDE_ATTEMPTS_MAX {
            loop {
                self.begin()?;
                let before = request.before_round();
                let decided = self.decide(&mut request);
                match (self.finish()?, decided?) {
                    (false, _) => {
                        request = before.unwrap_or(request);
                        break;
                    }
                    (true, Decided::Reply(reply)) => return Ok(reply),
                    (true, Decided::Again) => {}
                }
            }
        }
        Err(too_many_attempts().into())
    }

    /// Begins a batch.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        let begun = self.try_begin();
        if begun.is_err() {
            self.abandon();
        }
        begun
    }

    fn try_begin(&mut self) -> Result<(), StoreError> {
        if self.backend.begin()? {
            self.rows.clear();
        }
        let from = self.backend.head()?;
        let now = self.backend.now()?;
        self.batch.from = from;
        self.batch.now = now;
        self.batch.latest = from.recorded_at;
        self.batch.last = from.position;
        self.batch.commits.clear();
        self.batch.answered.clear();
        // A round that met its bound goes on with the next batch.
        if now >= self.swept_at + SWEEP_INTERVAL_MS && self.sweep(now)? {
            self.swept_at = now;
        }
        Ok(())
    }

    /// Housekeeping: rows dead at the head's instant, tombstones and answers past their retention. Answers whether it is
    /// done.
    fn sweep(&mut self, now: Millis) -> Result<bool, StoreError> {
        let ms = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let buried_before = now.saturating_sub(ms(self.config.tombstone_retention));
        let dead_at = self.batch.from.recorded_at;
        let mut done = true;
        for table in TABLES {
            let removed = self.backend.view().sweep(table, dead_at, buried_before, SWEEP_ROWS_MAX)?;
            self.rows.swept(table, &removed);
            done &= removed.len() < SWEEP_ROWS_MAX;
        }
        let answered_before = now.saturating_sub(ms(self.config.command_id_retention));
        Ok(self.backend.forget_answers(answered_before)? && done)
    }

    /// How many events the batch has so far.
    #[must_use]
    pub fn batch_events(&self) -> u64 {
        self.batch.last.0 - self.batch.from.position.0
    }

    /// Decides one request on top of what the batch has so far.
    ///
    /// # Errors
    /// The rejection, which leaves the batch as it was; or the store's error.
    pub fn decide(&mut self, request: &mut Request) -> Result<Decided, Error> {
        if let Some(reply) = self.repeated(request)? {
            return Ok(Decided::Reply(reply));
        }
        self.rows.begin(self.batch.last.next());
        let decided = self.decide_fresh(request);
        match decided {
            Ok(decided) => Ok(decided),
            Err(error) => {
                self.rows.undo();
                Err(error)
            }
        }
    }

    fn repeated(&mut self, request: &Request) -> Result<Option<AnyReply>, Error> {
        let Some(id) = request.options.command_id else { return Ok(None) };
        let (mut meta, texts) = match self.batch.answered.get(&id) {
            Some((meta, texts)) => (*meta, texts.clone()),
            None => match self.backend.find(id)? {
                Some(stored) => serde_json::from_slice(&stored.answer)
                    .map_err(|error| StoreError::corrupt_store(format!("kept answer of {id}: {error}")))
                    .map(|(meta, texts): (ReplyMeta, Vec<Box<serde_json::value::RawValue>>)| {
                        (meta, texts.iter().map(|text| text.get().to_owned()).collect())
                    })?,
                None => return Ok(None),
            },
        };
        meta.repeated = true;
        Ok(Some(AnyReply { meta, answers: Answers::Repeated(texts) }))
    }

    fn decide_fresh(&mut self, request: &mut Request) -> Result<Decided, Error> {
        check_options(&request.options)?;
        if request.commands.len() > TRANSACT_COMMANDS_MAX {
            let found = request.commands.len();
            return Err(Rejection::invalid(format!(
                "transact: at most {TRANSACT_COMMANDS_MAX} commands, found {found}"
            ))
            .into());
        }
        // What is decided later is recorded later: time does not step back within a batch either.
        let now = request.at.unwrap_or(self.batch.now).max(self.batch.latest);
        let mut cx = Decision {
            now,
            config: &self.config,
            rows: &mut self.rows,
            store: &mut self.backend,
            lease: request.options.lease.as_ref(),
            made: Made::default(),
        };
        if let Some(claim) = &request.options.lease {
            leader_lease::check_claim(&mut cx, claim)?;
        }
        let mut answers = Vec::with_capacity(request.commands.len());
        let mut subject = None;
        for (index, command) in request.commands.iter_mut().enumerate() {
            cx.made.subject = None;
            let answer =
                command.decide(&mut cx).map_err(|error| in_transact(error, request.transact, index, &**command))?;
            if cx.made.more && request.transact {
                let name = command.name();
                return Err(Rejection::invalid(format!("transact: {name} does not fit one commit")).into());
            }
            answers.push(answer);
            subject = cx.made.subject.take();
            if cx.made.ends_transact && request.transact {
                // The whole transact is answered by this one: what came before it leaves no trace.
                let answers = answers.split_off(answers.len() - 1);
                self.rows.undo();
                let meta = self.meta(None, subject, now);
                return Ok(Decided::Reply(AnyReply { meta, answers: Answers::Fresh(answers) }));
            }
        }
        let made = std::mem::take(&mut cx.made);
        Ok(self.accept(request, made, subject, answers, now))
    }

    /// Puts what was decided into the batch.
    fn accept(
        &mut self,
        request: &mut Request,
        made: Made,
        subject: Option<(&'static tasklog_projections::TableDef, String)>,
        mut answers: Vec<Box<dyn AnyAnswer>>,
        now: Millis,
    ) -> Decided {
        let done = Completion { first: self.batch.last.next(), rows: &self.rows };
        for answer in &mut answers {
            answer.complete(&done);
        }
        let events = made.events.len() as u64;
        if events == 0 {
            // A last round that found nothing left reports the commit before it.
            let meta = request.earlier.unwrap_or_else(|| self.meta(None, subject, now));
            return Decided::Reply(AnyReply { meta, answers: Answers::Fresh(answers) });
        }
        let options = &request.options;
        // The round that ends a chunked command carries the caller's id: if it is in the log, the command is done.
        let given = options.command_id.filter(|_| !made.more);
        let first = self.batch.last.next();
        self.batch.latest = now;
        self.batch.last = Position(self.batch.last.0 + events);
        let id = given.unwrap_or_else(CommitId::mint);
        let meta = self.meta(Some((id, first)), subject, now);
        let answer = given.map(|id| {
            let texts: Vec<_> = answers.iter().map(|answer| answer.to_json()).collect();
            let kept = kept_answer(&meta, &texts);
            self.batch.answered.insert(id, (meta, texts));
            kept
        });
        self.batch.commits.push(NewCommit {
            meta: CommitMeta {
                id,
                actor: options.actor.clone().unwrap_or_else(|| Arc::clone(&self.actor)),
                reason: options.reason.clone(),
                request_id: options.request_id.clone(),
            },
            decided_at: (now != self.batch.now).then_some(now),
            conditions: made.conditions,
            events: made.events,
            answer,
        });
        if made.more || (made.look_again && !request.transact) {
            request.earlier = Some(meta);
            if given.is_some() {
                // It is spent: the next round would find its own command's first outcome under it.
                request.options.command_id = None;
            }
            return Decided::Again;
        }
        Decided::Reply(AnyReply { meta, answers: Answers::Fresh(answers) })
    }

    fn meta(
        &self,
        made: Option<(CommitId, Position)>,
        subject: Option<(&'static tasklog_projections::TableDef, String)>,
        now: Millis,
    ) -> ReplyMeta {
        // A dead row is gone, whether housekeeping has removed it or not.
        let row = subject.and_then(|(table, key)| self.rows.peek(table, &key)).filter(|(row, _)| row.is_live(now));
        let rev = row.map(|(_, rev)| rev);
        let (commit_id, first) = made.unzip();
        ReplyMeta { changed: made.is_some(), commit_id, first, position: self.batch.last, rev, repeated: false }
    }

    /// Writes the batch. Answers false if rows had changed under a decision: nothing was written then, and every request
    /// of the batch has to be decided again.
    ///
    /// # Errors
    /// The store's; then nothing of the batch is in it.
    pub fn finish(&mut self) -> Result<bool, StoreError> {
        let finished = self.try_finish();
        if !matches!(finished, Ok(true)) {
            self.abandon();
        }
        finished
    }

    fn try_finish(&mut self) -> Result<bool, StoreError> {
        let Batch { from, now, commits, .. } = &self.batch;
        let outcomes = self.backend.append(*now, commits, &mut self.rows)?;
        if outcomes.iter().any(Result::is_err) {
            return Ok(false);
        }
        let changes = self.rows.changes();
        if let (Some(commit), Some(Ok(appended))) = (commits.last(), outcomes.last()) {
            debug_assert_eq!(appended.last, self.batch.last);
            let to = Checkpoint {
                log: from.log,
                position: appended.last,
                commit: commit.meta.id,
                recorded_at: appended.recorded_at,
            };
            self.backend.view().apply(&changes, from, &to)?;
        } else {
            // Only rows flushed by a command that was rejected afterwards can be left: written back as they were.
            self.backend.view().write(&changes)?;
        }
        self.backend.commit()?;
        if let Some(Ok(appended)) = outcomes.last() {
            self.recorded_at.store(appended.recorded_at, Ordering::Release);
        }
        self.rows.settle();
        Ok(true)
    }

    /// Gives up the batch: nothing of it is in the store.
    fn abandon(&mut self) {
        self.backend.rollback();
        self.rows.clear();
        self.batch.commits.clear();
    }
}

pub(crate) fn too_many_attempts() -> StoreError {
    StoreError::unavailable(format!("rows changed under the decision {DECIDE_ATTEMPTS_MAX} times in a row"))
}

fn in_transact(error: Error, transact: bool, index: usize, command: &dyn AnyCommand) -> Error {
    match error {
        Error::Rejected(mut rejection) if transact => {
            rejection.message =
                format!("command {} of the transact, {}: {}", index + 1, command.name(), rejection.message);
            Error::Rejected(rejection)
        }
        other => other,
    }
}

fn check_options(options: &CommandOptions) -> Result<(), Rejection> {
    for (what, value) in [("actor", &options.actor), ("reason", &options.reason), ("request_id", &options.request_id)] {
        let length = value.as_ref().map_or(0, |value| value.len());
        if length > text::META_BYTES_MAX {
            return Err(Rejection::invalid(format!("{what}: at most {} bytes, found {length}", text::META_BYTES_MAX)));
        }
    }
    Ok(())
}

/// What a repeat of the command will be answered: `[meta, [answers]]`.
fn kept_answer(meta: &ReplyMeta, texts: &[String]) -> Vec<u8> {
    // A plain struct of numbers and ids.
    let meta = serde_json::to_string(meta).unwrap_or_default();
    format!("[{meta},[{}]]", texts.join(",")).into_bytes()
}
