//! The writer without its thread: decides requests in order and writes a batch of them as one transaction.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use ahash::RandomState;
use tasklog_log::{Checkpoint, CommitId, CommitMeta, Millis, NewCommit, Position, StoreError, StoreErrorKind};
use tasklog_projections::{TABLES, TableDef};

use crate::{
    backend::{Backend, Fate, Item, Placed, Written},
    command::{AnyAnswer, AnyCommand, CommandOptions, Completion, ReplyMeta, Subject},
    config::Config,
    decision::{Decision, Made},
    keep,
    meters::{Count, Meters, Sizes},
    provisional,
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
}

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
    first: Position,
    /// The subject of each command.
    rows: Vec<Option<Subject>>,
}

impl Unplaced {
    /// The same with positions as `real` gives them.
    fn placed(&self, real: &dyn Fn(Position) -> Position) -> Result<Self, StoreError> {
        let place = |subject: &Subject| {
            let row = subject.table.with_positions(Arc::clone(&subject.row), real);
            let row = row.map_err(StoreError::corrupt_store)?;
            Ok(Subject { table: subject.table, key: subject.key.clone(), row, rev: real(subject.rev) })
        };
        let rows = self.rows.iter().map(|row| row.as_ref().map(place).transpose());
        Ok(Self { first: real(self.first), rows: rows.collect::<Result<_, StoreError>>()? })
    }

    fn complete(&self, answers: &mut [Box<dyn AnyAnswer>]) {
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
    /// Nothing yet: it turns on rows that nobody has looked at, see [`Engine::learn`].
    Unsure,
    /// Nothing yet: it waits for a position that this batch has yet to be given.
    Later,
}

/// What has become of the decisions of a batch.
pub struct Finished {
    fates: Vec<Fate>,
    errors: Vec<StoreError>,
}

impl Finished {
    /// What has become of one; a request that left nothing in the batch stands.
    #[must_use]
    pub fn fate(&self, item: Option<usize>) -> Fate {
        item.and_then(|item| self.fates.get(item)).copied().unwrap_or(Fate::Stands)
    }

    /// The error of a decision that failed.
    #[must_use]
    pub fn error(&self, item: Option<usize>) -> Option<StoreError> {
        match self.fate(item) {
            Fate::Failed(error) => self.errors.get(error).map(StoreError::share),
            _ => None,
        }
    }

    /// Whether every decision stands.
    #[must_use]
    pub fn all_stand(&self) -> bool {
        self.fates.iter().all(|fate| *fate == Fate::Stands)
    }
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
    /// What the last decision left in the batch.
    item: Option<usize>,
    swept_at: Millis,
    /// The newest commit's instant, for readers in this process.
    recorded_at: Arc<AtomicI64>,
    meters: Arc<Meters>,
    /// What the last decision has counted once it stands.
    counts: Vec<Count>,
}

struct Batch {
    from: Checkpoint,
    now: Millis,
    /// The instant of the newest commit, of this batch or before it.
    latest: Millis,
    /// The position of the newest event, of this batch or before it.
    last: Position,
    /// Before the first event of this batch.
    before: Position,
    items: Vec<Item>,
    /// The real places of the items, once they are known.
    placed: Placed,
    answered: HashMap<CommitId, (ReplyMeta, Vec<String>), RandomState>,
    /// What is counted with each item that stands.
    counts: Vec<(Option<usize>, Count)>,
}

impl<B: Backend> Engine<B> {
    /// A writer over `backend`.
    ///
    /// # Errors
    /// `unavailable`, or `invalid` configuration.
    pub fn new(mut backend: B, config: Config, actor: Arc<str>) -> Result<Self, Error> {
        config.check()?;
        let from = backend.head()?;
        let batch = Batch {
            from,
            now: 0,
            latest: from.recorded_at,
            last: from.position,
            before: from.position,
            items: Vec::new(),
            placed: Placed::default(),
            answered: HashMap::default(),
            counts: Vec::new(),
        };
        Ok(Self {
            backend,
            rows: Rows::new(),
            config,
            actor,
            batch,
            item: None,
            swept_at: 0,
            recorded_at: Arc::new(AtomicI64::new(from.recorded_at)),
            meters: Arc::new(Meters::new()),
            counts: Vec::new(),
        })
    }

    /// The store.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Forgets the rows that are known: between two batches, somebody has made others of them.
    pub fn forget_rows(&mut self) {
        self.rows.clear();
    }

    /// The newest durable commit's instant, kept up to date.
    #[must_use]
    pub fn recorded_at(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.recorded_at)
    }

    /// The same, counting there.
    #[must_use]
    pub fn counting(self, meters: Arc<Meters>) -> Self {
        Self { meters, ..self }
    }

    /// What is counted of the commands that this writer runs.
    #[must_use]
    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.meters)
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
                let mut decided = self.decide(&mut request);
                while matches!(decided, Ok(Decided::Unsure)) {
                    self.learn()?;
                    decided = self.decide(&mut request);
                }
                let item = self.item();
                let finished = self.finish()?;
                if let Some(error) = finished.error(item) {
                    return Err(error.into());
                }
                if finished.fate(item) != Fate::Stands {
                    request = before.unwrap_or(request);
                    break;
                }
                match decided? {
                    Decided::Reply(mut reply) => {
                        self.complete(&mut reply, item)?;
                        return Ok(reply);
                    }
                    Decided::Again => self.complete_round(&mut request),
                    Decided::Unsure | Decided::Later => {}
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
        let shared = self.backend.shared().is_some();
        if shared {
            self.rows.begin_shared();
        }
        let from = self.backend.head()?;
        let now = self.backend.now()?;
        self.batch.from = from;
        self.batch.now = now;
        self.batch.latest = from.recorded_at;
        // Where others append as well, the places are given by the append.
        self.batch.before = if shared { Position::provisional(0) } else { from.position };
        self.batch.last = self.batch.before;
        self.batch.items.clear();
        self.batch.placed = Placed::default();
        self.batch.answered.clear();
        self.batch.counts.clear();
        self.item = None;
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
        self.rows.forget_buried(buried_before);
        let mut done = true;
        for table in TABLES {
            let removed = self.backend.view().sweep(table, dead_at, buried_before, SWEEP_ROWS_MAX)?;
            self.rows.swept(table, &removed);
            done &= removed.len() < SWEEP_ROWS_MAX;
        }
        let answered_before = now.saturating_sub(ms(self.config.command_id_retention));
        Ok(self.backend.forget_answers(answered_before)? && done)
    }

    /// Says that requests join the batch which have arrived since it began, or since the last call.
    pub fn admit(&mut self) {
        self.backend.admit();
    }

    /// How many events the batch has so far.
    #[must_use]
    pub fn batch_events(&self) -> u64 {
        self.batch.last.0 - self.batch.before.0
    }

    /// Decides one request on top of what the batch has so far.
    ///
    /// # Errors
    /// The rejection, which leaves no event in the batch; or the store's error.
    pub fn decide(&mut self, request: &mut Request) -> Result<Decided, Error> {
        self.counts.clear();
        let decided = self.decide_once(request);
        if !self.counts.is_empty() {
            self.keep_counts(&decided);
        }
        decided
    }

    /// Keeps what the last decision counts until it stands. A decision that is made again counts anew.
    fn keep_counts(&mut self, decided: &Result<Decided, Error>) {
        let changed = match decided {
            Ok(Decided::Again) => true,
            Ok(Decided::Reply(reply)) => reply.meta.changed,
            Ok(Decided::Unsure | Decided::Later) | Err(Error::Store(_)) => return,
            Err(Error::Rejected(_)) => false,
        };
        let item = self.item;
        let counts = self.counts.drain(..).filter(|count| changed || count.needs_no_event());
        self.batch.counts.extend(counts.map(|count| (item, count)));
    }

    fn decide_once(&mut self, request: &mut Request) -> Result<Decided, Error> {
        self.item = None;
        let asked = request.options.command_id;
        if self.backend.shared().is_some() && asked.is_some_and(|id| self.batch.answered.contains_key(&id)) {
            // Its first outcome gets its places with this batch, and is answered from the next one on.
            return Ok(Decided::Later);
        }
        if let Some(reply) = self.repeated(request)? {
            return Ok(Decided::Reply(reply));
        }
        let before = self.batch.from.position;
        self.rows.begin(self.batch.last.next());
        let mut made = Made::default();
        let decided = self.decide_fresh(request, &mut made);
        match decided {
            Ok(decided) => Ok(decided),
            Err(error) => {
                self.rows.undo();
                let quotes = |rejection: &Rejection| self.rows.is_provisional() && rejection.quotes_places();
                let quotes = matches!(&error, Error::Rejected(rejection) if quotes(rejection));
                if (made.waits || quotes) && self.has_unplaced() {
                    return Ok(Decided::Later);
                }
                match error {
                    Error::Rejected(rejection) => match self.observe(request, made) {
                        // Nothing stands before its own events in this batch.
                        Sure::Yes if quotes => Err(rejection.placed(|place| Position(before.0 + place)).into()),
                        Sure::Yes => Err(rejection.into()),
                        Sure::No => Ok(Decided::Unsure),
                    },
                    Error::Store(_) if made.waits => Err(Rejection::invalid(
                        "transact: one of its events would tell the position of another one, which is not known yet: split it",
                    )
                    .into()),
                    // A scan has met a row that was assumed to be absent: decided on both, nothing fits together.
                    Error::Store(error) if made.assumed && error.kind() == StoreErrorKind::Corrupt => {
                        Ok(Decided::Unsure)
                    }
                    error => Err(error),
                }
            }
        }
    }

    /// Where the last decision stands in the batch, if it left anything there.
    #[must_use]
    pub fn item(&self) -> Option<usize> {
        self.item
    }

    /// Asks for the rows that decisions of this batch have assumed to be absent.
    ///
    /// # Errors
    /// The store's.
    pub fn learn(&mut self) -> Result<(), StoreError> {
        self.rows.learn(&mut self.backend)
    }

    /// Whether earlier commits of the batch have positions that are not known yet. What would tell one waits until they
    /// are; a position of its own commit can be told only by an answer that is completed.
    fn has_unplaced(&self) -> bool {
        self.rows.is_provisional() && self.batch.items.iter().any(|item| !item.commit.events.is_empty())
    }

    /// A decision that made no event rests on what it read all the same: where others write as well, the append checks
    /// that it still holds.
    fn observe(&mut self, request: &Request, made: Made) -> Sure {
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
        Ok(Some(AnyReply { meta, answers: Answers::Repeated(texts), waits_for: None }))
    }

    fn decide_fresh(&mut self, request: &mut Request, made: &mut Made) -> Result<Decided, Error> {
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
        let ran = run_commands(&mut cx, &mut request.commands, request.transact);
        *made = std::mem::take(&mut cx.made);
        self.counts = std::mem::take(&mut made.counts);
        let Ran { answers, subjects, ended } = ran?;
        if ended {
            // The whole transact is answered by this one: what came before it leaves no trace.
            self.rows.undo();
        }
        let repeats = made.events.is_empty() || request.transact;
        if repeats && self.has_unplaced() && texts_of(&answers).iter().any(|text| provisional::is_quoted(text)) {
            self.rows.undo();
            return Ok(Decided::Later);
        }
        if made.events.is_empty() || ended {
            if let Sure::No = self.observe(request, std::mem::take(made)) {
                return Ok(Decided::Unsure);
            }
            let subject = subjects.into_iter().next_back().flatten();
            // A last round that found nothing left reports the commit before it.
            let meta = request.earlier.filter(|_| !ended).unwrap_or_else(|| self.meta(None, subject.as_ref(), now));
            return Ok(Decided::Reply(AnyReply { meta, answers: Answers::Fresh(answers), waits_for: None }));
        }
        self.accept(request, std::mem::take(made), &subjects, answers, now)
    }

    /// Puts what was decided into the batch.
    fn accept(
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
        self.batch.latest = now;
        self.batch.last = Position(self.batch.last.0 + made.events.len() as u64);
        let id = given.unwrap_or_else(CommitId::mint);
        let meta = self.meta(Some((id, first)), subjects.last().and_then(Option::as_ref), now);
        let shared = self.backend.shared().is_some();
        if !shared {
            unplaced.complete(&mut answers);
        }
        let mut kept = None;
        let answer = match given {
            Some(id) if shared => {
                let texts = keep::with_places(&mut answers, |answers, real| {
                    unplaced.placed(real)?.complete(answers);
                    Ok(kept_answer(&with_places(&meta, real), &texts_of(answers)))
                })?;
                kept = Some(texts);
                // Until it has its places, a repeat within the batch waits for the next one.
                self.batch.answered.insert(id, (meta, Vec::new()));
                None
            }
            Some(id) => {
                let texts = texts_of(&answers);
                let answer = kept_answer(&meta, &texts);
                self.batch.answered.insert(id, (meta, texts));
                Some(answer)
            }
            None => None,
        };
        let decided_at = (now != self.batch.now).then_some(now);
        let Made { conditions, events, valid_until, dead, more, look_again, .. } = made;
        let commit = NewCommit { meta: self.commit_meta(request, id), decided_at, conditions, events, answer };
        self.push(Item { commit, valid_until, dead, asked, kept, first, ordered: request.ordered });
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

    fn meta(
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

    /// Writes the batch. A decision whose rows had changed under it is not written and has to be made again; the answer
    /// says which. A store with one writer writes all of a batch or nothing.
    ///
    /// # Errors
    /// The store's; then nothing of the batch is in it, or as much as the error says.
    pub fn finish(&mut self) -> Result<Finished, StoreError> {
        let finished = if self.backend.shared().is_some() { self.finish_shared() } else { self.finish_alone() };
        if let Ok(finished) = &finished {
            self.tell_meters(finished);
        }
        match &finished {
            Ok(fates) if fates.all_stand() || self.backend.shared().is_some() => {}
            _ => self.abandon(),
        }
        finished
    }

    /// Counts what stands.
    fn tell_meters(&mut self, finished: &Finished) {
        for (item, count) in self.batch.counts.drain(..) {
            if finished.fate(item) == Fate::Stands {
                self.meters.count(&count);
            }
        }
        self.meters.conflicts(finished.fates.iter().filter(|fate| **fate == Fate::Stale).count());
    }

    /// Keeps the number of rows of tables that may have very many, once somebody has asked for it.
    fn keep_sizes(&mut self) -> Result<(), StoreError> {
        if !self.meters.sizes.wanted() {
            return Ok(());
        }
        for table in Sizes::TABLES {
            let rows = self.rows.count(table, &mut self.backend)?;
            self.meters.sizes.keep(table, rows);
        }
        Ok(())
    }

    fn finish_alone(&mut self) -> Result<Finished, StoreError> {
        let commits: Vec<_> = self.batch.items.drain(..).map(|item| item.commit).collect();
        self.keep_sizes()?;
        let Batch { from, now, .. } = &self.batch;
        let outcomes = self.backend.append(*now, &commits, &mut self.rows)?;
        if outcomes.iter().any(Result::is_err) {
            return Ok(Finished { fates: vec![Fate::Stale; commits.len()], errors: Vec::new() });
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
        Ok(Finished { fates: vec![Fate::Stands; commits.len()], errors: Vec::new() })
    }

    fn finish_shared(&mut self) -> Result<Finished, StoreError> {
        let changes = self.rows.changes();
        let items = std::mem::take(&mut self.batch.items);
        let Some(shared) = self.backend.shared() else {
            return Ok(Finished { fates: Vec::new(), errors: Vec::new() });
        };
        let Written { fates, placed, stale, errors } = shared.write(self.batch.now, &items, changes)?;
        self.batch.placed = placed;
        let placed = &self.batch.placed;
        self.rows.settle_shared(&|position| placed.real(position))?;
        for (entity, known) in stale {
            if let Some(table) = tasklog_projections::table(&entity.table) {
                self.rows.take_over(table, &entity.key, known);
            }
        }
        self.recorded_at.fetch_max(self.batch.placed.head.recorded_at, Ordering::AcqRel);
        Ok(Finished { fates, errors })
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

    /// Gives up the batch: nothing of it is in the store.
    fn abandon(&mut self) {
        self.backend.rollback();
        self.rows.clear();
        self.meters.sizes.forget();
        self.batch.items.clear();
    }
}

pub(crate) fn too_many_attempts() -> StoreError {
    StoreError::unavailable(format!("rows changed under the decision {DECIDE_ATTEMPTS_MAX} times in a row"))
}

/// Whether a decision rests on rows that somebody has looked at.
enum Sure {
    Yes,
    No,
}

/// What the commands of one request have come to.
struct Ran {
    answers: Vec<Box<dyn AnyAnswer>>,
    subjects: Vec<Option<(&'static TableDef, String)>>,
    /// Whether a command ended the transact, and its answer is the only one.
    ended: bool,
}

fn run_commands(cx: &mut Decision<'_>, commands: &mut [Box<dyn AnyCommand>], transact: bool) -> Result<Ran, Error> {
    if let Some(claim) = cx.lease {
        leader_lease::check_claim(cx, claim)?;
    }
    let mut ran = Ran { answers: Vec::with_capacity(commands.len()), subjects: Vec::new(), ended: false };
    for (index, command) in commands.iter_mut().enumerate() {
        cx.made.subject = None;
        let answer = command.decide(cx).map_err(|error| in_transact(error, transact, index, &**command))?;
        if cx.made.more && transact {
            let name = command.name();
            return Err(Rejection::invalid(format!("transact: {name} does not fit one commit")).into());
        }
        ran.subjects.push(cx.made.subject.take());
        if cx.made.ends_transact && transact {
            return Ok(Ran { answers: vec![answer], ended: true, ..ran });
        }
        ran.answers.push(answer);
    }
    Ok(ran)
}

fn texts_of(answers: &[Box<dyn AnyAnswer>]) -> Vec<String> {
    answers.iter().map(|answer| answer.to_json()).collect()
}

fn with_places(meta: &ReplyMeta, real: &dyn Fn(Position) -> Position) -> ReplyMeta {
    ReplyMeta { first: meta.first.map(real), position: real(meta.position), rev: meta.rev.map(real), ..*meta }
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
        text::meta(what, value.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

/// What a repeat of the command will be answered: `[meta, [answers]]`.
fn kept_answer(meta: &ReplyMeta, texts: &[String]) -> Vec<u8> {
    // A plain struct of numbers and ids.
    let meta = serde_json::to_string(meta).unwrap_or_default();
    format!("[{meta},[{}]]", texts.join(",")).into_bytes()
}
