use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::{Context, Ended, log_filter, output, serve_log::LogArgs, serve_parts::DeploymentArgs, usage};
use crate::{
    Access, Error, OpenOptions,
    serve::{self, Limits, ReplicaBounds, ServeError, Settings, TlsFiles, TokenFiles, TokenSource},
};

/// Serve the store over HTTP: commands, rows, queries, history, live events.
///
/// Beyond the loopback interface a token is needed. SIGTERM and SIGINT: what was accepted is answered, then the process
/// ends. SIGHUP: token files and certificate are read anew. A replica is served for reading.
#[derive(Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7711")]
    listen: SocketAddr,
    /// A second address, open to whoever reaches it, that answers health and metrics only
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// Serve for reading only
    #[arg(long)]
    read_only: bool,
    /// How long a store that cannot be opened for now is tried again: a server that is not there yet, a file that another process
    /// still writes to. Meanwhile requests are answered 503
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait_for_store: u64,
    #[command(flatten)]
    tokens: Tokens,
    /// The certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    deployment: DeploymentArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    replica: ReplicaArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Args)]
struct Tokens {
    /// Tokens that read and write, one a line
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A token that reads and writes
    #[arg(long, value_name = "TOKEN", env = "TASKLOG_TOKEN", hide_env_values = true, hide = true)]
    token: Option<String>,
    /// Tokens that only read, one a line; or TASKLOG_READ_TOKEN
    #[arg(long, value_name = "FILE")]
    read_token_file: Option<PathBuf>,
    /// A token that only reads
    #[arg(long, value_name = "TOKEN", env = "TASKLOG_READ_TOKEN", hide_env_values = true, hide = true)]
    read_token: Option<String>,
    /// Tokens that read, write, and see sensitive columns, one a line; or TASKLOG_SENSITIVE_TOKEN
    #[arg(long, value_name = "FILE")]
    sensitive_token_file: Option<PathBuf>,
    /// A token that sees sensitive columns as well
    #[arg(long, value_name = "TOKEN", env = "TASKLOG_SENSITIVE_TOKEN", hide_env_values = true, hide = true)]
    sensitive_token: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Open connections
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections_max)]
    connections_max: usize,
    /// Requests being answered; tails and streams are counted for themselves
    #[arg(long, value_name = "N", default_value_t = Limits::default().requests_max)]
    requests_max: usize,
    /// Live tails of events
    #[arg(long, value_name = "N", default_value_t = Limits::default().tails_max)]
    tails_max: usize,
    /// Streams of commands
    #[arg(long, value_name = "N", default_value_t = Limits::default().streams_max)]
    streams_max: usize,
    /// Threads that read the store
    #[arg(long, value_name = "N", default_value_t = Limits::default().readers_max)]
    readers_max: usize,
    /// Bytes of one command, one transaction, or one line of a stream
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().command_bytes_max)]
    command_bytes_max: usize,
    /// Bytes of one stream of commands
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().stream_bytes_max)]
    stream_bytes_max: u64,
    /// Bytes of all bodies that are being read, beyond 64 KiB of each
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().bodies_bytes_max)]
    bodies_bytes_max: usize,
    /// Bytes of a request's line and headers
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().header_bytes_max)]
    header_bytes_max: usize,
    /// How long a connection may be idle, or take for the headers of its next request
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().idle_max))]
    idle_ms: u64,
    /// How long a request may take to send its body, and then to be answered
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().request_max))]
    request_ms: u64,
    /// How long a stream of commands waits for its next line
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().stream_idle_max))]
    stream_idle_ms: u64,
    /// How long a tail waits for a reader that takes nothing, before it is cut off
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().tail_stall_max))]
    tail_stall_ms: u64,
    /// How often a tail says that it is alive
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().heartbeat))]
    heartbeat_ms: u64,
    /// How long a connection may take nothing of its answer
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().write_stall_max))]
    write_stall_ms: u64,
    /// How long a read waits for Tasklog-Min-Position
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().min_position_wait_max))]
    min_position_wait_ms: u64,
    /// How long open requests have to end after SIGTERM
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().shutdown_max))]
    shutdown_ms: u64,
}

#[derive(Args)]
#[command(next_help_heading = "Replicas")]
struct ReplicaArgs {
    /// Events that a replica may be behind its source and still be ready (/readyz)
    #[arg(long, value_name = "EVENTS", default_value_t = ReplicaBounds::default().lag_max)]
    replica_lag_max: u64,
    /// How long a replica's follower may say nothing before the replica is not ready any more; 0 for ever
    #[arg(long, value_name = "MS", default_value_t = ms(ReplicaBounds::default().silence_max))]
    replica_silence_ms: u64,
}

impl ReplicaArgs {
    fn bounds(&self) -> ReplicaBounds {
        let silence_max = Duration::from_millis(self.replica_silence_ms);
        ReplicaBounds { lag_max: self.replica_lag_max, silence_max }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Serve {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let _saying = self.log.begin(log_filter());
        if let Err(why) = self.deployment.refuse() {
            usage("serve", &why);
        }
        let access = if self.read_only { Access::Read } else { Access::Write };
        let options = OpenOptions { access, ..OpenOptions::default() };
        let settings = Settings {
            listen: self.listen,
            metrics_listen: self.metrics_listen,
            tls: self.tls_cert.zip(self.tls_key).map(|(cert, key)| TlsFiles { cert, key }),
            tokens: self.tokens.files(),
            show_sensitive: context.out.show_sensitive,
            limits: self.limits.limits(),
            replica: self.replica.bounds(),
            pod: self.deployment.pod(),
            wait_for_store: Duration::from_secs(self.wait_for_store),
            duties: self.deployment.duties(),
        };
        match serve::run(context.url.clone(), options, settings) {
            Ok(()) => Ok(Ended::Well),
            Err(ServeError::Store(error)) => Err(error),
            Err(ServeError::System { doing, cause }) => Err(output::io(&doing, cause)),
            Err(ServeError::Settings(why)) => usage("serve", &why),
        }
    }
}

impl Tokens {
    fn files(self) -> TokenFiles {
        let source = |file, value| TokenSource { file, value };
        TokenFiles {
            write: source(self.token_file, self.token),
            read: source(self.read_token_file, self.read_token),
            sensitive: source(self.sensitive_token_file, self.sensitive_token),
        }
    }
}

impl LimitArgs {
    fn limits(self) -> Limits {
        let ms = Duration::from_millis;
        Limits {
            connections_max: self.connections_max,
            requests_max: self.requests_max,
            tails_max: self.tails_max,
            streams_max: self.streams_max,
            readers_max: self.readers_max,
            command_bytes_max: self.command_bytes_max,
            stream_bytes_max: self.stream_bytes_max,
            bodies_bytes_max: self.bodies_bytes_max,
            header_bytes_max: self.header_bytes_max,
            idle_max: ms(self.idle_ms),
            request_max: ms(self.request_ms),
            stream_idle_max: ms(self.stream_idle_ms),
            tail_stall_max: ms(self.tail_stall_ms),
            heartbeat: ms(self.heartbeat_ms),
            write_stall_max: ms(self.write_stall_ms),
            min_position_wait_max: ms(self.min_position_wait_ms),
            shutdown_max: ms(self.shutdown_ms),
        }
    }
}
