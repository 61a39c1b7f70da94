//! `leader_lease`: how a pod gets, keeps and gives back the right to run one singleton operation.
//!
//! Rows do not die physically: the right ends at `expires_at` by the log's clock, the row stays with its phase. So
//! liveness is compared here, on every command and query.

use std::{ops::Bound, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, Found, Json, Scan,
    tables::leader_lease::{
        DEF, LeaderLease, LeaseAcquired, LeaseCleared, LeasePhaseCommitted, LeaseReleased, LeaseRenewed, LeaseRow,
        PreviousLease,
    },
};

use crate::{
    command::{Command, Completion},
    decision::{Decision, EventIndex, LeaseClaim},
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::{Nothing, side},
    text,
};

side! {
    /// `leader_lease`
    pub struct LeaderLeaseHandle for DEF as leader_lease {
        commands {
            acquire(Acquire),
            renew(Renew),
            commit_phase(CommitPhase),
            release(Release),
            clear(Clear),
        }
        queries {
            get(Get),
            list(List),
            phase(Phase),
            abandoned(Abandoned),
        }
    }
}

/// Checks a lease that a command carries: it must be live, in that term.
///
/// # Errors
/// `lease_lost`, or the store's.
pub(crate) fn check_claim(cx: &mut Decision<'_>, claim: &LeaseClaim) -> Result<(), Error> {
    let now = cx.now();
    match cx.get::<LeaderLease>(&claim.scope)? {
        Some(row) if row.holds(now) && row.term == claim.term => Ok(()),
        row => Err(lost(&claim.scope, None, claim.term, row.as_deref(), now).into()),
    }
}

/// Asks for the right to run a singleton operation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acquire {
    /// The operation: `<kind>` or `<kind>:<name>`.
    pub scope: String,
    /// The pod that asks.
    pub holder: String,
    /// ms: how long the right lasts; `leader_election.lease_ttl_s` by default.
    pub ttl_ms: Option<i64>,
}

/// The outcome of a request.
#[serde_with::skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acquired {
    /// Whether the pod has the right now.
    pub granted: bool,
    /// If granted: the fencing token.
    pub term: Option<i64>,
    /// If refused: who has the right.
    pub holder: Option<String>,
    /// ms: when that right ends.
    pub expires_at: Millis,
    /// If granted: where to resume.
    pub phase: Option<Json>,
    /// If granted: whether another holder stood in the row.
    pub takeover: Option<bool>,
    #[serde(skip)]
    #[doc(hidden)]
    pub grant: Option<EventIndex>,
}

impl Command for Acquire {
    const NAME: &'static str = "leader_lease.acquire";
    const ABOUT: &'static str = "Asks for the right to run a singleton operation";
    type Answer = Acquired;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Acquired, Error> {
        let Self { scope, holder, ttl_ms } = self;
        check_scope(scope)?;
        text::key("holder", holder)?;
        let expires_at = end_of_right(cx, *ttl_ms)?;
        cx.subject::<LeaderLease>(scope);
        let (now, row) = (cx.now(), cx.get::<LeaderLease>(scope)?);
        if let Some(row) = row.as_ref().filter(|row| row.holds(now) && row.holder != *holder) {
            return Ok(Acquired {
                granted: false,
                term: None,
                holder: Some(row.holder.clone()),
                expires_at: row.expires_at,
                phase: None,
                takeover: None,
                grant: None,
            });
        }
        let takeover = row.as_ref().is_some_and(|row| row.holder != *holder);
        let previous = row.as_ref().map(|row| PreviousLease {
            holder: row.holder.clone(),
            term: row.term,
            expires_at: row.expires_at,
        });
        let event = LeaseAcquired { holder: holder.clone(), acquired_at: now, expires_at, takeover, previous };
        let grant = cx.emit::<LeaderLease>(scope, event)?;
        Ok(Acquired {
            granted: true,
            term: None,
            holder: None,
            expires_at,
            phase: row.and_then(|row| row.phase.clone()),
            takeover: Some(takeover),
            grant: Some(grant),
        })
    }

    fn complete(answer: &mut Acquired, done: &Completion<'_>) {
        answer.term = answer.grant.map(|grant| done.position(grant).to_i64());
    }
}

/// Extends a right before it ends.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The operation.
    pub scope: String,
    /// The pod.
    pub holder: String,
    /// Its term.
    pub term: i64,
    /// ms: how long the right lasts from now on; `leader_election.lease_ttl_s` by default.
    pub ttl_ms: Option<i64>,
}

/// How long the right lasts now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renewed {
    /// ms: its end.
    pub expires_at: Millis,
}

impl Command for Renew {
    const NAME: &'static str = "leader_lease.renew";
    const ABOUT: &'static str = "Extends a right before it ends";
    type Answer = Renewed;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Renewed, Error> {
        let Self { scope, holder, term, ttl_ms } = self;
        let expires_at = end_of_right(cx, *ttl_ms)?;
        let row = holding(cx, scope, holder, *term)?;
        if row.expires_at != expires_at {
            cx.emit::<LeaderLease>(scope, LeaseRenewed { holder: holder.clone(), term: *term, expires_at })?;
        }
        Ok(Renewed { expires_at })
    }
}

/// Records how far an operation has come, for whoever goes on with it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitPhase {
    /// The operation.
    pub scope: String,
    /// The pod.
    pub holder: String,
    /// Its term.
    pub term: i64,
    /// An object with at least `name`.
    pub phase: Json,
}

impl Command for CommitPhase {
    const NAME: &'static str = "leader_lease.commit_phase";
    const ABOUT: &'static str = "Records how far an operation has come";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { scope, holder, term, phase } = self;
        check_phase(phase)?;
        let row = holding(cx, scope, holder, *term)?;
        if !row.phase.as_ref().is_some_and(|stored| stored.same_content(phase)) {
            cx.emit::<LeaderLease>(scope, LeasePhaseCommitted { term: *term, phase: phase.clone() })?;
        }
        Ok(Nothing {})
    }
}

/// Gives a right back; the operation is done.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The operation.
    pub scope: String,
    /// The pod.
    pub holder: String,
    /// Its term.
    pub term: i64,
}

/// The outcome of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// False if the row was not this holder's, in this term.
    pub released: bool,
}

impl Command for Release {
    const NAME: &'static str = "leader_lease.release";
    const ABOUT: &'static str = "Gives a right back, and forgets the operation's phase";
    type Answer = Released;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Released, Error> {
        let Self { scope, holder, term } = self;
        cx.subject::<LeaderLease>(scope);
        let row = cx.get::<LeaderLease>(scope)?;
        let released = row.is_some_and(|row| row.holder == *holder && row.term == *term);
        if released {
            cx.emit::<LeaderLease>(scope, LeaseReleased { holder: holder.clone(), term: *term })?;
        }
        Ok(Released { released })
    }
}

/// Gives up an operation whose holder is gone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// The operation.
    pub scope: String,
}

/// What was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cleared {
    /// The last committed phase.
    pub phase: Option<Json>,
}

impl Command for Clear {
    const NAME: &'static str = "leader_lease.clear";
    const ABOUT: &'static str = "Gives up an operation whose right has ended";
    type Answer = Cleared;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Cleared, Error> {
        let scope = &self.scope;
        cx.subject::<LeaderLease>(scope);
        let row = cx.get::<LeaderLease>(scope)?;
        let row = row.ok_or_else(|| Rejection::not_found(format!("no lease {scope}")))?;
        let LeaseRow { holder, term, expires_at, phase, .. } = (*row).clone();
        if row.holds(cx.now()) {
            let why = format!("lease {scope} is live: {holder} holds it until {expires_at}, it is {} now", cx.now());
            return Err(Rejection::not_permitted(why).into());
        }
        cx.emit::<LeaderLease>(scope, LeaseCleared { holder, term, expires_at, phase: phase.clone() })?;
        Ok(Cleared { phase })
    }
}

/// `<kind>` or `<kind>:<name>`, kind in `[a-z][a-z0-9_]*`.
fn check_scope(scope: &str) -> Result<(), Rejection> {
    text::key("scope", scope)?;
    let (kind, name) = scope.split_once(':').map_or((scope, None), |(kind, name)| (kind, Some(name)));
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if kind.starts_with(|c: char| c.is_ascii_lowercase()) && kind.chars().all(word) && name != Some("") {
        return Ok(());
    }
    Err(Rejection::invalid(format!(
        "scope: expected <kind> or <kind>:<name>, kind in [a-z][a-z0-9_]*, found {scope:?}"
    )))
}

fn check_phase(phase: &Json) -> Result<(), Rejection> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "name")]
        _name: String,
    }
    text::object("phase", phase)?;
    match serde_json::from_str::<Named>(phase.as_str()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Rejection::invalid(format!("phase: expected an object with a text `name`: {error}"))),
    }
}

fn end_of_right(cx: &Decision<'_>, ttl_ms: Option<i64>) -> Result<Millis, Rejection> {
    let ttl_ms = ttl_ms.unwrap_or(cx.config().lease_ttl_ms);
    text::at_least("ttl_ms", 1, ttl_ms)?;
    let expires_at = cx.now().saturating_add(ttl_ms);
    text::instant("expires_at", expires_at)?;
    Ok(expires_at)
}

/// The row, if it is live and of this holder and term.
fn holding(cx: &mut Decision<'_>, scope: &str, holder: &str, term: i64) -> Result<Arc<LeaseRow>, Error> {
    cx.subject::<LeaderLease>(scope);
    let (now, row) = (cx.now(), cx.get::<LeaderLease>(scope)?);
    match row {
        Some(row) if row.holds(now) && row.holder == holder && row.term == term => Ok(row),
        row => Err(lost(scope, Some(holder), term, row.as_deref(), now).into()),
    }
}

fn lost(scope: &str, holder: Option<&str>, term: i64, row: Option<&LeaseRow>, now: Millis) -> Rejection {
    let expected = holder.map_or_else(|| format!("term {term}"), |holder| format!("{holder} in term {term}"));
    let found = row.map_or_else(
        || "nobody".into(),
        |row| format!("{} in term {} until {}, now {now}", row.holder, row.term, row.expires_at),
    );
    Rejection::lease_lost(format!("lease {scope}: expected {expected}, found {found}"))
}

/// The live lease of a scope.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The operation.
    pub scope: String,
}

impl Query for Get {
    const NAME: &'static str = "leader_lease.get";
    const ABOUT: &'static str = "The live lease of a scope";
    type Answer = Option<Found<LeaseRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        Ok(read.get::<LeaderLease>(&self.scope)?.filter(|row| row.holds(read.now())))
    }
}

/// All live leases.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Query for List {
    const NAME: &'static str = "leader_lease.list";
    const ABOUT: &'static str = "All live leases, the one that ends first in front";
    type Answer = Vec<Found<LeaseRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let live = Scan::all("by_expiry").from(Bound::Excluded(vec![Cell::Integer(read.now())]));
        read.list::<LeaderLease>(live, None)
    }
}

/// How far the operation of a scope has come.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// The operation.
    pub scope: String,
}

/// An operation's progress, whether its right has ended or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseAnswer {
    /// The last committed phase.
    pub phase: Option<Json>,
    /// The latest holder.
    pub holder: String,
    /// Its term.
    pub term: i64,
    /// Whether its right still holds.
    pub live: bool,
}

impl Query for Phase {
    const NAME: &'static str = "leader_lease.phase";
    const ABOUT: &'static str = "How far the operation of a scope has come, whether its right has ended or not";
    type Answer = Option<PhaseAnswer>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let row = read.get::<LeaderLease>(&self.scope)?;
        Ok(row.map(|row| PhaseAnswer {
            phase: row.phase.clone(),
            holder: row.holder.clone(),
            term: row.term,
            live: row.holds(read.now()),
        }))
    }
}

/// Operations that were begun and that nobody works on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Abandoned {}

impl Query for Abandoned {
    const NAME: &'static str = "leader_lease.abandoned";
    const ABOUT: &'static str = "Expired leases with a phase: operations that were begun and that nobody works on";
    type Answer = Vec<Found<LeaseRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let ended = Scan::all("by_expiry").to(Bound::Included(vec![Cell::Integer(read.now())]));
        let mut rows = read.list::<LeaderLease>(ended, None)?;
        rows.retain(|row| row.phase.is_some());
        Ok(rows)
    }
}
