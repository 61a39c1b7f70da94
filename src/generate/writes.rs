use std::io;

use serde_json::{Value, json};

use super::{
    DAY_MS,
    actor::{Actor, CLOSING_MS, Day},
    line::Line,
    sessions::{self, Settled},
    world::{INDEXES, NODES, Recorded, TASK_TYPES},
};
use crate::rejection::RejectionKind;

/// How busy the clients are in each hour of the day.
const HOURS: [u64; 24] = [3, 2, 2, 2, 2, 3, 4, 6, 8, 10, 11, 11, 10, 10, 11, 11, 10, 9, 8, 7, 6, 5, 4, 3];
const HOUR_MS: u64 = DAY_MS / HOURS.len() as u64;
/// Lines of one write on the average, with its retries and its session.
const LINES_PER_WRITE: u64 = 6;
/// Lines of a day that others write, in hundredths: what the first hours have to assume.
const OTHERS_PERCENT: u64 = 52;

/// Clients: begins writes, as many as are missing to the wanted number of lines.
pub(super) struct Clients;

impl Actor for Clients {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let write = Write::begin(day);
        day.later(0, write);
        Ok(Some(gap(day)))
    }
}

/// ms until the next write.
fn gap(day: &mut Day<'_>) -> u64 {
    if day.now >= CLOSING_MS {
        return day.dice.between(30, 200);
    }
    let others = day.lines_wanted() * OTHERS_PERCENT / 100 * (CLOSING_MS - day.now) / CLOSING_MS;
    let writes = (day.lines_left().saturating_sub(others) / LINES_PER_WRITE).max(1);
    let hour = (day.now / HOUR_MS) as usize;
    let busy_ms_left = HOURS[hour] * (HOUR_MS - day.now % HOUR_MS) + HOURS[hour + 1..].iter().sum::<u64>() * HOUR_MS;
    let gap = busy_ms_left / HOURS[hour] / writes;
    day.dice.about(gap.clamp(2, HOUR_MS))
}

/// How a write ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Succeeds,
    Fails,
    Canceled,
    /// No node could be reached.
    Undispatched,
    /// The pod went away between accepting and dispatching.
    Lost,
}

fn fate(day: &mut Day<'_>) -> Fate {
    match day.dice.below(1_000) {
        0..15 => Fate::Fails,
        15..30 => Fate::Canceled,
        30..38 => Fate::Undispatched,
        38..43 => Fate::Lost,
        _ => Fate::Succeeds,
    }
}

#[derive(Clone, Copy)]
enum Stage {
    Accept,
    Dispatch,
    LostAnswer,
    Cancel,
    /// The nodes have begun.
    Processing,
    /// The first ones have ended.
    Partly,
    Ended,
    Settled,
    DispatchLost,
}

/// One write of a client, from its acceptance to its end on all nodes.
struct Write {
    task: String,
    index: &'static str,
    key: Option<Recorded>,
    session: Option<String>,
    /// Each with its task UID.
    nodes: Vec<(&'static str, u64)>,
    fate: Fate,
    stage: Stage,
}

impl Write {
    fn begin(day: &mut Day<'_>) -> Self {
        let task = day.world.task_id(&day.dice.hex(2));
        let index = *day.dice.pick(&INDEXES);
        let key =
            day.dice.chance(550).then(|| Recorded { key: day.dice.uuid(), body: day.dice.hex(64), task: task.clone() });
        let session = sessions::of_a_write(day);
        let fate = fate(day);
        Self { task, index, key, session, nodes: Vec::new(), fate, stage: Stage::Accept }
    }

    /// Key, task and session pin in one transact.
    fn accept(&mut self, day: &mut Day<'_>) -> io::Result<()> {
        let mut register = json!({"miroir_id": self.task, "node_tasks": {}, "index_uid": self.index});
        if day.dice.chance(500) {
            register["task_type"] = (*day.dice.pick(&TASK_TYPES)).into();
        }
        let mut commands = Vec::new();
        commands.extend(self.key.as_ref().map(check_or_record));
        commands.push(("tasks.register", register));
        if let Some(session) = &self.session {
            commands.push(("sessions.record_write", json!({"session_id": session, "mtask_id": self.task})));
        }
        let line = Line::all(commands);
        day.say(&line)?;
        if let Some(key) = self.key.clone() {
            if self.fate != Fate::Undispatched {
                day.world.recorded(key.clone());
            }
            if day.dice.chance(50) {
                let again = Retry { key, index: self.index };
                let after = day.dice.between(200, 20_000);
                day.later(after, again);
            }
        }
        Ok(())
    }

    /// A node task per node, and the session's pin to the group that was first.
    fn dispatch(&mut self, day: &mut Day<'_>) -> io::Result<()> {
        let copies = if day.dice.chance(80) { 4 } else { 2 };
        let first = day.dice.below(NODES.len() as u64) as usize;
        self.nodes = (0..copies)
            .map(|n| NODES[(first + n) % NODES.len()])
            .map(|node| (node, day.world.node_uid(node)))
            .collect();
        let mut commands: Vec<_> = self
            .nodes
            .iter()
            .map(|(node, uid)| {
                ("tasks.attach_node_task", json!({"miroir_id": self.task, "node_id": node, "task_uid": uid}))
            })
            .collect();
        if let Some(session) = &self.session {
            let group = first / (NODES.len() / 2);
            let args = json!({"session_id": session, "mtask_id": self.task, "pinned_group": group});
            commands.push(("sessions.record_write", args));
        }
        let line = Line::all(commands);
        let line = if day.dice.chance(30) { line.request(&format!("r-{}", day.dice.hex(8))) } else { line };
        day.say(&line)?;
        if day.dice.chance(15) {
            // Another pod believes that the node took the write under another number.
            let (node, uid) = self.nodes[0];
            let args = json!({"miroir_id": self.task, "node_id": node, "task_uid": uid + 50_000});
            day.misspeak(RejectionKind::Conflict, &Line::one("tasks.attach_node_task", args))?;
        }
        Ok(())
    }

    /// Nothing was written anywhere: the key is free again.
    fn give_up(&self, day: &mut Day<'_>) -> io::Result<()> {
        let mut commands = Vec::new();
        if let Some(Recorded { key, task, .. }) = &self.key {
            let args = json!({"key": key, "miroir_task_id": task, "why": "no node reachable"});
            commands.push(("idempotency_cache.release", args));
        }
        let failed = json!({"miroir_id": self.task, "status": "failed", "error": "no node reachable"});
        commands.push(("tasks.set_status", failed));
        day.say(&Line::all(commands)).map(drop)
    }

    fn replace(&mut self, day: &mut Day<'_>) -> io::Result<()> {
        let (node, old_uid) = self.nodes[0];
        let new_uid = day.world.node_uid(node);
        self.nodes[0].1 = new_uid;
        let args = json!({
            "miroir_id": self.task, "node_id": node, "old_uid": old_uid, "new_uid": new_uid, "why": "answer lost",
        });
        day.say(&Line::one("tasks.replace_node_task", args)).map(drop)
    }

    fn report(&self, day: &mut Day<'_>, nodes: &[(&'static str, u64)], status: &str) -> io::Result<()> {
        let error = matches!(status, "failed").then(|| Value::from("index not found"));
        let reports: Vec<_> = nodes
            .iter()
            .map(|(node, _)| match &error {
                Some(error) => json!({"node_id": node, "status": status, "error": error}),
                None => json!({"node_id": node, "status": status}),
            })
            .collect();
        let line = Line::one("tasks.report_node_statuses", json!({"miroir_id": self.task, "reports": reports}));
        day.say(&line)?;
        if day.dice.chance(12) {
            // Two pods poll the same node: the second report moves nothing.
            day.say(&line)?;
        }
        Ok(())
    }

    fn last_status(&self) -> &'static str {
        match self.fate {
            Fate::Fails => "failed",
            Fate::Canceled => "canceled",
            _ => "succeeded",
        }
    }
}

impl Actor for Write {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let (next, after) = match self.stage {
            Stage::Accept => {
                self.accept(day)?;
                match self.fate {
                    Fate::Lost => (Stage::DispatchLost, 60_000 + day.dice.below(30_000)),
                    _ => (Stage::Dispatch, day.dice.between(5, 60)),
                }
            }
            Stage::Dispatch if self.fate == Fate::Undispatched => {
                self.give_up(day)?;
                return Ok(None);
            }
            Stage::Dispatch => {
                self.dispatch(day)?;
                match day.dice.below(1_000) {
                    0..15 => (Stage::LostAnswer, day.dice.between(500, 2_000)),
                    _ if self.fate == Fate::Canceled => (Stage::Cancel, day.dice.between(20, 3_000)),
                    // A small write: all nodes have ended before the first poll.
                    15..200 => (Stage::Ended, 25),
                    _ => (Stage::Processing, day.dice.between(25, 400)),
                }
            }
            Stage::LostAnswer => {
                self.replace(day)?;
                (Stage::Processing, day.dice.between(25, 400))
            }
            Stage::Cancel => {
                day.say(&Line::one("tasks.cancel", json!({"miroir_id": self.task, "error": "canceled by client"})))?;
                (Stage::Ended, day.dice.between(50, 1_000))
            }
            Stage::Processing => {
                let begun = self.nodes.len() - usize::from(day.dice.chance(200));
                self.report(day, &self.nodes[..begun], "processing")?;
                let partly = day.dice.chance(300);
                (if partly { Stage::Partly } else { Stage::Ended }, day.dice.between(50, 4_000))
            }
            Stage::Partly => {
                self.report(day, &self.nodes[..1], "succeeded")?;
                (Stage::Ended, day.dice.between(50, 4_000))
            }
            Stage::Ended => {
                if self.fate == Fate::Fails {
                    // What the other nodes report is recorded, and changes nothing any more.
                    let (before, last) = self.nodes.split_at(self.nodes.len() - 1);
                    self.report(day, last, self.last_status())?;
                    self.report(day, before, "succeeded")?;
                } else {
                    self.report(day, &self.nodes, self.last_status())?;
                }
                if self.last_status() == "succeeded" {
                    day.world.succeeded(&self.task);
                }
                (Stage::Settled, day.dice.between(50, 5_000))
            }
            Stage::Settled => {
                if let Some(session) = self.session.take().filter(|_| day.dice.chance(350)) {
                    Settled { session, task: self.task.clone() }.say(day)?;
                }
                return Ok(None);
            }
            Stage::DispatchLost => {
                let args = json!({"miroir_id": self.task, "status": "failed", "error": "dispatch_lost"});
                day.say(&Line::one("tasks.set_status", args))?;
                return Ok(None);
            }
        };
        self.stage = next;
        Ok(Some(after))
    }
}

fn check_or_record(Recorded { key, body, task }: &Recorded) -> (&'static str, Value) {
    ("idempotency_cache.check_or_record", json!({"key": key, "body_sha256": body, "miroir_task_id": task}))
}

/// A client that had no answer in time and writes again under the same key: mostly the same, sometimes something else.
struct Retry {
    key: Recorded,
    index: &'static str,
}

impl Actor for Retry {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let known = day.world.keys.iter().any(|recorded| recorded.key == self.key.key);
        if !known {
            return Ok(None);
        }
        let task = format!("mtask-{}", day.dice.hex(8));
        let other_body = day.dice.chance(150);
        let body = if other_body { day.dice.hex(64) } else { self.key.body.clone() };
        let again = Recorded { key: self.key.key.clone(), body, task: task.clone() };
        let register = json!({"miroir_id": task, "node_tasks": {}, "index_uid": self.index});
        let line = Line::all(vec![check_or_record(&again), ("tasks.register", register)]);
        if other_body {
            day.misspeak(RejectionKind::Conflict, &line)?;
        } else {
            day.say(&line)?;
        }
        Ok(None)
    }
}
