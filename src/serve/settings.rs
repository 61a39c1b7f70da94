use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{DutySettings, Limits, TokenFiles};

/// How a store is served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// A second place, open to whoever reaches it, that answers health and metrics only.
    pub metrics_listen: Option<SocketAddr>,
    /// Certificate and key; without them the service speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Who may do what.
    pub tokens: TokenFiles,
    /// Whether everybody sees sensitive columns.
    pub show_sensitive: bool,
    /// What clients may make the process keep.
    pub limits: Limits,
    /// How far a replica may be behind its source and still be ready.
    pub replica: ReplicaBounds,
    /// The name under which this process, or the orchestrator beside it, holds leases: `miroir_leader` is about it.
    pub pod: String,
    /// For how long a store that cannot be opened for now is tried again.
    pub wait_for_store: Duration,
    /// The background duties; without, somebody else does them.
    pub duties: Option<DutySettings>,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// How far a replica may be behind its source, as its follower reports, and still be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaBounds {
    /// Events that the source has and the replica has not.
    pub lag_max: u64,
    /// How long its follower may say nothing; zero for as long as it likes.
    pub silence_max: Duration,
}

impl Default for ReplicaBounds {
    fn default() -> Self {
        Self { lag_max: 10_000, silence_max: Duration::from_secs(60) }
    }
}
