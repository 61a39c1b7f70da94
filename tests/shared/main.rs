//! What the shared keys promise, in one process and on Redis: one suite, each case on both.
//!
//! A backend joins with a `Harness` and one line below. A case joins with its name in `each_case`; one that is forgotten
//! there is dead code, and the compiler says so.
#![allow(clippy::unwrap_used, missing_docs)]

mod cases;
mod embedded;
mod on_redis;

use std::{sync::Arc, thread, time::Duration};

use redis::Client;
use tasklog::shared::{MemoryKeys, RedisKeys, Shared, SharedConfig, SharedKeys, StoreBackend};
use tasklog_log::SystemClock;
use tasklog_testing::RedisServer;
use tempfile::TempDir;

/// One backend: two handles of it are two pods, where there can be two.
pub trait Harness: Sized {
    const STORE: StoreBackend;
    fn start() -> Self;
    fn keys(&self) -> Arc<dyn SharedKeys>;

    fn shared(&self, config: SharedConfig) -> Shared {
        Shared::new(config, Self::STORE, self.keys(), self.keys()).unwrap()
    }
}

/// One process; overflow in files.
pub struct Memory {
    keys: Arc<dyn SharedKeys>,
    _folder: TempDir,
}

impl Harness for Memory {
    const STORE: StoreBackend = StoreBackend::Embedded;

    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = MemoryKeys::new(Arc::new(SystemClock)).with_cdc_folder(folder.path()).unwrap();
        Self { keys: Arc::new(keys), _folder: folder }
    }

    fn keys(&self) -> Arc<dyn SharedKeys> {
        Arc::clone(&self.keys)
    }
}

/// A Redis of this test; every handle has connections of its own.
pub struct Redis {
    pub server: RedisServer,
}

pub fn redis_keys(server: &RedisServer, prefix: &str) -> RedisKeys {
    let client = Client::open(server.url()).unwrap();
    let connect = move || {
        let connection = client.get_connection_with_timeout(Duration::from_secs(10))?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(connection)
    };
    RedisKeys::new(Arc::new(connect), prefix)
}

impl Harness for Redis {
    const STORE: StoreBackend = StoreBackend::Redis;

    fn start() -> Self {
        Self { server: RedisServer::start() }
    }

    fn keys(&self) -> Arc<dyn SharedKeys> {
        Arc::new(redis_keys(&self.server, "miroir"))
    }
}

pub fn sleep_ms(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

/// Runs `work` on eight threads at once and gives what each answered.
pub fn race<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = std::sync::Barrier::new(8);
    thread::scope(|scope| {
        let (barrier, work) = (&barrier, &work);
        let run = move |n| {
            barrier.wait();
            work(n)
        };
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || run(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

macro_rules! each_case {
    ($run:ident) => {
        $run! {
            hits_are_counted_per_address_and_refused_beyond_the_limit
            a_window_ends_at_its_time_and_later_hits_do_not_renew_it
            queries_and_sessions_of_the_search_page_have_limits_of_their_own
            an_address_in_other_clothes_is_the_same_address
            of_eight_threads_exactly_the_limit_is_let_through
            the_eleventh_login_of_a_window_is_refused_without_a_look_at_the_key
            the_fifth_failure_blocks_and_each_further_one_doubles
            attempts_during_a_block_are_not_counted
            a_success_forgets_the_failures
            failures_outlast_their_block_and_are_forgotten_later
            changes_come_out_in_order_and_stay_until_acknowledged
            the_oldest_changes_make_room
            a_change_larger_than_the_bound_is_dropped_itself
            one_push_may_drop_more_than_one_step_drops
            a_change_that_was_dropped_meanwhile_is_not_acknowledged_twice
            two_consumers_of_one_buffer_lose_nothing
            any_bytes_and_any_names_go_through_a_buffer
            the_byte_count_is_exact_after_eight_threads
            a_first_key_has_no_previous
            a_rotation_keeps_the_old_key_until_it_is_finished
            of_eight_rotations_exactly_one_wins
            a_repeated_publication_gives_the_first_answer
            a_request_outside_the_window_needs_force
            the_gate_opens_after_the_drain_when_every_live_peer_has_shown_the_generation
            a_beacon_that_died_closes_the_gate
            no_known_peer_opens_no_gate
            one_pod_alone_waits_for_the_drain_only
            a_refresh_shows_only_what_was_adopted
            indexes_with_odd_names_are_listed_and_forgotten
            a_revocation_reaches_every_listener
            overflow_drop_skips_the_buffer
        }
    };
}

macro_rules! tests {
    ($($case:ident)*) => {
        $(#[test]
        fn $case() {
            crate::cases::$case::<Backend>();
        })*
    };
}

macro_rules! backends {
    ($($backend:ident => $harness:ty;)*) => {
        mod conformance {
            $(mod $backend {
                type Backend = $harness;
                each_case! { tests }
            })*
        }
    };
}

backends! {
    memory => crate::Memory;
    redis => crate::Redis;
}
