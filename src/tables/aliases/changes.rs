//! How an alias changes: the events of its commands, which rollovers make too.

use std::collections::BTreeSet;

use tasklog_projections::{
    Cell, Field, Json,
    tables::aliases::{
        AliasCreated, AliasDeleted, AliasEvent, AliasFlipped, AliasKind, AliasRow, AliasTargetsChanged, Aliases,
        TargetsWhy,
    },
};

use super::ILM_PREFIX;
use crate::{
    decision::Decision,
    meters::Count,
    rejection::{Error, Rejection},
    text,
};

/// What manages the read alias of `policy`.
#[must_use]
pub fn manager(policy: &str) -> String {
    format!("{ILM_PREFIX}{policy}")
}

/// A list of targets: at least one, distinct, within the bounds of a column.
///
/// # Errors
/// `invalid`
pub fn check_targets(what: &str, targets: &[String]) -> Result<(), Rejection> {
    for target in targets {
        text::key(what, target)?;
    }
    let distinct: BTreeSet<_> = targets.iter().collect();
    if targets.is_empty() || distinct.len() < targets.len() {
        return Err(Rejection::invalid(format!(
            "{what}: at least one and each once, found {} of which {} are distinct",
            targets.len(),
            distinct.len()
        )));
    }
    text::bounded(what, &Json::from_value(&serde_json::Value::from(targets)))
}

/// A target is an index. The alias's own name means the index of that name; another alias is refused.
pub(super) fn not_an_alias(cx: &mut Decision<'_>, name: &str, target: &str) -> Result<(), Error> {
    if target != name && cx.get::<Aliases>(target)?.is_some() {
        return Err(Rejection::invalid(format!("alias {name}: target {target} is an alias, not an index")).into());
    }
    Ok(())
}

/// 1, or one more than the last version of a deleted alias of this name. Where a quarantine has taken the row away, its
/// last event is no deletion: the version that it gave was seen, and is not given again.
pub(super) fn first_version(cx: &mut Decision<'_>, name: &str) -> Result<i64, Error> {
    Ok(match cx.last_event_of_deleted::<Aliases>(name)? {
        None => 1,
        Some(AliasEvent::AliasDeleted(event)) => event.last_version + 1,
        Some(AliasEvent::AliasCreated(event)) => event.version + 1,
        Some(AliasEvent::AliasFlipped(event)) => event.to_version + 1,
        Some(AliasEvent::AliasTargetsChanged(event)) => event.to_version + 1,
    })
}

/// Creates the read alias of `policy` under a name that is free, on targets that [`check_targets`] has passed; answers
/// its version.
///
/// # Errors
/// `invalid` if a target is another alias; the store's.
pub fn create_multi(
    cx: &mut Decision<'_>,
    name: &str,
    targets: &[String],
    policy: &str,
    target_verified: bool,
) -> Result<i64, Error> {
    for target in targets {
        not_an_alias(cx, name, target)?;
    }
    let version = first_version(cx, name)?;
    let event = AliasCreated {
        kind: AliasKind::Multi,
        current_uid: None,
        target_uids: Some(targets.to_vec()),
        version,
        created_at: cx.now(),
        managed_by: Some(manager(policy)),
        target_verified,
    };
    cx.emit::<Aliases>(name, event)?;
    Ok(version)
}

/// Moves a single alias to `target`; answers its new version.
///
/// # Errors
/// `invalid` if the target is another alias or the alias is not single; the store's.
pub fn flip(cx: &mut Decision<'_>, row: &AliasRow, target: &str, why: &str) -> Result<i64, Error> {
    let name = &row.name;
    let Some(from_uid) = row.current_uid.clone() else {
        return Err(Rejection::invalid(format!("alias {name} is {}, not single", row.kind)).into());
    };
    not_an_alias(cx, name, target)?;
    let history_retention = retention(cx, row)?;
    let (from_version, to_version) = (row.version, row.version + 1);
    let event = AliasFlipped {
        from_uid,
        to_uid: target.into(),
        from_version,
        to_version,
        history_retention,
        flipped_at: cx.now(),
        why: why.into(),
    };
    cx.emit::<Aliases>(name, event)?;
    cx.note(Count::AliasFlipped(name.clone()));
    Ok(to_version)
}

/// Gives a multi alias targets that [`check_targets`] has passed; answers its new version.
///
/// # Errors
/// `invalid` if a target is another alias or the alias is not multi; the store's.
pub fn change_targets(
    cx: &mut Decision<'_>,
    row: &AliasRow,
    targets: &[String],
    why: TargetsWhy,
) -> Result<i64, Error> {
    let name = &row.name;
    let Some(from_uids) = row.target_uids.clone() else {
        return Err(Rejection::invalid(format!("alias {name} is {}, not multi", row.kind)).into());
    };
    for target in targets {
        not_an_alias(cx, name, target)?;
    }
    let history_retention = retention(cx, row)?;
    let (from_version, to_version) = (row.version, row.version + 1);
    let event = AliasTargetsChanged {
        from_uids: from_uids.0,
        to_uids: targets.to_vec(),
        from_version,
        to_version,
        history_retention,
        changed_at: cx.now(),
        why,
    };
    cx.emit::<Aliases>(name, event)?;
    cx.note(Count::AliasFlipped(name.clone()));
    Ok(to_version)
}

/// Deletes an alias.
///
/// # Errors
/// The store's.
pub fn delete(cx: &mut Decision<'_>, row: &AliasRow) -> Result<(), Error> {
    let event = AliasDeleted {
        kind: row.kind,
        last_version: row.version,
        last_uid: row.current_uid.clone(),
        last_uids: row.target_uids.as_ref().map(|uids| uids.0.clone()),
    };
    cx.emit::<Aliases>(&row.name, event)?;
    Ok(())
}

/// How many states the history keeps from the next change on. A history that would outgrow its column is refused.
fn retention(cx: &Decision<'_>, row: &AliasRow) -> Result<u32, Rejection> {
    let retention = cx.config().alias_history_retention;
    let mut next = row.clone();
    next.supersede(retention, cx.now());
    if let Cell::Text(history) = next.history.to_cell() {
        let history = Json::parse(&history).map_err(Rejection::invalid)?;
        text::bounded("history", &history)?;
    }
    Ok(retention)
}
