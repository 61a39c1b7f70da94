//! `aliases`: how names are pointed at indexes.
//!
//! The events that the commands lead to are built in `changes.rs`; rollovers use it too.

mod changes;
mod queries;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::tables::{
    aliases::{AliasCreated, AliasKind, AliasRow, Aliases, DEF, TargetsWhy},
    rollover_policies::RolloverPolicies,
};

use self::changes::{first_version, not_an_alias};
pub use self::{
    changes::{change_targets, check_targets, create_multi, delete, flip, manager},
    queries::{ByTarget, Get, List},
};
use crate::{
    command::Command,
    decision::Decision,
    rejection::{Error, Rejection},
    tables::side,
    text,
};

side! {
    /// `aliases`
    pub struct AliasesHandle for DEF as aliases {
        commands {
            create(Create),
            create_multi(CreateMulti),
            flip(Flip),
            set_targets(SetTargets),
            delete(Delete),
        }
        queries {
            get(Get),
            list(List),
            by_target(ByTarget),
        }
    }
}

/// The lease under which rollover policies and their read alias are worked on.
pub const ILM_LEASE: &str = "ilm";

/// What the manager of a policy's read alias, and a flip's `why`, begin with.
const ILM_PREFIX: &str = "ilm:";

/// Creates a single alias.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The alias.
    pub name: String,
    /// The index it leads to.
    pub target: String,
    /// Whether the caller has checked that the target exists.
    pub target_verified: Option<bool>,
}

/// The alias's version after the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionAnswer {
    /// The flip counter.
    pub version: i64,
}

impl Command for Create {
    const NAME: &'static str = "aliases.create";
    const ABOUT: &'static str = "Creates a single alias";
    type Answer = VersionAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<VersionAnswer, Error> {
        let Self { name, target, target_verified } = self.clone();
        text::key("name", &name)?;
        text::key("target", &target)?;
        let target_verified = verified(cx, target_verified)?;
        cx.subject::<Aliases>(&name);
        if let Some(row) = cx.get::<Aliases>(&name)? {
            let same = row.current_uid.as_ref() == Some(&target) && row.history.is_empty();
            return repeated(&row, same);
        }
        not_an_alias(cx, &name, &target)?;
        let version = first_version(cx, &name)?;
        let event = AliasCreated {
            kind: AliasKind::Single,
            current_uid: Some(target),
            target_uids: None,
            version,
            created_at: cx.now(),
            managed_by: None,
            target_verified,
        };
        cx.emit::<Aliases>(&name, event)?;
        Ok(VersionAnswer { version })
    }
}

fn repeated(row: &AliasRow, same: bool) -> Result<VersionAnswer, Error> {
    if same {
        return Ok(VersionAnswer { version: row.version });
    }
    let found = format!("{} {:?} at version {}", row.kind, row.targets(), row.version);
    Err(Rejection::already_exists(format!("alias {} exists: {found}", row.name)).into())
}

/// Creates the read alias of a policy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMulti {
    /// The alias.
    pub name: String,
    /// The indexes it leads to: at least one, distinct, in this order.
    pub targets: Vec<String>,
    /// The policy whose read alias it is.
    pub policy: String,
    /// Whether the caller has checked that the targets exist.
    pub target_verified: Option<bool>,
}

impl Command for CreateMulti {
    const NAME: &'static str = "aliases.create_multi";
    const ABOUT: &'static str = "Creates the read alias of a rollover policy";
    const LEASE: Option<&'static str> = Some(ILM_LEASE);
    type Answer = VersionAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<VersionAnswer, Error> {
        let Self { name, targets, policy, target_verified } = self.clone();
        text::key("name", &name)?;
        text::key("policy", &policy)?;
        check_targets("targets", &targets)?;
        cx.require_lease(ILM_LEASE)?;
        let verified = verified(cx, target_verified)?;
        cx.subject::<Aliases>(&name);
        if let Some(row) = cx.get::<Aliases>(&name)? {
            let same = row.target_uids.as_deref() == Some(&targets)
                && row.managed_by == Some(manager(&policy))
                && row.history.is_empty();
            return repeated(&row, same);
        }
        let owner = cx.get::<RolloverPolicies>(&policy)?;
        if owner.is_none_or(|owner| owner.read_alias != name) {
            return Err(Rejection::invalid(format!("alias {name}: no policy {policy} has it as its read alias")).into());
        }
        Ok(VersionAnswer { version: create_multi(cx, &name, &targets, &policy, verified)? })
    }
}

/// Moves a single alias to another index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// The alias.
    pub name: String,
    /// The version it must have.
    pub expected_version: i64,
    /// The index it is to lead to.
    pub target: String,
    /// `operator` (the default), `reshard`, `ilm:<policy>` or `rollback`.
    pub why: Option<String>,
    /// Whether the caller has checked that the target exists.
    pub target_verified: Option<bool>,
}

/// The outcome of a flip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flipped {
    /// The flip counter.
    pub version: i64,
    /// Where the alias led before; none if this is a repeat and the history does not reach back.
    pub from_uid: Option<String>,
}

impl Command for Flip {
    const NAME: &'static str = "aliases.flip";
    const ABOUT: &'static str = "Moves a single alias to another index";
    type Answer = Flipped;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Flipped, Error> {
        let Self { name, expected_version, target, why, target_verified } = &*self;
        text::key("target", target)?;
        let why = why.as_deref().unwrap_or("operator");
        check_why(why)?;
        verified(cx, *target_verified)?;
        let row = existing(cx, name)?;
        if row.kind == AliasKind::Multi {
            return Err(Rejection::not_permitted(format!("alias {name} is multi: it is not flipped")).into());
        }
        let from_uid = row.current_uid.clone();
        if from_uid.as_ref() == Some(target) && *expected_version == row.version {
            return Ok(Flipped { version: row.version, from_uid });
        }
        if from_uid.as_ref() == Some(target) && expected_version.checked_add(1) == Some(row.version) {
            let from_uid = row.history.last().and_then(|state| state.current_uid.clone());
            return Ok(Flipped { version: row.version, from_uid });
        }
        check_version(&row, *expected_version)?;
        Ok(Flipped { version: flip(cx, &row, target, why)?, from_uid })
    }
}

fn check_why(why: &str) -> Result<(), Rejection> {
    match why.strip_prefix(ILM_PREFIX) {
        Some(policy) => text::key("why: policy", policy),
        None if matches!(why, "operator" | "reshard" | "rollback") => Ok(()),
        None => Err(Rejection::invalid(format!(
            "why: expected operator, reshard, ilm:<policy> or rollback, found {why:.80?}"
        ))),
    }
}

/// Gives a multi alias another list of indexes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTargets {
    /// The alias.
    pub name: String,
    /// The version it must have.
    pub expected_version: i64,
    /// The indexes it is to lead to: at least one, distinct, in this order.
    pub targets: Vec<String>,
    /// `repair` if absent.
    pub why: Option<TargetsWhy>,
}

impl Command for SetTargets {
    const NAME: &'static str = "aliases.set_targets";
    const ABOUT: &'static str = "Gives a multi alias another list of indexes";
    const LEASE: Option<&'static str> = Some(ILM_LEASE);
    type Answer = VersionAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<VersionAnswer, Error> {
        let Self { name, expected_version, targets, why } = &*self;
        check_targets("targets", targets)?;
        cx.require_lease(ILM_LEASE)?;
        let row = existing(cx, name)?;
        if row.kind == AliasKind::Single {
            return Err(Rejection::invalid(format!("alias {name} is single: it has no list of targets")).into());
        }
        if row.target_uids.as_deref() == Some(targets) {
            return Ok(VersionAnswer { version: row.version });
        }
        check_version(&row, *expected_version)?;
        let version = change_targets(cx, &row, targets, why.unwrap_or(TargetsWhy::Repair))?;
        Ok(VersionAnswer { version })
    }
}

/// Deletes an alias. The indexes stay.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The alias.
    pub name: String,
    /// The version it must have.
    pub expected_version: Option<i64>,
}

/// The outcome of a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// The version it had; a new alias of this name goes on from it.
    pub last_version: i64,
}

impl Command for Delete {
    const NAME: &'static str = "aliases.delete";
    const ABOUT: &'static str = "Deletes an alias; a multi alias whose policy lives needs the lease ilm";
    type Answer = Deleted;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Deleted, Error> {
        let row = existing(cx, &self.name)?;
        let policy = row.managed_by.as_deref().and_then(|manager| manager.strip_prefix(ILM_PREFIX));
        if let Some(policy) = policy
            && cx.get::<RolloverPolicies>(policy)?.is_some()
        {
            cx.require_lease(ILM_LEASE)?;
        }
        if let Some(expected) = self.expected_version {
            check_version(&row, expected)?;
        }
        delete(cx, &row)?;
        Ok(Deleted { last_version: row.version })
    }
}

fn existing(cx: &mut Decision<'_>, name: &str) -> Result<Arc<AliasRow>, Error> {
    text::key("name", name)?;
    cx.existing::<Aliases>("alias", name)
}

fn check_version(row: &AliasRow, expected: i64) -> Result<(), Rejection> {
    if row.version == expected {
        return Ok(());
    }
    Err(Rejection::conflict(&format!("alias {}: version", row.name), expected, row.version))
}

/// Whether the caller has checked the target, which may be required.
fn verified(cx: &Decision<'_>, target_verified: Option<bool>) -> Result<bool, Rejection> {
    let verified = target_verified.unwrap_or(false);
    if cx.config().alias_require_target_exists && !verified {
        return Err(Rejection::invalid(
            "target_verified: aliases.require_target_exists is on, so the caller checks that the target exists and says so",
        ));
    }
    Ok(verified)
}
