//! `aliases`: names that resolve to indexes.
//!
//! A single alias has one target and is flipped; a multi alias has several and is run by a rollover policy. Each change
//! raises the version and pushes the state it replaced onto `history`, which is trimmed to the length the event gives.

use crate::{At, Impossible, JsonList, MultiIndex, RowObject, Table, TableDef, Tombstones, events, row, words};

words! {
    /// Which of the two target columns an alias uses; fixed at creation.
    pub enum AliasKind {
        /// one target, readable and writable
        Single = "single",
        /// several targets, read only
        Multi = "multi",
    }
}

words! {
    /// Why the targets of a multi alias were changed.
    pub enum TargetsWhy {
        /// a rollover added an index
        Rollover = "rollover",
        /// an old index is about to be dropped
        Retention = "retention",
        /// somebody set them right
        Repair = "repair",
    }
}

/// An earlier state of an alias.
// Fields sorted: `history` is stored in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct PastState {
    /// its target, if single
    pub current_uid: Option<String>,
    /// its targets, if multi
    pub target_uids: Option<Vec<String>>,
    /// ms: when it was replaced
    pub timestamp: i64,
    /// its version
    pub version: i64,
}

row! {
    /// One alias.
    pub struct AliasRow {
        key {
            /// alias name
            name: String,
        }
        /// `single` or `multi`, fixed at creation
        kind: AliasKind,
        /// target of a single alias; set iff `single`
        current_uid: Option<String>,
        /// targets of a multi alias, distinct, order kept; set iff `multi`
        target_uids: Option<JsonList<String>>,
        /// count: flip counter
        version: i64,
        /// ms: creation
        created_at: i64,
        /// earlier states, oldest first
        history: JsonList<PastState>,
        /// `ilm:<policy>`; set iff `multi`
        managed_by: Option<String>,
    }
}

impl AliasRow {
    /// The indexes it leads to.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        match &self.target_uids {
            Some(uids) => uids.0.clone(),
            None => self.current_uid.iter().cloned().collect(),
        }
    }

    /// Pushes the present state onto the history, trims it to `retention` states and counts on.
    pub fn supersede(&mut self, retention: u32, timestamp: i64) {
        self.history.push(PastState {
            current_uid: self.current_uid.clone(),
            target_uids: self.target_uids.as_ref().map(|uids| uids.0.clone()),
            timestamp,
            version: self.version,
        });
        let surplus = self.history.len().saturating_sub(retention as usize);
        self.history.drain(..surplus);
        self.version += 1;
    }
}

events! {
    /// What happens to aliases.
    pub enum AliasEvent {
        /// It was created.
        "alias_created" v1 => AliasCreated {
            /// single or multi
            kind: AliasKind,
            /// the target of a single alias
            current_uid: Option<String>,
            /// the targets of a multi alias
            target_uids: Option<Vec<String>>,
            /// 1, or one more than the name's last version
            version: i64,
            /// ms
            created_at: i64,
            /// `ilm:<policy>` of a multi alias
            managed_by: Option<String>,
            /// whether the caller had checked that the targets exist
            target_verified: bool,
        },
        /// A single alias was moved to another index.
        "alias_flipped" v1 => AliasFlipped {
            /// the target before
            from_uid: String,
            /// the target now
            to_uid: String,
            /// the version before
            from_version: i64,
            /// the version now
            to_version: i64,
            /// states the history keeps at most
            history_retention: u32,
            /// ms
            flipped_at: i64,
            /// `operator`, `reshard`, `ilm:<policy>` or `rollback`
            why: String,
        },
        /// A multi alias got another list of indexes.
        "alias_targets_changed" v1 => AliasTargetsChanged {
            /// the targets before
            from_uids: Vec<String>,
            /// the targets now
            to_uids: Vec<String>,
            /// the version before
            from_version: i64,
            /// the version now
            to_version: i64,
            /// states the history keeps at most
            history_retention: u32,
            /// ms
            changed_at: i64,
            /// on what occasion
            why: TargetsWhy,
        },
        /// It was deleted; the indexes were not.
        "alias_deleted" v1 => AliasDeleted {
            /// single or multi
            kind: AliasKind,
            /// its version: a new alias of this name continues the count
            last_version: i64,
            /// the target of a single alias
            last_uid: Option<String>,
            /// the targets of a multi alias
            last_uids: Option<Vec<String>>,
        },
    }
}

/// The table.
pub struct Aliases;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<Aliases>();

impl Table for Aliases {
    const NAME: &'static str = "aliases";
    const SCHEMA_VERSION: u32 = 1;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const MULTI_INDEXES: &'static [MultiIndex] = &[MultiIndex { name: "by_target", values: targets }];
    const KEY_PREFIX: &'static str = "aliases";
    type Row = AliasRow;
    type Event = AliasEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<AliasRow>, event: AliasEvent, at: &At<'_>) -> Result<Option<AliasRow>, Impossible> {
        match event {
            AliasEvent::AliasCreated(event) => created(row, event, at),
            AliasEvent::AliasFlipped(event) => flipped(row, event),
            AliasEvent::AliasTargetsChanged(event) => targets_changed(row, event),
            AliasEvent::AliasDeleted(event) => deleted(row, event),
        }
    }
}

fn targets(row: &dyn RowObject) -> Vec<String> {
    let row: &dyn std::any::Any = row;
    row.downcast_ref::<AliasRow>().map(AliasRow::targets).unwrap_or_default()
}

fn created(row: Option<AliasRow>, event: AliasCreated, at: &At<'_>) -> Result<Option<AliasRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("alias_created"));
    }
    let AliasCreated { kind, current_uid, target_uids, version, created_at, managed_by, .. } = event;
    let whole = match kind {
        AliasKind::Single => current_uid.is_some() && target_uids.is_none() && managed_by.is_none(),
        AliasKind::Multi => current_uid.is_none() && target_uids.is_some() && managed_by.is_some(),
    };
    if !whole {
        return Err(Impossible(format!("alias_created: the targets are not those of a {kind} alias")));
    }
    if let Some(uids) = &target_uids {
        check_list("alias_created", uids)?;
    }
    Ok(Some(AliasRow {
        name: at.key.into(),
        kind,
        current_uid,
        target_uids: target_uids.map(JsonList),
        version,
        created_at,
        history: JsonList::default(),
        managed_by,
    }))
}

fn flipped(row: Option<AliasRow>, event: AliasFlipped) -> Result<Option<AliasRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("alias_flipped"))?;
    check_version("alias_flipped", &row, event.from_version, event.to_version)?;
    if row.current_uid.as_ref() != Some(&event.from_uid) {
        return Err(Impossible(format!("alias_flipped from {:?} on {:?}", event.from_uid, row.targets())));
    }
    row.supersede(event.history_retention, event.flipped_at);
    row.current_uid = Some(event.to_uid);
    Ok(Some(row))
}

fn targets_changed(row: Option<AliasRow>, event: AliasTargetsChanged) -> Result<Option<AliasRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("alias_targets_changed"))?;
    check_version("alias_targets_changed", &row, event.from_version, event.to_version)?;
    check_list("alias_targets_changed", &event.to_uids)?;
    if row.target_uids.as_deref() != Some(&event.from_uids) {
        return Err(Impossible(format!("alias_targets_changed from {:?} on {:?}", event.from_uids, row.targets())));
    }
    row.supersede(event.history_retention, event.changed_at);
    row.target_uids = Some(JsonList(event.to_uids));
    Ok(Some(row))
}

fn deleted(row: Option<AliasRow>, event: AliasDeleted) -> Result<Option<AliasRow>, Impossible> {
    let row = row.ok_or_else(|| Impossible::no_row("alias_deleted"))?;
    let AliasDeleted { kind, last_version, last_uid, last_uids } = event;
    let same = row.kind == kind
        && row.version == last_version
        && row.current_uid == last_uid
        && row.target_uids.as_deref() == last_uids.as_ref();
    if !same {
        return Err(Impossible(format!(
            "alias_deleted of a {kind} alias at version {last_version} on a {} one at {}",
            row.kind, row.version
        )));
    }
    Ok(None)
}

fn check_version(event: &str, row: &AliasRow, from: i64, to: i64) -> Result<(), Impossible> {
    if row.version != from || from.checked_add(1) != Some(to) {
        return Err(Impossible(format!("{event} from version {from} to {to} on an alias at {}", row.version)));
    }
    Ok(())
}

fn check_list(event: &str, uids: &[String]) -> Result<(), Impossible> {
    let distinct: std::collections::BTreeSet<_> = uids.iter().collect();
    if uids.is_empty() || distinct.len() < uids.len() {
        return Err(Impossible(format!("{event}: targets are at least one and distinct, found {uids:?}")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "aliases_tests.rs"]
mod tests;
