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
