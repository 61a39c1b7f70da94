//! Getting, keeping, losing and taking over leases.

use std::io;

use serde_json::json;

use super::{
    actor::{Actor, Day, number},
    lifecycle::Lifecycle,
    line::{Lease, Line},
    world::PODS,
};
use crate::rejection::RejectionKind;

/// How often the holder of `ilm` renews, in ms.
const RENEW_MS: u64 = 40_000;
/// How long it may miss renewals.
const TTL_INTERVALS: u64 = 3;

/// Acquires a lease that nobody else holds.
pub(super) fn acquire(day: &mut Day<'_>, scope: &str, holder: &str, ttl_ms: Option<u64>) -> io::Result<Lease> {
    let mut args = json!({"scope": scope, "holder": holder});
    if let Some(ttl) = ttl_ms {
        args["ttl_ms"] = ttl.into();
    }
    let reply = day.say(&Line::one("leader_lease.acquire", args))?;
    if reply["granted"] != true {
        return Err(io::Error::other(format!("lease {scope} was not granted to {holder}: {reply}")));
    }
    Ok(Lease { scope: scope.into(), holder: holder.into(), term: number(&reply["term"]) })
}

pub(super) fn renew(day: &mut Day<'_>, lease: &Lease, ttl_ms: Option<u64>) -> io::Result<()> {
    let mut args = lease.args();
    if let Some(ttl) = ttl_ms {
        args["ttl_ms"] = ttl.into();
    }
    day.say(&Line::one("leader_lease.renew", args)).map(drop)
}

pub(super) fn commit_phase(day: &mut Day<'_>, lease: &Lease, name: &str) -> io::Result<()> {
    let mut args = lease.args();
    args["phase"] = json!({"name": name});
    day.say(&Line::one("leader_lease.commit_phase", args)).map(drop)
}

pub(super) fn release(day: &mut Day<'_>, lease: &Lease) -> io::Result<()> {
    day.say(&Line::one("leader_lease.release", lease.args())).map(drop)
}

const ABANDONED: &str = "rebalance:orders";

/// A pod begins to move shards, and never comes back.
pub(super) fn abandon(day: &mut Day<'_>) -> io::Result<()> {
    let mut operation = Operation::begin(day, ABANDONED, None, &["plan", "move"])?;
    operation.commit_next(day)
}

/// An operator gives that up an hour later.
pub(super) fn give_up(day: &mut Day<'_>) -> io::Result<()> {
    clear(day, ABANDONED)
}

/// An operator gives an abandoned operation up.
pub(super) fn clear(day: &mut Day<'_>, scope: &str) -> io::Result<()> {
    let line = Line::one("leader_lease.clear", json!({"scope": scope})).by("alice").because("given up");
    day.say(&line).map(drop)
}

/// A pod other than `pod`.
pub(super) fn other_pod(day: &mut Day<'_>, pod: &str) -> &'static str {
    let others: Vec<_> = PODS.into_iter().filter(|other| *other != pod).collect();
    day.dice.pick::<&'static str>(&others)
}

/// Whoever holds the standing lease `ilm`, and does the rollovers under it.
pub(super) struct Keeper {
    lease: Lease,
    lifecycle: Lifecycle,
}

impl Keeper {
    pub(super) fn begin(day: &mut Day<'_>) -> io::Result<()> {
        let ttl = ttl(day);
        let lease = acquire(day, "ilm", PODS[0], Some(ttl))?;
        day.world.ilm_term = lease.term;
        let lifecycle = Lifecycle::begin(day, &lease)?;
        day.later(RENEW_MS.min(ttl / 2), Self { lease, lifecycle });
        Ok(())
    }

    /// The holder stands still until its lease has ended; another pod takes over.
    fn hand_over(&mut self, day: &mut Day<'_>) -> io::Result<()> {
        let old = self.lease.clone();
        let ttl = ttl(day);
        let pod = other_pod(day, &old.holder);
        self.lease = acquire(day, "ilm", pod, Some(ttl))?;
        day.world.ilm_term = self.lease.term;
        day.later(700, Ousted(old));
        Ok(())
    }
}

fn ttl(day: &Day<'_>) -> u64 {
    (day.pace(RENEW_MS) * TTL_INTERVALS).max(3_000)
}

/// How long the keeper may sleep without losing its lease.
fn nap(day: &mut Day<'_>) -> u64 {
    ttl(day) / TTL_INTERVALS
}

impl Actor for Keeper {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        if self.lease.term == 0 {
            self.lease.term = day.world.ilm_term;
            self.hand_over(day)?;
            return Ok(Some(nap(day)));
        }
        let ttl = ttl(day);
        renew(day, &self.lease, Some(ttl))?;
        day.moment();
        self.lifecycle.check(day, &self.lease)?;
        match day.dice.below(1_000) {
            0..15 => {
                let pod = other_pod(day, &self.lease.holder);
                let reply = day.say(&Line::one("leader_lease.acquire", json!({"scope": "ilm", "holder": pod})))?;
                debug_assert_eq!(reply["granted"], false);
            }
            15..20 => {
                // The same pod comes back after a restart, and is granted its own lease under a new term.
                let (holder, old) = (self.lease.holder.clone(), self.lease.clone());
                self.lease = acquire(day, "ilm", &holder, Some(ttl))?;
                day.world.ilm_term = self.lease.term;
                day.later(300, Ousted(old));
            }
            20..27 => {
                self.lease.term = 0;
                return Ok(Some(ttl + day.dice.between(10, 5_000)));
            }
            _ => {}
        }
        Ok(Some(nap(day)))
    }
}

/// A holder that has lost its lease and does not know it.
struct Ousted(Lease);

impl Actor for Ousted {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let line = if day.dice.chance(500) {
            Line::one("leader_lease.renew", self.0.args())
        } else {
            let args = json!({
                "name": "logs", "trigger": "max_docs", "observed": {"docs": 1}, "new_index": "logs-late",
                "read_targets": ["logs-late"],
            });
            Line::one("rollover_policies.execute", args).under(&self.0).by(&self.0.holder)
        };
        day.misspeak(RejectionKind::LeaseLost, &line)?;
        Ok(None)
    }
}

/// An operation of several phases under a lease of its own, by one pod after another if need be.
pub(super) struct Operation {
    pub(super) lease: Lease,
    pub(super) phases: &'static [&'static str],
    pub(super) done: usize,
}

impl Operation {
    pub(super) fn begin(
        day: &mut Day<'_>,
        scope: &str,
        ttl_ms: Option<u64>,
        phases: &'static [&'static str],
    ) -> io::Result<Self> {
        let pod = *day.dice.pick(&PODS);
        let lease = acquire(day, scope, pod, ttl_ms)?;
        Ok(Self { lease, phases, done: 0 })
    }

    /// The phase that comes next; none if all are committed.
    pub(super) fn next(&self) -> Option<&'static str> {
        self.phases.get(self.done).copied()
    }

    pub(super) fn commit_next(&mut self, day: &mut Day<'_>) -> io::Result<()> {
        if let Some(name) = self.next() {
            commit_phase(day, &self.lease, name)?;
            self.done += 1;
        }
        Ok(())
    }

    /// Another pod goes on after the lease has ended, with the last phase that was committed.
    pub(super) fn take_over(&mut self, day: &mut Day<'_>, ttl_ms: Option<u64>) -> io::Result<()> {
        let pod = other_pod(day, &self.lease.holder);
        let mut args = json!({"scope": self.lease.scope, "holder": pod});
        if let Some(ttl) = ttl_ms {
            args["ttl_ms"] = ttl.into();
        }
        let reply = day.say(&Line::one("leader_lease.acquire", args))?;
        let phase = reply["phase"]["name"].as_str();
        self.done = self.phases.iter().position(|name| Some(*name) == phase).map_or(0, |at| at + 1);
        self.lease.holder = pod.into();
        self.lease.term = number(&reply["term"]);
        if reply["takeover"] == true { Ok(()) } else { Err(io::Error::other(format!("no takeover: {reply}"))) }
    }
}
