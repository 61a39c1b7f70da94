use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, Write},
};

use serde_json::Value;

use super::{
    DAY_MS, LINES_TYPICAL,
    dice::Dice,
    line::Line,
    recorder::{Recorder, Said},
    world::World,
};
use crate::rejection::RejectionKind;

/// When the actors stop and the day is closed, unless lines are missing.
pub(super) const CLOSING_MS: u64 = DAY_MS - 5 * 60_000;
/// When they stop at the latest.
const CLOSED_MS: u64 = DAY_MS - 60_000;

/// One thing that goes on for a while.
pub(super) trait Actor {
    /// Does what is due at `day.now`; answers how many ms later it wants to go on, or none if it has ended.
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>>;
}

/// An actor's next turn. Those of one instant go in the order in which they were asked for.
struct Turn {
    at: u64,
    number: u64,
    actor: Box<dyn Actor>,
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Turn {}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The day as it goes on.
pub(super) struct Day<'o> {
    /// ms since its beginning.
    pub(super) now: u64,
    pub(super) dice: Dice,
    pub(super) world: World,
    pub(super) recorder: Recorder<'o>,
    lines_wanted: u64,
    turns: BinaryHeap<Reverse<Turn>>,
    turns_given: u64,
}

impl<'o> Day<'o> {
    pub(super) fn new(seed: u64, lines_wanted: u64, out: &'o mut dyn Write) -> io::Result<Self> {
        Ok(Self {
            now: 0,
            dice: Dice::new(seed),
            world: World::default(),
            recorder: Recorder::new(out)?,
            lines_wanted,
            turns: BinaryHeap::new(),
            turns_given: 0,
        })
    }

    /// Begins something, `after` ms from now.
    pub(super) fn later(&mut self, after: u64, actor: impl Actor + 'static) {
        self.push(after, Box::new(actor));
    }

    fn push(&mut self, after: u64, actor: Box<dyn Actor>) {
        self.turns_given += 1;
        self.turns.push(Reverse(Turn { at: self.now + after, number: self.turns_given, actor }));
    }

    /// Goes on until the evening, and until there are enough lines.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        while let Some(Reverse(mut turn)) = self.turns.pop() {
            if turn.at >= CLOSED_MS || (turn.at >= CLOSING_MS && self.lines_left() == 0) {
                break;
            }
            self.now = self.now.max(turn.at);
            if let Some(after) = turn.actor.act(self)? {
                self.push(after, turn.actor);
            }
        }
        self.now = self.now.max(CLOSING_MS);
        Ok(())
    }

    /// Lines that are still to be written.
    pub(super) fn lines_left(&self) -> u64 {
        self.lines_wanted.saturating_sub(self.recorder.summary.lines)
    }

    /// Lines that the whole day is to have.
    pub(super) fn lines_wanted(&self) -> u64 {
        self.lines_wanted
    }

    /// An interval of a typical day, as this day has it.
    pub(super) fn pace(&self, ms: u64) -> u64 {
        (ms * LINES_TYPICAL / self.lines_wanted.max(1)).max(2)
    }

    /// Lets a moment pass between two lines of one turn. Longer pauses are turns of their own: others wait meanwhile.
    pub(super) fn moment(&mut self) {
        self.now += self.dice.between(1, 20);
    }

    /// Says a line that the store must accept; answers its reply.
    pub(super) fn say(&mut self, line: &Line) -> io::Result<Value> {
        match self.recorder.say(self.now, line)? {
            Said::Reply(reply) => Ok(reply),
            Said::Refusal(kind, why) => Err(self.surprise(line, &format!("{}: {why}", kind.as_str()))),
        }
    }

    /// Says a line that may be accepted or refused.
    pub(super) fn try_to_say(&mut self, line: &Line) -> io::Result<Option<Value>> {
        match self.recorder.say(self.now, line)? {
            Said::Reply(reply) => Ok(Some(reply)),
            Said::Refusal(..) => Ok(None),
        }
    }

    /// Says a line that the store must refuse.
    pub(super) fn misspeak(&mut self, expected: RejectionKind, line: &Line) -> io::Result<()> {
        match self.recorder.say(self.now, line)? {
            Said::Refusal(kind, _) if kind == expected => Ok(()),
            Said::Refusal(kind, why) => Err(self.surprise(line, &format!("{}: {why}", kind.as_str()))),
            Said::Reply(reply) => Err(self.surprise(line, &format!("accepted: {reply}"))),
        }
    }

    fn surprise(&self, line: &Line, what: &str) -> io::Error {
        io::Error::other(format!("line {}, {}: {what}", self.recorder.summary.lines, line.text(self.now)))
    }
}

/// A whole number of a reply; 0 if it is not there.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}
