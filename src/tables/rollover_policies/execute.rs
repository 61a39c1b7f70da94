//! A rollover: one commit over a policy, its write alias and its read alias.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::{
    Json,
    tables::{
        aliases::{Aliases, TargetsWhy},
        rollover_policies::{RolloverExecuted, RolloverPolicies, RolloverPolicyRow},
    },
};

use super::existing;
use crate::{
    command::Command,
    decision::Decision,
    meters::Count,
    rejection::{Error, Rejection},
    tables::aliases::{self, ILM_LEASE},
    text,
};

/// Rolls over: moves the write alias to a new index and gives the read alias its new list. The caller holds the lease
/// `ilm`, and has created the new index.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execute {
    /// The policy.
    pub name: String,
    /// Which trigger fired.
    pub trigger: String,
    /// What was measured.
    pub observed: Json,
    /// The index to write to from now on.
    pub new_index: String,
    /// The read alias's indexes from now on: distinct, the new one among them.
    pub read_targets: Vec<String>,
}

/// The outcome of a rollover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Executed {
    /// The index written before; none on a repeat that is not of the policy's last rollover.
    pub old_index: Option<String>,
    /// The write alias's version.
    pub write_version: i64,
    /// The read alias's version; none on a repeat after it was deleted.
    pub read_version: Option<i64>,
}

impl Command for Execute {
    const NAME: &'static str = "rollover_policies.execute";
    const ABOUT: &'static str = "Moves a policy's write alias to a new index, and its read alias along";
    const LEASE: Option<&'static str> = Some(ILM_LEASE);
    type Answer = Executed;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Executed, Error> {
        self.check()?;
        cx.require_lease(ILM_LEASE)?;
        let Self { name, new_index, read_targets, .. } = &*self;
        let policy = existing(cx, name)?;
        let write = cx.get::<Aliases>(&policy.write_alias)?.ok_or_else(|| {
            Rejection::not_found(format!("policy {name}: there is no write alias {}", policy.write_alias))
        })?;
        let read = cx.get::<Aliases>(&policy.read_alias)?;
        if write.current_uid.as_ref() == Some(new_index) {
            return Ok(Executed {
                old_index: rolled_from(&policy, new_index),
                write_version: write.version,
                read_version: read.map(|read| read.version),
            });
        }
        let Some(old_index) = write.current_uid.clone() else {
            let alias = &write.name;
            return Err(Rejection::invalid(format!("policy {name}: write alias {alias} is {}", write.kind)).into());
        };
        if !policy.enabled {
            return Err(Rejection::invalid(format!("policy {name} is disabled")).into());
        }
        if let Some(read) = read.as_ref().filter(|read| read.managed_by != Some(aliases::manager(name))) {
            let (alias, kind) = (&read.name, read.kind);
            return Err(Rejection::invalid(format!("policy {name}: {alias} is {kind}, not its read alias")).into());
        }
        let event = RolloverExecuted {
            at: cx.now(),
            trigger: self.trigger.clone(),
            observed: self.observed.clone(),
            old_index: old_index.clone(),
            new_index: new_index.clone(),
            term: cx.lease().map_or(0, |lease| lease.term),
        };
        cx.emit::<RolloverPolicies>(name, event)?;
        cx.note(Count::RolledOver(name.clone()));
        let write_version = aliases::flip(cx, &write, new_index, &aliases::manager(name))?;
        let read_version = match read {
            None => aliases::create_multi(cx, &policy.read_alias, read_targets, name, true)?,
            Some(read) if read.target_uids.as_deref() == Some(read_targets) => read.version,
            Some(read) => aliases::change_targets(cx, &read, read_targets, TargetsWhy::Rollover)?,
        };
        Ok(Executed { old_index: Some(old_index), write_version, read_version: Some(read_version) })
    }
}

impl Execute {
    fn check(&self) -> Result<(), Rejection> {
        text::key("trigger", &self.trigger)?;
        text::bounded("observed", &self.observed)?;
        text::key("new_index", &self.new_index)?;
        aliases::check_targets("read_targets", &self.read_targets)?;
        if self.read_targets.contains(&self.new_index) {
            return Ok(());
        }
        Err(Rejection::invalid(format!("read_targets: the new index {} is not among them", self.new_index)))
    }
}

/// What was written before, if the policy's last rollover led to `new_index`.
fn rolled_from(policy: &RolloverPolicyRow, new_index: &str) -> Option<String> {
    let last = policy.last_rollover.as_ref()?.to_value().ok()?;
    let index = |name: &str| last.get(name).and_then(|index| index.as_str());
    index("old_index").filter(|_| index("new_index") == Some(new_index)).map(str::to_owned)
}
