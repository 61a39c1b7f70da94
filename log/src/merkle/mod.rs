//! The log as a Merkle tree (RFC 6962): one root stands for every byte of every event, and a few hashes prove that an
//! event is in the log, or that a shorter log is the beginning of a longer one.
//!
//! ```text
//!             root = node(a, b)                leaf hash = SHA-256(0x00 ‖ leaf)
//!            /                 \               node      = SHA-256(0x01 ‖ left ‖ right)
//!       a = node(·,·)           b = node(·,·)
//!        /       \               /    \        the tree of n leaves covers positions 1 to n:
//!    chunk 0   chunk 1      chunk 2   rest     the event at position p is leaf p - 1
//!    1..=256   257..=512    513..=768 769..=n
//! ```
//! A leaf is [`crate::leaf`], so the tree is the same on every backend. **Kept** is one hash per complete subtree of
//! [`CHUNK_LEAVES`] leaves ([`KeptTree`]), which is only ever appended to; what is above follows from these, what is below
//! from the log itself. Keeping them is nobody's duty: whoever needs the tree computes what is missing ([`Tree`]), and
//! whoever may write keeps it ([`catch_up`]). Appending pays nothing.
//!
//! Checking a proof ([`check_inclusion`], [`check_consistency`]) needs no log.

mod catch_up;
mod frontier;
mod hash;
mod kept;
mod memory;
mod proof;
mod recompute;
mod redis;
mod sqlite;
mod tree;

pub use catch_up::{CaughtUp, catch_up};
pub use frontier::Frontier;
pub use hash::{Hash, leaf_hash, node_hash};
pub use kept::{CHUNK_LEAVES, Kept, KeptTree};
pub use memory::MemoryTree;
pub use proof::{ProofError, check_consistency, check_inclusion};
pub use recompute::Recompute;
pub use redis::RedisTree;
pub use sqlite::SqliteTree;
pub use tree::Tree;
