use tasklog_log::{Commit, CommitMeta, Event, Log, Millis, Position, StoreError};
use tasklog_projections::{AnyRow, Cell, TableDef, View, cell_json, facts};

/// One event of an entity, and what it did to the row.
#[derive(Clone, Debug)]
pub struct Step {
    /// Who, why, for which request.
    pub meta: CommitMeta,
    /// When.
    pub recorded_at: Millis,
    /// What.
    pub event: Event,
    /// The payload as the text of a JSON object.
    pub payload: String,
    /// The fields that changed; empty for an event that left the row as it was.
    pub changes: Vec<FieldChange>,
    /// The row before it; none if there was none, or it had died by then.
    pub before: Option<AnyRow>,
    /// The row after it.
    pub after: Option<AnyRow>,
    /// Whether the row exists after it.
    pub exists: bool,
    /// Whether it is passed over: somebody has quarantined it.
    pub quarantined: bool,
}

/// One field's change, as JSON texts; none where there was or is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The column.
    pub column: &'static str,
    /// Before.
    pub old: Option<String>,
    /// After.
    pub new: Option<String>,
}

/// The history of one entity, oldest event first: its own chain, walked back from the row's or the tombstone's rev. An
/// entity that no longer has either (its row died by time, or its tombstone was forgotten) is looked for along the whole
/// log, and then every life of it is told.
///
/// # Errors
/// `corrupt`, naming the position of a link that is missing or an event that cannot be folded; the log's and the view's.
pub fn history(log: &dyn Log, view: &dyn View, table: &'static TableDef, key: &str) -> Result<Vec<Step>, StoreError> {
    let rev = match view.get(table, key)? {
        Some(held) => Some(held.rev),
        None => view.tombstone(table, key)?,
    };
    let passed_over = facts::quarantined(view)?;
    let events = match rev {
        Some(rev) => chain(log, table, key, rev).or_else(|broken| around(log, table, key, &passed_over, broken))?,
        None => search(log, table, key)?,
    };
    let mut steps = Vec::with_capacity(events.len());
    let mut row: Option<AnyRow> = None;
    for mut commit in events {
        let event = commit.events.swap_remove(0);
        // One that had died by then counts as none, as it does in the fold.
        let before = row.take().filter(|row| row.is_live(commit.recorded_at));
        row = before.clone();
        let quarantined = passed_over.binary_search(&event.position).is_ok();
        if !quarantined {
            commit.check(&event)?;
            row = table.fold(row, &event, commit.recorded_at)?;
        }
        let payload = match table.payload_json(&event) {
            // That it cannot be read may be why.
            Err(_) if quarantined => "null".into(),
            payload => payload.map_err(|error| StoreError::corrupt(event.position, error.to_string()))?,
        };
        steps.push(Step {
            changes: changes(table, before.as_ref(), row.as_ref()),
            exists: row.is_some(),
            before,
            after: row.clone(),
            quarantined,
            recorded_at: commit.recorded_at,
            meta: commit.meta,
            event,
            payload,
        });
    }
    Ok(steps)
}

/// The events of an entity's chain, oldest first, each in its commit without the others.
pub(crate) fn chain(log: &dyn Log, table: &TableDef, key: &str, rev: Position) -> Result<Vec<Commit>, StoreError> {
    chain_after(log, table, key, rev, Position::ZERO)
}

/// The part of [`chain`] that comes after `begins`.
pub(crate) fn chain_after(
    log: &dyn Log,
    table: &TableDef,
    key: &str,
    rev: Position,
    begins: Position,
) -> Result<Vec<Commit>, StoreError> {
    let mut events = Vec::new();
    let mut next = Some(rev).filter(|rev| *rev > begins);
    while let Some(position) = next {
        let found = log.event_alone(position)?;
        let commit = found.ok_or_else(|| {
            StoreError::corrupt(position, format!("{}/{key} links to it, the log ends before", table.name))
        })?;
        let event = &commit.events[0];
        let earlier = event.prev.is_none_or(|prev| prev < position);
        if *event.table != *table.name || *event.key != *key || !earlier {
            return Err(StoreError::corrupt(
                position,
                format!("{}/{key} links to it, it is about another", table.name),
            ));
        }
        next = event.prev.filter(|prev| *prev > begins);
        events.push(commit);
    }
    events.reverse();
    Ok(events)
}

/// The events of an entity whose chain is broken, if it is because of one that replays pass over.
fn around(
    log: &dyn Log,
    table: &TableDef,
    key: &str,
    passed_over: &[Position],
    broken: StoreError,
) -> Result<Vec<Commit>, StoreError> {
    if !matches!(broken, StoreError::Corrupt { .. }) || passed_over.is_empty() {
        return Err(broken);
    }
    let events = search(log, table, key)?;
    let explained = events.iter().any(|commit| passed_over.binary_search(&commit.first()).is_ok());
    if explained { Ok(events) } else { Err(broken) }
}

pub(crate) fn search(log: &dyn Log, table: &TableDef, key: &str) -> Result<Vec<Commit>, StoreError> {
    let positions = log.positions_of(table.name, key, log.first()?.before(), log.head()?.position)?;
    let events = positions.into_iter().map(|position| {
        log.event_alone(position)?.ok_or_else(|| StoreError::corrupt(position, "missing from the log"))
    });
    events.collect()
}

/// The fields in which two rows of one entity differ, beside its key; none stands for no row.
#[must_use]
pub fn changes(table: &TableDef, before: Option<&AnyRow>, after: Option<&AnyRow>) -> Vec<FieldChange> {
    let (old, new) = (before.map(|row| row.cells()), after.map(|row| row.cells()));
    let mut changes = Vec::new();
    for (at, column) in table.columns.iter().enumerate().filter(|(_, column)| !column.key) {
        let (old, new) = (old.as_ref().map(|cells| &cells[at]), new.as_ref().map(|cells| &cells[at]));
        let silent = |cell: Option<&Cell<'_>>| cell.is_none_or(|cell| *cell == Cell::Null);
        if old == new || (silent(old) && silent(new)) {
            continue;
        }
        let shown = |cell: &Cell<'_>| cell_json(column, cell).map_or_else(|why| why, |json| json.to_string());
        changes.push(FieldChange { column: column.name, old: old.map(shown), new: new.map(shown) });
    }
    changes
}
