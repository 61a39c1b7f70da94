//! What can work: the rules of a deployment, checked once more when the program starts.
//!
//! The chart refuses values that break a rule before anything runs. A process that is started by other means, or from a
//! chart that was changed, reads the same values and refuses as well.

use std::path::Path;

use serde::Deserialize;

/// The values that rules are about, with the chart's defaults for what is not given. Others are passed over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Values {
    miroir: Miroir,
    #[serde(rename = "taskStore")]
    task_store: TaskStore,
    search_ui: SearchUi,
    admin_ui: AdminUi,
    cdc: Cdc,
    leader_election: LeaderElection,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Miroir {
    replicas: i64,
    hpa: Hpa,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hpa {
    enabled: bool,
    min_replicas: i64,
    max_replicas: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TaskStore {
    backend: Backend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Backend {
    #[default]
    Sqlite,
    Redis,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct SearchUi {
    rate_limit: RateLimit,
    scoped_key_max_age_days: i64,
    scoped_key_rotate_before_expiry_days: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct AdminUi {
    rate_limit: RateLimit,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RateLimit {
    /// Unset: as the store.
    backend: Option<LimitBackend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LimitBackend {
    Redis,
    Local,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Cdc {
    buffer: CdcBuffer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CdcBuffer {
    /// Unset: `redis` with a store in Redis, else `drop`.
    overflow: Option<Overflow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Overflow {
    Redis,
    Pvc,
    Drop,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct LeaderElection {
    lease_ttl_s: i64,
    renew_interval_s: i64,
}

impl Default for Miroir {
    fn default() -> Self {
        Self { replicas: 1, hpa: Hpa::default() }
    }
}

impl Default for Hpa {
    fn default() -> Self {
        Self { enabled: false, min_replicas: 2, max_replicas: 24 }
    }
}

impl Default for SearchUi {
    fn default() -> Self {
        Self { rate_limit: RateLimit::default(), scoped_key_max_age_days: 60, scoped_key_rotate_before_expiry_days: 30 }
    }
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self { lease_ttl_s: 10, renew_interval_s: 3 }
    }
}

/// Why no values could be read.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// The file cannot be read.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// It is not JSON, or a value has another type than the chart gives it.
    #[error("{0}")]
    Text(#[from] serde_json::Error),
}

impl Values {
    /// From the text of a JSON object, such as the chart's `toJson` gives of its values.
    ///
    /// # Errors
    /// Where the text is no JSON, or which value has the wrong type.
    pub fn parse(text: &str) -> Result<Self, ValuesError> {
        Ok(serde_json::from_str(text)?)
    }

    /// From a file.
    ///
    /// # Errors
    /// Those of [`Values::parse`], and of reading the file.
    pub fn read(path: &Path) -> Result<Self, ValuesError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ValuesError::File { path: path.display().to_string(), cause })?;
        Self::parse(&text)
    }
}

/// A rule that values break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deployment rule {rule}: {path}: {why}")]
pub struct Violation {
    /// Its number in the specification.
    pub rule: u8,
    /// The value to change.
    pub path: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// Every rule that the values break, in the order of the rules.
#[must_use]
pub fn check(values: &Values) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut refuse = |rule, path, why: String| violations.push(Violation { rule, path, why });
    let Miroir { replicas, hpa } = &values.miroir;
    let redis = values.task_store.backend == Backend::Redis;
    if redis && *replicas <= 1 {
        refuse(0, "miroir.replicas", format!("backend redis requires more than one replica, found {replicas}"));
    }
    if *replicas > 1 && !redis {
        refuse(1, "taskStore.backend", format!("{replicas} replicas require backend redis: sqlite serves one pod"));
    }
    if hpa.enabled && (*replicas < 2 || !redis) {
        let why = format!("the autoscaler requires at least 2 replicas, found {replicas}, and backend redis");
        refuse(2, "miroir.hpa.enabled", why);
    }
    let limits = [
        (3, "search_ui.rate_limit.backend", values.search_ui.rate_limit.backend),
        (4, "admin_ui.rate_limit.backend", values.admin_ui.rate_limit.backend),
    ];
    for (rule, path, backend) in limits {
        if *replicas > 1 && backend == Some(LimitBackend::Local) {
            refuse(
                rule,
                path,
                format!("with {replicas} replicas a local limit is {replicas} times as high: use redis"),
            );
        }
    }
    let SearchUi { scoped_key_max_age_days: max_age, scoped_key_rotate_before_expiry_days: rotate, .. } =
        &values.search_ui;
    if *rotate <= 0 || rotate >= max_age {
        let why = format!("more than 0 and less than scoped_key_max_age_days ({max_age}), found {rotate}");
        refuse(5, "search_ui.scoped_key_rotate_before_expiry_days", why);
    }
    let Hpa { min_replicas: min, max_replicas: max, .. } = hpa;
    if *min < 2 {
        refuse(6, "miroir.hpa.minReplicas", format!("at least 2, found {min}"));
    }
    if max < min {
        refuse(6, "miroir.hpa.maxReplicas", format!("at least minReplicas ({min}), found {max}"));
    }
    let LeaderElection { lease_ttl_s: ttl, renew_interval_s: renew } = &values.leader_election;
    if ttl <= renew {
        refuse(6, "leader_election.lease_ttl_s", format!("longer than renew_interval_s ({renew}), found {ttl}"));
    }
    if !redis {
        if values.cdc.buffer.overflow == Some(Overflow::Redis) {
            refuse(6, "cdc.buffer.overflow", "redis requires backend redis".into());
        }
        for (_, path, backend) in limits {
            if backend == Some(LimitBackend::Redis) {
                refuse(6, path, "redis requires backend redis".into());
            }
        }
    }
    violations
}

#[cfg(test)]
#[path = "deployment_tests.rs"]
mod tests;
