use std::{sync::Arc, time::Duration};

use tasklog_log::redis::{Durability, Link, Time};

use super::Newest;

/// What a writer of a shared store is opened with.
pub struct RedisBackendOptions {
    /// The connection; this writer's alone.
    pub link: Arc<Link>,
    /// The keys' prefix.
    pub prefix: String,
    /// Whose clock the log keeps.
    pub time: Time,
    /// What an answer promises.
    pub durability: Durability,
    /// How long the outcome of a call is looked for after its answer was lost.
    pub resolve_max: Duration,
    /// How long answers are kept for a repeat of their command.
    pub answer_kept: Duration,
    /// What the writers of this process have seen.
    pub newest: Newest,
}

impl RedisBackendOptions {
    /// For one more writer of the same store in this process, with a connection of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            link: Arc::new(Link::new(self.link.connector().clone())),
            prefix: self.prefix.clone(),
            time: self.time.clone(),
            durability: self.durability,
            resolve_max: self.resolve_max,
            answer_kept: self.answer_kept,
            newest: self.newest.clone(),
        }
    }

    /// Whether the store keeps the time of a recording, whose commands have an order.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        matches!(self.time, Time::Given(_))
    }
}
