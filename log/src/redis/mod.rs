//! The log as a stream in Redis.
//!
//! ```text
//! <prefix>:log          stream: one entry per commit, with the id <last position>-0
//! <prefix>:_head        hash: position, commit id and instant of the newest commit
//! <prefix>:_log         hash: id and epoch of the log, and whose clock it keeps
//! <prefix>:_epochs       list: who accepted the log as it was after a loss, and when
//! <prefix>:_answer:<id> string that expires: what the caller of a named commit was answered
//! ```
//! Everything that must happen together happens in one script, which checks before its first write, because a script
//! that fails half-way is not rolled back. An append names the head it follows; whoever was overtaken looks again.

mod adopt;
mod append;
mod birth;
mod connector;
mod entry;
mod epoch;
mod facts;
mod keys;
mod link;
mod log;
mod read;
mod script;
mod trim;
mod url;
mod wire;

pub use adopt::{BYTES_PER_CALL_MAX, ENTRIES_PER_CALL_MAX};
pub use birth::birth;
pub use connector::{Connector, PASSWORD_VARIABLE, SENTINEL_PASSWORD_VARIABLE, SERVER_MAJOR_MIN};
pub use entry::{Decoder, ENTRY_LAYOUT_VERSION, ENTRY_LUA, Prev, decode, encode, encode_commit, entry_id, seal};
pub use epoch::EPOCHS_TOLD_MAX;
pub use facts::{Facts, facts};
pub use keys::Keys;
use link::LOST_LOG;
pub use link::{Link, is_answer_lost, to_store_error};
pub use log::{ANSWER_RETENTION_DEFAULT, RedisLog, Time};
pub use script::Script;
pub use url::{
    CONNECT_TIMEOUT_DEFAULT, Durability, Host, PORT_DEFAULT, PREFIX_DEFAULT, RedisUrl, RedisUrlError,
    SENTINEL_PORT_DEFAULT, Secret, TIMEOUT_DEFAULT, TIMEOUT_MS_MAX,
};
pub use wire::{Part, Parts, Wire};
