use std::io;

use serde_json::json;

use super::{
    actor::{Actor, Day, number},
    jobs,
    leases::{self, Operation},
    line::{Lease, Line},
    world::INDEXES,
};
use crate::rejection::RejectionKind;

/// `(alias, its targets in turn)`
const ALIASES: [(&str, [&str; 2]); 4] = [
    ("shop", ["products-a", "products-b"]),
    ("news", ["articles-a", "articles-b"]),
    ("people", ["users-a", "users-b"]),
    ("map", ["places-a", "places-b"]),
];
/// How often somebody flips an alias, in ms.
const FLIP_MS: u64 = 1_500_000;
/// When resharding begins, in ms of the day; it takes about ten minutes.
const RESHARDS: [(u64, &str); 2] = [(9 * 3_600_000, "products"), (16 * 3_600_000, "articles")];
/// When the search-only keys are rotated.
const ROTATIONS: [(u64, &str); 4] =
    [(7_200_000, "products"), (25_000_000, "articles"), (50_000_000, "users"), (70_000_000, "products")];
const RESHARD_TTL_MS: u64 = 60_000;

pub(super) fn begin(day: &mut Day<'_>) -> io::Result<()> {
    for (name, [target, _]) in ALIASES {
        let args = json!({"name": name, "target": target, "target_verified": true});
        let reply = day.say(&Line::one("aliases.create", args).by("alice"))?;
        day.world.aliases.insert(name.into(), number(&reply["version"]));
    }
    let after = day.pace(FLIP_MS);
    day.later(after, Operators);
    for (at, index) in RESHARDS {
        day.later(at, Reshard { index, operation: None, job: String::new(), patience: 100 });
    }
    for (at, index) in ROTATIONS {
        day.later(at, Rotation { index, operation: None });
    }
    Ok(())
}

/// People who move an alias to the other index, and sometimes back at once.
struct Operators;

impl Actor for Operators {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let (name, targets) = *day.dice.pick(&ALIASES);
        let version = day.world.aliases.get(name).copied().unwrap_or_default();
        let target = targets[(version % 2) as usize];
        let lease = if day.dice.chance(300) {
            Some(leases::acquire(day, &format!("alias_flip:{name}"), "pod-1", None)?)
        } else {
            None
        };
        let line = flip(day, name, target, "operator", lease.as_ref());
        day.say(&line)?;
        if day.dice.chance(80) {
            day.moment();
            day.say(&line)?;
        }
        day.world.aliases.insert(name.into(), version + 1);
        if day.dice.chance(200) {
            day.moment();
            let back = flip(day, name, targets[((version + 1) % 2) as usize], "rollback", lease.as_ref());
            day.say(&back)?;
            day.world.aliases.insert(name.into(), version + 2);
        }
        if let Some(lease) = &lease {
            if day.dice.chance(400) {
                let line = Line::one("leader_lease.clear", json!({"scope": lease.scope})).by("bob");
                day.misspeak(RejectionKind::NotPermitted, &line)?;
            }
            leases::release(day, lease)?;
        }
        let interval = day.pace(FLIP_MS);
        Ok(Some(day.dice.about(interval)))
    }
}

fn flip(day: &Day<'_>, name: &str, target: &str, why: &str, lease: Option<&Lease>) -> Line {
    let version = day.world.aliases.get(name).copied().unwrap_or_default();
    let args = json!({
        "name": name, "expected_version": version, "target": target, "why": why, "target_verified": true,
    });
    let line = Line::one("aliases.flip", args);
    lease.map_or_else(|| line.clone().by("alice"), |lease| line.clone().under(lease))
}

/// An index is cut into another number of shards: the work is a job that is split, then the alias of the index's own
/// name moves.
struct Reshard {
    index: &'static str,
    operation: Option<Operation>,
    job: String,
    patience: u64,
}

const RESHARD_PHASES: &[&str] = &["shadow", "backfill", "verify", "swap", "cleanup"];

impl Reshard {
    fn swap(&self, day: &mut Day<'_>, lease: &Lease) -> io::Result<()> {
        let args = json!({"name": self.index, "target": self.index, "target_verified": true});
        let reply = day.say(&Line::one("aliases.create", args).under(lease))?;
        let version = number(&reply["version"]);
        let args = json!({
            "name": self.index, "expected_version": version, "target": format!("{}__reshard_128", self.index),
            "why": "reshard", "target_verified": true,
        });
        day.say(&Line::one("aliases.flip", args).under(lease)).map(drop)
    }
}

impl Actor for Reshard {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let Some(mut operation) = self.operation.take() else {
            let scope = format!("reshard:{}", self.index);
            self.operation = Some(Operation::begin(day, &scope, Some(RESHARD_TTL_MS), RESHARD_PHASES)?);
            return Ok(Some(500));
        };
        leases::renew(day, &operation.lease, Some(RESHARD_TTL_MS))?;
        match operation.next() {
            Some("backfill") => {
                let params = json!({"index": self.index, "shards": 128});
                self.job = jobs::enqueue_parent(day, "reshard_backfill", params)?;
                operation.commit_next(day)?;
            }
            Some("verify") if !day.world.completed.contains(&self.job) && self.patience > 0 => {
                self.patience -= 1;
            }
            Some("swap") => {
                self.swap(day, &operation.lease)?;
                operation.commit_next(day)?;
            }
            Some(_) => operation.commit_next(day)?,
            None => {
                leases::release(day, &operation.lease)?;
                return Ok(None);
            }
        }
        self.operation = Some(operation);
        Ok(Some(20_000))
    }
}

/// The search-only key of an index is replaced.
struct Rotation {
    index: &'static str,
    operation: Option<Operation>,
}

const ROTATION_PHASES: &[&str] = &["mint", "publish", "drain", "revoke"];

impl Actor for Rotation {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let Some(mut operation) = self.operation.take() else {
            let scope = format!("search_ui_key_rotation:{}", self.index);
            self.operation = Some(Operation::begin(day, &scope, None, ROTATION_PHASES)?);
            return Ok(Some(100));
        };
        if operation.next().is_none() {
            leases::release(day, &operation.lease)?;
            return Ok(None);
        }
        operation.commit_next(day)?;
        leases::renew(day, &operation.lease, None)?;
        self.operation = Some(operation);
        Ok(Some(5_000))
    }
}

/// An alias of the day before goes; made again, it goes on counting.
pub(super) fn rename_alias(day: &mut Day<'_>) -> io::Result<()> {
    let create = |target: &str| {
        let args = json!({"name": "sale", "target": target, "target_verified": true});
        Line::one("aliases.create", args).by("bob")
    };
    let reply = day.say(&create("products-sale"))?;
    let args = json!({"name": "sale", "expected_version": reply["version"]});
    day.say(&Line::one("aliases.delete", args).by("bob"))?;
    day.moment();
    let reply = day.say(&create("products-b"))?;
    if reply["version"] == 2 { Ok(()) } else { Err(io::Error::other(format!("alias sale: {reply}"))) }
}

/// The indexes with a search page.
pub(super) const PAGES: [&str; 4] = [INDEXES[0], INDEXES[1], INDEXES[2], INDEXES[5]];
