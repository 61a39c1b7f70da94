//! What each object does when one command runs after the other.

use serde::{Deserialize, Serialize};
use stateright::semantics::SequentialSpec;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    Acquire { holder: String },
    Renew { holder: String, term: i64 },
    ReleaseLease { holder: String, term: i64 },
    Enqueue { id: String },
    Claim,
    GiveBack { id: String, token: i64 },
    Complete { id: String, token: i64 },
    Advance { from: Option<i64>, to: i64 },
    Cursor,
    Record { task: String },
    Free { task: String },
    Key,
    Flip { version: i64, to: String },
    Alias,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ret {
    Ok,
    /// A compare-and-set that came too late, or a right that is not held.
    Conflict,
    Granted {
        term: i64,
    },
    Refused {
        holder: String,
    },
    Released(bool),
    Claimed {
        id: String,
        token: i64,
    },
    Nothing,
    At(Option<i64>),
    Miss,
    Dedup(String),
    Task(Option<String>),
    Version(i64),
    Leads {
        to: String,
        version: i64,
    },
}

/// One lease, queue, cursor, key or alias. A number that only the store chooses is not known of a call that has not
/// returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Lease { held: Option<(String, Option<i64>)>, last_term: i64 },
    Queue(Vec<Job>),
    Cursor(Option<i64>),
    Key(Option<String>),
    Alias { to: String, version: i64 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    id: String,
    state: JobState,
    token: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum JobState {
    Queued,
    Claimed,
    Done,
}

/// Where every alias leads at first, as version 1.
pub const FIRST_TARGET: &str = "i0";

impl Object {
    /// An object as it is before any call; what stands before the `/` of its name says what it is.
    pub fn named(name: &str) -> Self {
        match name.split_once('/').unwrap().0 {
            "lease" => Self::Lease { held: None, last_term: 0 },
            "queue" => Self::Queue(Vec::new()),
            "cursor" => Self::Cursor(None),
            "key" => Self::Key(None),
            "alias" => Self::Alias { to: FIRST_TARGET.into(), version: 1 },
            other => panic!("{other}"),
        }
    }

    /// Takes one step. `told` is what the caller was told, if it was: only then the numbers that the store chose are known.
    fn step(&mut self, op: &Op, told: Option<&Ret>) -> Ret {
        match (self, op) {
            (Self::Lease { held, last_term }, Op::Acquire { holder }) => {
                if let Some((other, _)) = held.as_ref().filter(|(other, _)| other != holder) {
                    return Ret::Refused { holder: other.clone() };
                }
                let term = match told {
                    Some(Ret::Granted { term }) if *term > *last_term => Some(*term),
                    Some(_) => return Ret::Conflict,
                    None => None,
                };
                *last_term = term.unwrap_or(*last_term).max(*last_term);
                *held = Some((holder.clone(), term));
                Ret::Granted { term: term.unwrap_or_default() }
            }
            (Self::Lease { held, .. }, Op::Renew { holder, term }) => match held {
                Some((other, of)) if other == holder && *of == Some(*term) => Ret::Ok,
                _ => Ret::Conflict,
            },
            (Self::Lease { held, .. }, Op::ReleaseLease { holder, term }) => {
                let theirs = held.as_ref().is_some_and(|(other, of)| other == holder && *of == Some(*term));
                if theirs {
                    *held = None;
                }
                Ret::Released(theirs)
            }
            (Self::Queue(jobs), op) => queue(jobs, op, told),
            (Self::Cursor(at), Op::Advance { from, to }) => {
                if *at == Some(*to) {
                    return Ret::Ok;
                }
                if *at != *from || at.is_some_and(|at| *to < at) {
                    return Ret::Conflict;
                }
                *at = Some(*to);
                Ret::Ok
            }
            (Self::Cursor(at), Op::Cursor) => Ret::At(*at),
            (Self::Key(key), Op::Record { task }) => match key {
                Some(first) => Ret::Dedup(first.clone()),
                None => {
                    *key = Some(task.clone());
                    Ret::Miss
                }
            },
            (Self::Key(key), Op::Free { task }) => match key {
                Some(first) if first != task => Ret::Conflict,
                _ => {
                    *key = None;
                    Ret::Ok
                }
            },
            (Self::Key(key), Op::Key) => Ret::Task(key.clone()),
            (Self::Alias { to, version }, Op::Flip { version: expected, to: next }) => {
                if to == next && (*expected == *version || *expected + 1 == *version) {
                    return Ret::Version(*version);
                }
                if *expected != *version {
                    return Ret::Conflict;
                }
                to.clone_from(next);
                *version += 1;
                Ret::Version(*version)
            }
            (Self::Alias { to, version }, Op::Alias) => Ret::Leads { to: to.clone(), version: *version },
            (object, op) => panic!("{op:?} on {object:?}"),
        }
    }
}

/// First in, first out; what is given back keeps its place.
fn queue(jobs: &mut Vec<Job>, op: &Op, told: Option<&Ret>) -> Ret {
    let claimed = |jobs: &mut Vec<Job>, id: &str, token: i64| {
        let held = |job: &Job| job.id == id && job.state == JobState::Claimed && job.token == Some(token);
        jobs.iter().position(held)
    };
    match op {
        Op::Enqueue { id } => {
            jobs.push(Job { id: id.clone(), state: JobState::Queued, token: None });
            Ret::Ok
        }
        Op::Claim => {
            let Some(job) = jobs.iter_mut().find(|job| job.state == JobState::Queued) else { return Ret::Nothing };
            job.state = JobState::Claimed;
            job.token = match told {
                Some(Ret::Claimed { token, .. }) => Some(*token),
                _ => None,
            };
            Ret::Claimed { id: job.id.clone(), token: job.token.unwrap_or_default() }
        }
        Op::GiveBack { id, token } => match claimed(jobs, id, *token) {
            Some(at) => {
                jobs[at].state = JobState::Queued;
                Ret::Ok
            }
            // Given back already.
            None if jobs
                .iter()
                .any(|job| job.id == *id && job.state == JobState::Queued && job.token == Some(*token)) =>
            {
                Ret::Ok
            }
            None => Ret::Conflict,
        },
        Op::Complete { id, token } => match claimed(jobs, id, *token) {
            Some(at) => {
                jobs[at].state = JobState::Done;
                Ret::Ok
            }
            None if jobs
                .iter()
                .any(|job| job.id == *id && job.state == JobState::Done && job.token == Some(*token)) =>
            {
                Ret::Ok
            }
            None => Ret::Conflict,
        },
        op => panic!("{op:?} on a queue"),
    }
}

impl SequentialSpec for Object {
    type Op = Op;
    type Ret = Ret;

    /// Of a call that has not returned.
    fn invoke(&mut self, op: &Op) -> Ret {
        self.step(op, None)
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        self.step(op, Some(ret)) == *ret
    }
}
