//! One request of a batch is decided: on the rows as the batch has changed them, and without a trace if it is refused.

use tasklog_log::{Position, StoreError, StoreErrorKind};
use tasklog_projections::TableDef;

use super::{Answers, AnyReply, Engine, Request, accept::Sure, reply::texts_of};
use crate::{
    backend::Backend,
    command::{AnyAnswer, AnyCommand},
    decision::{Decision, Made},
    provisional,
    rejection::{Error, Rejection},
    tables::leader_lease,
};

/// What has become of a request within a batch.
pub enum Decided {
    /// Its reply, to be given once the batch is durable.
    Reply(AnyReply),
    /// A round of a chunked command is in the batch, or has found nothing yet, and it wants another one in the next.
    Again,
    /// Nothing yet: it turns on rows that nobody has looked at, see [`Engine::learn`].
    Unsure,
    /// Nothing yet: it waits for a position that this batch has yet to be given.
    Later,
}

impl<B: Backend> Engine<B> {
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
        self.rows.begin(self.batch.last.next());
        let mut made = Made::default();
        let decided = self.decide_fresh(request, &mut made);
        decided.or_else(|error| self.refuse(request, made, error))
    }

    fn decide_fresh(&mut self, request: &mut Request, made: &mut Made) -> Result<Decided, Error> {
        request.check()?;
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
            let more = made.more && !ended;
            if let Sure::No = self.observe(request, std::mem::take(made)) {
                return Ok(Decided::Unsure);
            }
            if more {
                // It has only looked, and goes on looking in the next batch, so that others get their turn.
                return Ok(Decided::Again);
            }
            let subject = subjects.into_iter().next_back().flatten();
            // A last round that found nothing left reports the commit before it.
            let meta = request.earlier.filter(|_| !ended).unwrap_or_else(|| self.meta(None, subject.as_ref(), now));
            return Ok(Decided::Reply(AnyReply { meta, answers: Answers::Fresh(answers), waits_for: None }));
        }
        self.accept(request, std::mem::take(made), &subjects, answers, now)
    }

    /// Takes back what the commands had put, and tells whether their error stands: they may have seen what nobody is sure of,
    /// or what has no position yet.
    fn refuse(&mut self, request: &Request, made: Made, error: Error) -> Result<Decided, Error> {
        self.rows.undo();
        let provisional = self.rows.is_provisional();
        let quotes = matches!(&error, Error::Rejected(rejection) if provisional && rejection.quotes_places());
        if (made.waits || quotes) && self.has_unplaced() {
            return Ok(Decided::Later);
        }
        match error {
            Error::Rejected(rejection) => match self.observe(request, made) {
                Sure::Yes if quotes => {
                    // Nothing stands before its own events in this batch.
                    let before = self.batch.from.position;
                    Err(rejection.placed(|place| Position(before.0 + place)).into())
                }
                Sure::Yes => Err(rejection.into()),
                Sure::No => Ok(Decided::Unsure),
            },
            Error::Store(_) if made.waits => Err(Rejection::invalid(
                "transact: one of its events would tell the position of another one, which is not known yet: split it",
            )
            .into()),
            // A scan has met a row that was assumed to be absent: decided on both, nothing fits together.
            Error::Store(error) if made.assumed && error.kind() == StoreErrorKind::Corrupt => Ok(Decided::Unsure),
            error @ Error::Store(_) => Err(error),
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
