use std::sync::Arc;

use crate::{CommitId, Millis, Name, Position, StoreError, checksum};

/// One row's identity: a table and a key in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entity {
    /// The table.
    pub table: Name,
    /// The key, in the text form of the table's key columns.
    pub key: Box<str>,
}

impl Entity {
    /// The entity `key` of `table`.
    pub fn new(table: impl Into<Name>, key: impl Into<Box<str>>) -> Self {
        Self { table: table.into(), key: key.into() }
    }
}

impl std::fmt::Display for Entity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.table, self.key)
    }
}

/// Whether an event continues its entity's chain or begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// `prev` is the entity's rev at this point of the commit (none if it has never had an event).
    Continue,
    /// `prev` is none although an earlier event may exist: the earlier row died by time.
    Start,
}

/// An event to append. The log gives it its position and its `prev`.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// What it is about; one of the commit's [`Condition`]s must name it.
    pub entity: Entity,
    /// The event type, snake_case, past tense.
    pub event_type: Name,
    /// The version of the type's meaning.
    pub type_version: u32,
    /// How it links to the entity's earlier events.
    pub chain: Chain,
    /// MessagePack map with field names.
    pub payload: Vec<u8>,
}

/// A row a decision has read, and the rev it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The row.
    pub entity: Entity,
    /// The position of its last event, a tombstone's rev, or 0 for a row never seen.
    pub rev: Position,
}

/// Who, why and for which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMeta {
    /// The commit's unique id.
    pub id: CommitId,
    /// Who caused it.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// The caller's request.
    pub request_id: Option<Arc<str>>,
}

/// A commit to append: whole or absent.
#[derive(Clone, Debug)]
pub struct NewCommit {
    /// Id, actor, reason, request.
    pub meta: CommitMeta,
    /// The instant its decision saw, if that is not the instant of the append: recordings bring their own time.
    pub decided_at: Option<Millis>,
    /// What must still hold.
    pub conditions: Vec<Condition>,
    /// At least one event.
    pub events: Vec<NewEvent>,
    /// If present, the commit's caller may come again with the same id: the log keeps these bytes beside the id and
    /// answers them from [`crate::Log::find`].
    pub answer: Option<Vec<u8>>,
}

/// An event as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place.
    pub position: Position,
    /// The table it is about.
    pub table: Name,
    /// The key it is about.
    pub key: Box<str>,
    /// The event type.
    pub event_type: Name,
    /// The version of the type's meaning.
    pub type_version: u32,
    /// The entity's previous event.
    pub prev: Option<Position>,
    /// The bytes as stored.
    pub payload: Vec<u8>,
    /// CRC32C over [`crate::leaf`].
    pub checksum: u32,
}

/// A commit as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Id, actor, reason, request.
    pub meta: CommitMeta,
    /// The log's clock at the append, never less than the commit before.
    pub recorded_at: Millis,
    /// In order, dense.
    pub events: Vec<Event>,
}

impl Commit {
    /// The position of its first event.
    ///
    /// A commit has at least one event; an empty one (which no backend returns) answers 0.
    #[must_use]
    pub fn first(&self) -> Position {
        self.events.first().map_or(Position::ZERO, |event| event.position)
    }

    /// The position of its last event.
    #[must_use]
    pub fn last(&self) -> Position {
        self.events.last().map_or(Position::ZERO, |event| event.position)
    }

    /// Checks an event's stored checksum against its bytes.
    ///
    /// # Errors
    /// `corrupt`, naming the position.
    pub fn check(&self, event: &Event) -> Result<(), StoreError> {
        let found = checksum(&self.meta, self.recorded_at, event);
        if found == event.checksum {
            return Ok(());
        }
        Err(StoreError::corrupt(
            event.position,
            format!("checksum of its stored bytes: expected {:08x}, found {found:08x}", event.checksum),
        ))
    }
}
