use tasklog_log::{Event, Log, Position, StoreError};
use tasklog_projections::{RowChange, TableDef, View, facts, table};

use crate::{
    fold::{Rules, Slot},
    history::{chain_after, search},
    snapshot::Snapshot,
};

/// What becomes of a row when replays pass over some of its events, or no longer do: the chain of the entity that `event`
/// is about, folded anew. None if the row stays what it is, or is gone. A log that begins with a snapshot has the rest of the
/// chain in `beginning`.
///
/// # Errors
/// `corrupt`, naming the event that cannot be folded without those that are passed over, or has a wrong checksum; the log's and the view's.
pub fn refold(
    log: &dyn Log,
    view: &dyn View,
    event: &Event,
    passed_over: &[Position],
    beginning: Option<&Snapshot>,
) -> Result<Option<RowChange>, StoreError> {
    let Some(table) = table(&event.table) else {
        return Err(StoreError::corrupt(event.position, format!("unknown table {:?}", event.table)));
    };
    let held = view.get(table, &event.key)?;
    let tombstone = view.tombstone(table, &event.key)?;
    let rev = held.as_ref().map(|held| held.rev).or(tombstone);
    let begins = beginning.map_or(Position::ZERO, |snapshot| snapshot.checkpoint().position);
    let mut events = match rev.map_or(Ok(Vec::new()), |rev| chain_after(log, table, &event.key, rev, begins)) {
        // One of its links is wrong, perhaps that of the event itself: the fold names it, unless it is passed over.
        Err(StoreError::Corrupt { .. }) => Vec::new(),
        events => events?,
    };
    if !events.iter().any(|commit| commit.first() == event.position) {
        // The row that it was about has died, or its tombstone is forgotten: no chain of today leads to it, and yet what
        // comes after it may need it.
        events = search(log, table, &event.key)?;
    }
    let rules = Rules::new(passed_over.iter().copied(), begins);
    let mut slot = match beginning {
        None => Slot::default(),
        Some(snapshot) => match snapshot.row(table, &event.key)? {
            Some(held) => Slot::standing(Some(held.row), held.rev),
            None => Slot::standing(None, snapshot.tombstone(table, &event.key)?.unwrap_or_default()),
        },
    };
    for commit in events {
        let event = &commit.events[0];
        if !rules.passes_over(event.position) {
            commit.check(event)?;
        }
        slot.fold(table, event, commit.recorded_at, &rules)?;
    }
    let (rev, at) = (slot.rev, slot.at);
    let before = held.map(|held| held.row);
    let now = log.head()?.recorded_at;
    // Whether a dead row has been removed makes no difference.
    let after = slot.row.filter(|row| before.is_some() || row.is_live(now));
    let same = match (&before, &after) {
        (Some(before), Some(after)) => before.differs(&**after) == 0,
        (before, after) => before.is_none() && after.is_none(),
    };
    let change = RowChange { table, key: event.key.clone(), before, buried: tombstone.is_some(), after, rev, at };
    Ok((!same).then_some(change))
}

/// The position that an event quarantines, or whose quarantine it lifts; none for any other event.
#[must_use]
pub fn quarantine_of(event: &Event) -> Option<Position> {
    let (kind, subject) = event.key.split_once('/')?;
    let about = *event.table == *facts::DEF.name && kind == facts::QUARANTINE;
    about.then(|| subject.parse().ok().map(Position)).flatten()
}

/// Looks along the log after `after` for the decision to pass over the event at `position`; the last one counts.
///
/// # Errors
/// The log's.
pub fn is_quarantined_later(log: &dyn Log, after: Position, position: Position) -> Result<bool, StoreError> {
    let mut after = after;
    let mut quarantined = false;
    loop {
        let page = log.read(after, tasklog_log::READ_EVENTS_MAX)?;
        let Some(last) = page.last() else { return Ok(quarantined) };
        after = last.last();
        for event in page.iter().flat_map(|commit| &commit.events) {
            if quarantine_of(event) == Some(position) {
                quarantined = &*event.event_type == "event_quarantined";
            }
        }
    }
}

/// Whether a table is one that events can be quarantined in: facts about the log are not.
#[must_use]
pub fn can_be_quarantined(table: &TableDef) -> bool {
    table.name != facts::DEF.name
}
