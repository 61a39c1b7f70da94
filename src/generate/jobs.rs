use std::io;

use serde_json::{Value, json};

use super::{
    actor::{Actor, Day, number},
    line::Line,
    world::PODS,
};
use crate::rejection::RejectionKind;

/// How often somebody imports a dump, in ms.
const IMPORT_MS: u64 = 600_000;
/// How often an idle pod looks at the queue.
const LOOK_MS: u64 = 1_800_000;
/// And how often if it knows of work.
const BUSY_LOOK_MS: u64 = 20_000;
/// How often a claim is extended.
const HEARTBEAT_MS: u64 = 10_000;
/// When a claim that is not extended ends.
const CLAIM_MS: u64 = 30_000;
/// Chunks of a split job; they are enqueued by two calls.
const CHUNKS: u64 = 6;

/// Every pod works, and somebody imports dumps.
pub(super) fn begin(day: &mut Day<'_>) {
    for pod in PODS {
        let after = day.dice.below(60_000);
        day.later(after, Worker { pod, claim: None });
    }
    day.later(30_000, Importers);
}

/// Enqueues a job whose claimant will split it; answers its id.
pub(super) fn enqueue_parent(day: &mut Day<'_>, kind: &str, params: Value) -> io::Result<String> {
    let id = format!("job-{}", day.dice.hex(8));
    day.world.parents.insert(id.clone());
    enqueue(day, &id, kind, params)?;
    Ok(id)
}

fn enqueue(day: &mut Day<'_>, id: &str, kind: &str, params: Value) -> io::Result<()> {
    let mut args = json!({"id": id, "type": kind, "params": params});
    if day.dice.chance(150) {
        args["max_attempts"] = day.dice.between(1, 3).into();
    }
    day.say(&Line::one("jobs.enqueue", args))?;
    day.world.queued += 1;
    Ok(())
}

/// People who import dumps, of which a few are large.
struct Importers;

impl Actor for Importers {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let params = json!({"dump": format!("s3://dumps/{}.dump", day.dice.hex(6))});
        if day.dice.chance(60) {
            enqueue_parent(day, "dump_import", params)?;
        } else {
            let id = format!("job-{}", day.dice.hex(8));
            enqueue(day, &id, "dump_import", params)?;
        }
        let interval = day.pace(IMPORT_MS);
        Ok(Some(day.dice.about(interval)))
    }
}

/// A claim and the work done under it.
struct Claim {
    id: String,
    token: i64,
    parent: Option<String>,
    beats_left: u64,
    docs: u64,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Completes,
    Fails,
    Releases,
    /// The pod goes away and comes back when its claim has ended.
    Vanishes,
}

/// One pod that takes jobs from the queue.
struct Worker {
    pod: &'static str,
    claim: Option<Claim>,
}

impl Worker {
    fn look(&mut self, day: &mut Day<'_>) -> io::Result<u64> {
        let mut args = json!({"pod": self.pod});
        if day.dice.chance(200) {
            args["types"] = json!(["dump_import", "reshard_backfill"]);
        }
        let reply = day.say(&Line::one("jobs.claim_next", args))?;
        let job = &reply["job"];
        let (Some(id), token) = (job["id"].as_str(), number(&reply["claim_token"])) else {
            day.world.queued = 0;
            let interval = day.pace(LOOK_MS);
            return Ok(day.dice.about(interval));
        };
        day.world.queued = day.world.queued.saturating_sub(1);
        if day.world.parents.remove(id) {
            split(day, id, token)?;
            return Ok(day.dice.between(100, 1_000));
        }
        let end = match day.dice.below(100) {
            0..5 => End::Fails,
            5..10 => End::Releases,
            10..20 => End::Vanishes,
            _ => End::Completes,
        };
        let parent = job["parent_id"].as_str().map(str::to_owned);
        let beats_left = day.dice.below(if parent.is_some() { 2 } else { 6 });
        self.claim = Some(Claim { id: id.into(), token, parent, beats_left, docs: 0, end });
        Ok(HEARTBEAT_MS)
    }

    fn work(&mut self, day: &mut Day<'_>, mut claim: Claim) -> io::Result<u64> {
        claim.docs += day.dice.between(1_000, 9_000);
        let (id, token, docs) = (claim.id.clone(), claim.token, claim.docs);
        let mut args = json!({"id": id, "token": token});
        if claim.beats_left > 0 {
            claim.beats_left -= 1;
            let command = if day.dice.chance(150) { "jobs.save_progress" } else { "jobs.heartbeat" };
            if command == "jobs.save_progress" || day.dice.chance(500) {
                args["progress"] = json!({"docs_routed": docs});
            }
            day.say(&Line::one(command, args))?;
            let stays = command == "jobs.heartbeat";
            self.claim = Some(claim);
            // Saving does not extend the claim: the next beat has to come soon.
            return Ok(if stays { HEARTBEAT_MS } else { 1_000 });
        }
        match claim.end {
            End::Completes => {
                args["progress"] = json!({"docs_routed": docs});
                let line = Line::one("jobs.complete", args);
                day.say(&line)?;
                if day.dice.chance(30) {
                    day.say(&line)?;
                }
                day.world.completed.insert(claim.id);
            }
            End::Fails => {
                args["error"] = "dump is truncated".into();
                day.say(&Line::one("jobs.fail", args))?;
            }
            End::Releases => {
                day.say(&Line::one("jobs.release", args))?;
                day.world.queued += 1;
            }
            End::Vanishes => return vanish(day, self.pod, claim),
        }
        if let Some(parent) = claim.parent {
            day.moment();
            let reply = day.say(&Line::one("jobs.settle_parent", json!({"id": parent})))?;
            if reply["settled"] == true {
                day.world.completed.insert(parent);
            }
        }
        Ok(if day.world.queued > 0 { day.dice.between(50, 2_000) } else { day.dice.about(BUSY_LOOK_MS * 3) })
    }
}

/// The pod stands still beyond the end of its claim. Sometimes a timer finds that out, sometimes the next pod that looks
/// for work; the pod itself learns it when it wakes up.
fn vanish(day: &mut Day<'_>, pod: &'static str, claim: Claim) -> io::Result<u64> {
    day.world.queued += 1;
    let by_timer = day.dice.chance(500);
    if by_timer {
        day.later(CLAIM_MS + 5_000, RequeueTimer);
    } else {
        let other = PODS.into_iter().find(|other| *other != pod).unwrap_or(pod);
        day.later(CLAIM_MS + 5_000, Rescuer(other));
    }
    let asleep = CLAIM_MS + day.dice.between(15_000, 60_000);
    day.later(asleep, Sleeper { id: claim.id, token: claim.token });
    Ok(asleep + 5_000)
}

/// Returns jobs with ended claims to the queue.
pub(super) struct RequeueTimer;

impl Actor for RequeueTimer {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        day.say(&Line::one("jobs.requeue_expired", json!({})))?;
        Ok(None)
    }
}

/// A pod that takes a job whose claim has ended, and returns it to the queue at once.
struct Rescuer(&'static str);

impl Actor for Rescuer {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let reply = day.say(&Line::one("jobs.claim_next", json!({"pod": self.0})))?;
        if let Some(id) = reply["job"]["id"].as_str() {
            day.moment();
            let args = json!({"id": id, "token": reply["claim_token"]});
            day.say(&Line::one("jobs.release", args).because("draining"))?;
        }
        Ok(None)
    }
}

/// A pod that wakes up and believes it still has its claim.
struct Sleeper {
    id: String,
    token: i64,
}

impl Actor for Sleeper {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let args = json!({"id": self.id, "token": self.token});
        day.misspeak(RejectionKind::LeaseLost, &Line::one("jobs.heartbeat", args))?;
        day.world.lost_claim = Some((self.id.clone(), self.token));
        Ok(None)
    }
}

/// Splits a claimed job into chunks, by two calls.
fn split(day: &mut Day<'_>, id: &str, token: i64) -> io::Result<()> {
    let half = CHUNKS / 2;
    for first in [0, half] {
        day.moment();
        let chunks: Vec<_> = (first..first + half)
            .map(|chunk| json!({"parent_id": id, "chunk_index": chunk, "total_chunks": CHUNKS, "from": chunk * 100}))
            .collect();
        let args = json!({
            "id": id, "token": token, "chunks": chunks, "first_chunk": first, "total_chunks": CHUNKS,
            "last": first + half == CHUNKS,
        });
        day.say(&Line::one("jobs.split", args))?;
    }
    day.world.queued += CHUNKS;
    // Nobody has begun with the chunks: the parent stays as it is.
    day.say(&Line::one("jobs.settle_parent", json!({"id": id}))).map(drop)
}

impl Actor for Worker {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let after = match self.claim.take() {
            Some(claim) => self.work(day, claim)?,
            None if day.world.queued == 0 && day.dice.chance(900) => day.dice.about(BUSY_LOOK_MS),
            None => self.look(day)?,
        };
        Ok(Some(after))
    }
}
