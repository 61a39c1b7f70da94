//! What happened, in order, durably.
//!
//! A log is a sequence of **events**. Every event has a dense [`Position`] and belongs to a **commit**: one atomic
//! append of one or more events with one id, one actor and one instant. Every event names the **entity** (table and
//! key) it is about and links back to the entity's previous event, so an entity's history is a linked list that needs
//! no index.
//!
//! Architecture invariant: this crate knows no table. It stores table names, keys and payloads as opaque text and
//! bytes, and never decodes a payload.
//!
//! ```text
//!   position   1     2     3     4     5     6
//!            +-----+-----------+-----------------+
//!   events   |  a  |  b     c  |  d     e     f  |      commits: [1] [2 3] [4 5 6]
//!            +-----+-----------+-----------------+
//!   read(after = 1) starts at 2; head() is 6; first() is 1; position 0 is "before everything"
//! ```

mod adopt;
pub mod archive;
mod blobs;
mod checksum;
mod clock;
mod commit;
mod deadline;
mod epoch;
mod error;
mod log;
pub mod memory;
pub mod merkle;
mod name;
pub mod note;
mod position;
pub mod redis;
pub mod sqlite;

pub use adopt::check_adopted;
pub use blobs::{BlobInfo, BlobReader, Blobs, MemoryBlobs};
pub use checksum::{LEAF_LAYOUT_VERSION, checksum, leaf};
pub use clock::{Clock, ManualClock, Millis, SystemClock, TIME_MS_MAX};
pub use commit::{Chain, Commit, CommitMeta, Condition, Entity, Event, NewCommit, NewEvent};
pub use epoch::AcceptedEpoch;
pub use error::{StoreError, StoreErrorKind};
pub use log::{
    Appended, COMMIT_BYTES_MAX, COMMIT_EVENTS_MAX, Checkpoint, Linked, Log, LogId, LogInfo, Outcome, READ_EVENTS_MAX,
    Refused, Revs, StaleCondition, Stored, check_bounds, link, read_checked, read_checked_but,
};
pub use name::Name;
pub use position::{CommitId, Position};
