use crate::CommitId;

/// The names of the log's keys. `docs/formats.md` describes what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
    log: String,
    head: String,
    identity: String,
    schema_version: String,
}

impl Keys {
    /// The names under `prefix`, which is written without its colon.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let name = |last: &str| format!("{prefix}:{last}");
        Self {
            prefix: prefix.into(),
            log: name("log"),
            head: name("_head"),
            identity: name("_log"),
            schema_version: name("schema_version"),
        }
    }

    /// The first part of every name, without the colon.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The stream.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Hash: `position`, `commit` and `recorded_at` of the newest commit.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Hash: `id`, `epoch`, `born_at` and `time` (`server` or `given`) of the log.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// List: the epochs that were accepted, oldest first, each as a JSON object of strings.
    #[must_use]
    pub fn epochs(&self) -> String {
        format!("{}:_epochs", self.prefix)
    }

    /// String: what the caller of a named commit was answered.
    #[must_use]
    pub fn answer(&self, commit: CommitId) -> String {
        format!("{}:_answer:{commit}", self.prefix)
    }

    /// String: the hashes of the log's Merkle tree that are kept, 32 bytes each.
    #[must_use]
    pub fn tree(&self) -> String {
        format!("{}:_tree", self.prefix)
    }

    /// Hash: the checkpoint of the kept tree: `log_id`, `epoch`, `position`, `commit` and `recorded_at`.
    #[must_use]
    pub fn tree_at(&self) -> String {
        format!("{}:_tree_at", self.prefix)
    }

    /// The version of the store's schema.
    #[must_use]
    pub fn schema_version(&self) -> &str {
        &self.schema_version
    }
}
