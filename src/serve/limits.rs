use std::time::Duration;

/// What a client may make the process keep, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; the next one is answered 503 and closed.
    pub connections_max: usize,
    /// Requests being answered, tails and streams not counted; the next one is answered 503.
    pub requests_max: usize,
    /// Live tails of events.
    pub tails_max: usize,
    /// NDJSON streams of commands.
    pub streams_max: usize,
    /// Threads that read the store; reads wait for one.
    pub readers_max: usize,
    /// Bytes of one command or transaction.
    pub command_bytes_max: usize,
    /// Bytes of one stream of commands.
    pub stream_bytes_max: u64,
    /// Bytes of all bodies that are being read, beyond the first 64 KiB of each.
    pub bodies_bytes_max: usize,
    /// Bytes of a request's line and headers.
    pub header_bytes_max: usize,
    /// How long a connection may take from being opened, or answered, until its next request's headers are complete.
    pub idle_max: Duration,
    /// How long one request may take, from its headers to its answer.
    pub request_max: Duration,
    /// How long a stream of commands waits for more of its body.
    pub stream_idle_max: Duration,
    /// How long a tail waits for its reader to take something, before it is cut off.
    pub tail_stall_max: Duration,
    /// How often a tail says that it is alive.
    pub heartbeat: Duration,
    /// How long a connection may take nothing of what is written to it.
    pub write_stall_max: Duration,
    /// How long a read waits for `Tasklog-Min-Position`.
    pub min_position_wait_max: Duration,
    /// How long open requests have to end once the process is told to stop.
    pub shutdown_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            requests_max: 1_024,
            tails_max: 1_024,
            streams_max: 256,
            readers_max: 32,
            command_bytes_max: 4 << 20,
            stream_bytes_max: 100 << 20,
            bodies_bytes_max: 256 << 20,
            header_bytes_max: 32 << 10,
            idle_max: Duration::from_secs(75),
            request_max: Duration::from_secs(30),
            stream_idle_max: Duration::from_secs(60),
            tail_stall_max: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            write_stall_max: Duration::from_secs(60),
            min_position_wait_max: Duration::from_secs(5),
            shutdown_max: Duration::from_secs(30),
        }
    }
}
