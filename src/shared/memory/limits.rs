use std::{collections::HashMap, hash::Hash, net::IpAddr};

use tasklog_log::Millis;

use crate::shared::{Counter, Hits, LoginGate, LoginOutcome, LoginRecord};

/// Dead entries are removed when a map has grown to this many, and then whenever it has doubled.
const SWEEP_ENTRIES_MIN: usize = 1_024;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Counter(Counter),
    Login(IpAddr),
}

/// Entries that die by time.
struct Mortal<K, V> {
    entries: HashMap<K, (V, Millis)>,
    sweep_at: usize,
}

impl<K, V> Default for Mortal<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at: SWEEP_ENTRIES_MIN }
    }
}

impl<K: Eq + Hash, V: Copy> Mortal<K, V> {
    fn live(&self, key: &K, now: Millis) -> Option<(V, Millis)> {
        self.entries.get(key).copied().filter(|(_, dies_at)| now < *dies_at)
    }

    fn put(&mut self, key: K, value: V, dies_at: Millis, now: Millis) {
        self.entries.insert(key, (value, dies_at));
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, (_, dies_at)| now < *dies_at);
            self.sweep_at = SWEEP_ENTRIES_MIN.max(self.entries.len() * 2);
        }
    }
}

/// Counters and login failures of one process.
#[derive(Default)]
pub(super) struct Limits {
    windows: Mortal<Key, u64>,
    logins: Mortal<IpAddr, LoginRecord>,
}

impl Limits {
    pub(super) fn hit(&mut self, key: Key, window_ms: Millis, now: Millis) -> Hits {
        let (count, ends_at) = self.windows.live(&key, now).unwrap_or((0, now.saturating_add(window_ms)));
        self.windows.put(key, count + 1, ends_at, now);
        Hits { count: count + 1, reset_in_ms: ends_at.saturating_sub(now) }
    }

    pub(super) fn login_attempt(&mut self, ip: IpAddr, window_ms: Millis, now: Millis) -> LoginGate {
        let until = self.logins.live(&ip, now).map_or(0, |(record, _)| record.next_allowed_at);
        if now < until {
            return LoginGate::Blocked { until, left_ms: until - now };
        }
        LoginGate::Counted(self.hit(Key::Login(ip), window_ms, now))
    }

    pub(super) fn login_outcome(&mut self, ip: IpAddr, outcome: &LoginOutcome, now: Millis) -> LoginRecord {
        match outcome {
            LoginOutcome::Succeeded => {
                self.windows.entries.remove(&Key::Login(ip));
                self.logins.entries.remove(&ip);
                LoginRecord::default()
            }
            LoginOutcome::Failed(policy) => {
                let failed_count = self.logins.live(&ip, now).map_or(0, |(record, _)| record.failed_count);
                let (record, dies_at) = policy.fail(failed_count, now);
                self.logins.put(ip, record, dies_at, now);
                record
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_seen_again_are_forgotten() {
        let mut limits = Limits::default();
        for n in 0..100_000_u32 {
            let key = Key::Login(IpAddr::from(n.to_be_bytes()));
            limits.hit(key, 1_000, Millis::from(n));
        }
        assert!(limits.windows.entries.len() <= 3 * SWEEP_ENTRIES_MIN, "{}", limits.windows.entries.len());
    }
}
