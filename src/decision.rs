//! What a command decides on, and what it makes: the read-only view with the batch's changes on top, and the events.

use std::sync::Arc;

use tasklog_log::{
    COMMIT_BYTES_MAX, COMMIT_EVENTS_MAX, Chain, Condition, Entity, Event, Millis, NewEvent, Position, StoreError,
};
use tasklog_projections::{AnyRow, At, Cell, Row, Scan, Table, TableDef, TableEvent, evolve, facts, pair, typed};

use crate::{
    config::Config,
    facts::Looked,
    last_event::{Events, last_event},
    meters::Count,
    rejection::{Error, Rejection},
    rows::{Rows, Seen},
};

/// A lease that a command says it works under.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseClaim {
    /// The lease's scope.
    pub scope: String,
    /// The term the holder was granted.
    pub term: i64,
}

/// The place of an event in the commit that is being decided. Its position is known only after the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventIndex(pub(crate) usize);

/// What a command decides on: the present instant, the configuration, and the rows as they are with everything that this
/// batch has already changed. Every row read here becomes a condition of the commit; every event emitted here is folded
/// at once, so that what follows sees its effect.
pub struct Decision<'a> {
    pub(crate) now: Millis,
    pub(crate) config: &'a Config,
    pub(crate) rows: &'a mut Rows,
    pub(crate) store: &'a mut dyn crate::rows::Below,
    pub(crate) lease: Option<&'a LeaseClaim>,
    pub(crate) made: Made,
}

/// What a decision has come to.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) events: Vec<NewEvent>,
    /// Bytes of payloads and keys so far.
    pub(crate) bytes: usize,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) subject: Option<(&'static TableDef, String)>,
    pub(crate) more: bool,
    pub(crate) look_again: bool,
    pub(crate) ends_transact: bool,
    /// Whether a row that it read is only assumed to be absent.
    pub(crate) assumed: bool,
    /// ms: the first instant at which a row that it saw alive will have died.
    pub(crate) valid_until: Option<Millis>,
    /// Rows it saw dead, which the backend may have removed meanwhile.
    pub(crate) dead: Vec<Entity>,
    /// Whether an event would tell a position that an earlier commit of this batch has yet to be given.
    pub(crate) waits: bool,
    /// What is counted once this stands.
    pub(crate) counts: Vec<Count>,
}

impl Decision<'_> {
    /// The log's clock at this group commit.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.config
    }

    /// A new id: a UUIDv7.
    #[must_use]
    pub fn mint_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }

    /// 256 random bits in hex, for ids that must not be guessed.
    #[must_use]
    pub fn mint_secret(&self) -> String {
        hex::encode(rand::random::<[u8; 32]>())
    }

    /// Names the row that the reply's `rev` is about.
    pub fn subject<T: Table>(&mut self, key: &str) {
        self.made.subject = Some((T::def(), key.to_owned()));
    }

    /// The live row, if there is one.
    ///
    /// # Errors
    /// The store's.
    pub fn get<T: Table>(&mut self, key: &str) -> Result<Option<Arc<T::Row>>, Error> {
        let (row, _) = self.look(T::def(), key)?;
        self.live::<T>(row)
    }

    /// The live row that the command is about, and that the reply's `rev` is about. An error calls it `what`.
    ///
    /// # Errors
    /// `not_found` if there is none; the store's.
    pub fn existing<T: Table>(&mut self, what: &str, key: &str) -> Result<Arc<T::Row>, Error> {
        self.subject::<T>(key);
        let row = self.get::<T>(key)?;
        Ok(row.ok_or_else(|| Rejection::not_found(format!("no {what} {key}")))?)
    }

    /// The live row's rev; 0 if there is none.
    ///
    /// # Errors
    /// The store's.
    pub fn rev<T: Table>(&mut self, key: &str) -> Result<Position, Error> {
        let (row, rev) = self.look(T::def(), key)?;
        Ok(row.filter(|row| row.is_live(self.now)).map_or(Position::ZERO, |_| rev))
    }

    /// The last event of an entity whose row was deleted and is still remembered: version counters continue through it. One
    /// that cannot be read is left out if it is quarantined.
    ///
    /// # Errors
    /// The store's; `corrupt` if the log does not have the event that the tombstone names.
    pub fn last_event_of_deleted<T: Table>(&mut self, key: &str) -> Result<Option<T::Event>, Error> {
        let (row, rev) = self.look(T::def(), key)?;
        if row.is_some() || rev == Position::ZERO {
            return Ok(None);
        }
        // Of this batch, and so not in the log yet.
        if let Some(event) = self.rows.deletion(rev) {
            let decoded = T::Event::decode(&event.event_type, event.type_version, &event.payload);
            return Ok(Some(decoded.map_err(|error| StoreError::corrupt(rev, error.to_string()))?));
        }
        last_event::<T>(self, rev)
    }

    /// A bounded page of live rows along a declared index, including what this batch has changed. A page shorter than
    /// the limit does not mean the end where dead rows may stand in the index: bound the scan by their instant.
    ///
    /// # Errors
    /// The store's.
    pub fn scan<T: Table>(&mut self, scan: &Scan<'_>) -> Result<Vec<Arc<T::Row>>, Error> {
        let table = T::def();
        self.rows.flush(table, self.store)?;
        let page = self.store.view().scan(table, scan)?;
        let mut rows = Vec::with_capacity(page.len());
        for held in page {
            let key = held.row.key();
            self.rows.met(table, &key, held);
            let (row, _) = self.look(table, &key)?;
            rows.extend(self.live::<T>(row)?);
        }
        Ok(rows)
    }

    /// How many live rows the table has. For rows that die by time, `by_death` names the index on their instant.
    ///
    /// # Errors
    /// The store's.
    pub fn count_live<T: Table>(&mut self, by_death: Option<&str>) -> Result<u64, Error> {
        let table = T::def();
        let rows = self.rows.count(table, self.store)?;
        let Some(index) = by_death else { return Ok(rows) };
        self.rows.flush(table, self.store)?;
        let dead = Scan::all(index).to(std::ops::Bound::Included(vec![Cell::Integer(self.now)]));
        Ok(rows - self.store.view().count(table, &dead)?.min(rows))
    }

    /// How many rows a scan without limit would meet, including what this batch has changed. Not a condition of the
    /// commit: use it where a row that appears or goes meanwhile does no harm.
    ///
    /// # Errors
    /// The store's.
    pub fn count<T: Table>(&mut self, scan: &Scan<'_>) -> Result<u64, Error> {
        let table = T::def();
        self.rows.flush(table, self.store)?;
        Ok(self.store.view().count(table, scan)?)
    }

    /// Whether the table may have at least `bound` live rows. Cheap, and exact only when the answer is no.
    ///
    /// # Errors
    /// The store's.
    pub fn may_have<T: Table>(&mut self, bound: u64) -> Result<bool, Error> {
        Ok(self.rows.count(T::def(), self.store)? >= bound)
    }

    /// Emits an event and folds it.
    ///
    /// # Errors
    /// `already_exists` if a unique index is violated, `invalid` beyond the bounds of a commit, or the store's.
    pub fn emit<T: Table>(&mut self, key: &str, event: impl Into<T::Event>) -> Result<EventIndex, Error> {
        let event: T::Event = event.into();
        let table = T::def();
        let index = self.made.events.len();
        if index == COMMIT_EVENTS_MAX {
            return Err(Rejection::invalid(format!("commit_events_max: more than {COMMIT_EVENTS_MAX} events")).into());
        }
        let (before, rev) = self.look(table, key)?;
        let event_type = event.event_type();
        let payload = event.encode();
        if self.rows.is_provisional() && tells_provisional(&payload) {
            self.made.waits = true;
            return Err(StoreError::unavailable(format!("{}: waits for a position", event_type.name)).into());
        }
        self.made.bytes += payload.len() + key.len();
        if self.made.bytes > COMMIT_BYTES_MAX {
            return Err(Rejection::invalid(format!("commit_bytes_max: more than {COMMIT_BYTES_MAX} bytes")).into());
        }
        let dead = before.as_ref().is_some_and(|row| !row.is_live(self.now));
        if !dead {
            self.rows.check_link(table, key, self.store)?;
        }
        let at = At { position: self.rows.position_of(index), recorded_at: self.now, key };
        let after = evolve::<T>(before, event, &at).map_err(|why| {
            // The decision contradicts the fold: this program's fault, reported without writing anything.
            StoreError::corrupt_store(format!("{} on {}/{key} at rev {rev}: {}", event_type.name, T::NAME, why.0))
        })?;
        if let Some(row) = &after {
            self.check_unique::<T>(table, key, row)?;
        }
        let event = NewEvent {
            entity: Entity::new(table.name, key),
            event_type: event_type.name.into(),
            type_version: event_type.version,
            chain: if dead { Chain::Start } else { Chain::Continue },
            payload,
        };
        if after.is_none() {
            self.rows.bury(at.position, event.clone());
        }
        self.made.events.push(event);
        self.rows.put(table, key, after, at.position, self.now);
        Ok(EventIndex(index))
    }

    /// Makes a row what replays give from now on, in the commit of the decision about one of its events and without an event
    /// of its own: whoever decides on the row afterwards sees it so. Where others write as well, rows are put right after
    /// the commit.
    ///
    /// # Errors
    /// `conflict` if the row has gone on since it was looked at; the store's.
    pub(crate) fn amend(&mut self, looked: &Looked) -> Result<(), Error> {
        let Looked { table, key, rev: seen, becomes } = looked;
        let (_, rev) = self.look(table, key)?;
        if rev != *seen {
            return Err(Rejection::conflict(&format!("{}/{key}: rev", table.name), seen, rev).into());
        }
        if let Some(row) = becomes
            && !self.rows.is_provisional()
        {
            self.rows.put(table, key, row.clone(), rev, self.now);
        }
        Ok(())
    }

    /// Has something counted as soon as this decision stands. What comes with an event is forgotten if the command, or its
    /// transact, leaves none.
    pub(crate) fn note(&mut self, count: Count) {
        self.made.counts.push(count);
    }

    /// Which event of this commit stands at a position that a row tells; none if it is an earlier commit's.
    #[must_use]
    pub fn own_event(&self, position: i64) -> Option<EventIndex> {
        (0..self.made.events.len()).map(EventIndex).find(|event| self.rows.position_of(event.0).to_i64() == position)
    }

    /// Requires the command to carry a live lease on `scope`.
    ///
    /// # Errors
    /// `not_permitted` without it. (Whether it still holds is checked for every command that carries one.)
    pub fn require_lease(&self, scope: &str) -> Result<(), Error> {
        match self.lease {
            Some(lease) if lease.scope == scope => Ok(()),
            Some(lease) => {
                Err(Rejection::not_permitted(format!("needs lease {scope:?}, carries {:?}", lease.scope)).into())
            }
            None => Err(Rejection::not_permitted(format!("needs lease {scope:?}, carries none")).into()),
        }
    }

    /// The lease the command carries.
    #[must_use]
    pub fn lease(&self) -> Option<&LeaseClaim> {
        self.lease
    }

    /// Says that a chunked command is to be decided again, in a further commit.
    pub fn more(&mut self) {
        self.made.more = true;
    }

    /// Says that this commit is the whole command as far as this decision can know, but that other writers may have
    /// added rows meanwhile: the command is decided once more after it. The commit carries the command's id, and is the
    /// one that the reply reports unless a further one is needed. In a transact there is no such second look.
    pub fn look_again(&mut self) {
        self.made.look_again = true;
    }

    /// How many more events this commit has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        COMMIT_EVENTS_MAX - self.made.events.len()
    }

    /// How many of the events that a chunked command may still make fit this commit.
    #[must_use]
    pub fn room_for(&self, left: u64) -> usize {
        usize::try_from(left).unwrap_or(usize::MAX).min(self.room())
    }

    /// Ends a transact here: nothing is appended, and the transact's reply is this command's.
    pub fn end_transact(&mut self) {
        self.made.ends_transact = true;
    }

    fn live<T: Table>(&self, row: Option<AnyRow>) -> Result<Option<Arc<T::Row>>, Error> {
        let live = row.filter(|row| row.is_live(self.now));
        Ok(live.map(typed::<T>).transpose().map_err(|why| StoreError::corrupt_store(why.0))?)
    }

    /// Reads a row and makes it a condition of the commit.
    fn look(&mut self, table: &'static TableDef, key: &str) -> Result<(Option<AnyRow>, Position), Error> {
        let Seen { row, rev, first_time, assumed } = self.rows.get(table, key, self.store)?;
        if first_time {
            self.made.conditions.push(Condition { entity: Entity::new(table.name, key), rev });
            self.made.assumed |= assumed;
            if let Some(dies_at) = row.as_ref().and_then(|row| row.dies_at()) {
                if dies_at > self.now {
                    let earliest = self.made.valid_until.map_or(dies_at, |known| known.min(dies_at));
                    self.made.valid_until = Some(earliest);
                } else {
                    self.made.dead.push(Entity::new(table.name, key));
                }
            }
        }
        Ok((row, rev))
    }

    fn check_unique<T: Table>(&mut self, table: &'static TableDef, key: &str, row: &AnyRow) -> Result<(), Error> {
        let unique = table.indexes.iter().filter(|index| index.unique);
        for index in unique {
            let cells = row.cells();
            let values: Vec<_> =
                index.columns.iter().filter_map(|name| table.column(name)).map(|at| cells[at].clone()).collect();
            let taken = self.scan::<T>(&Scan::equal(index.name, values.iter().cloned()).limit(2))?;
            if let Some(other) = taken.iter().map(|other| Row::key(&**other)).find(|other| other != key) {
                let (columns, value) = (index.columns.join(", "), shown(&values));
                return Err(Rejection::already_exists(format!(
                    "{}: {columns} {value} is taken by {other:?}",
                    table.name
                ))
                .into());
            }
        }
        Ok(())
    }
}

impl Events for Decision<'_> {
    fn event(&mut self, position: Position, checked: bool) -> Result<Event, Error> {
        Ok(self.store.event(position, checked)?)
    }

    fn is_quarantined(&mut self, position: Position) -> Result<bool, Error> {
        // A condition of the commit, as every row that is read: it may be lifted meanwhile.
        Ok(self.look(&facts::DEF, &pair(facts::QUARANTINE, &position.to_string()))?.0.is_some())
    }
}

/// Whether a payload may hold a provisional position. Bytes of a text may look like one by chance; the command then waits
/// for the next batch, and nothing else happens.
fn tells_provisional(payload: &[u8]) -> bool {
    // A MessagePack u64 or i64 of eight bytes whose upper half is that of the provisional positions.
    payload.windows(5).any(|bytes| matches!(bytes, [0xcf | 0xd3, 0x40, 0, 0, 0]))
}

fn shown(values: &[Cell<'_>]) -> String {
    let texts = values.iter().map(|value| match value {
        Cell::Text(text) => format!("{text:?}"),
        Cell::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    });
    texts.collect::<Vec<_>>().join(", ")
}
