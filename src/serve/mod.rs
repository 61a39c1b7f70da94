//! The store over HTTP, for programs that are not written in Rust: what `apply`, `get`, `list`, `query`, `history` and
//! `log` do on the command line, in the same words.
//!
//! Every write goes through the store's committer, so commands of many clients share one commit. Every read runs on a
//! thread that may block, and there are only so many of them. Whatever a client can make the process keep (connections,
//! requests, lines, tails) has a bound in [`Limits`], and what is beyond a bound is told so.
//!
//! ```text
//! listen ─► limits ─► auth ─► route ─► commands ─► committer (group commit)
//!  (TLS)                        ├────► reads ────► blocking threads ─► TaskStore
//!                               └────► tails ────► feed: one reader of new commits for all of them
//! ```
//!
//! [`routes::routes`] is the one list of what is served; a new route is one entry there and a handler.

mod answer;
mod asked;
mod auth;
mod body;
mod channel;
mod commands;
mod cursor;
pub mod deployment;
mod duties;
mod events;
mod feed;
mod guard;
mod health;
mod history;
mod info;
mod limits;
mod listen;
mod metrics;
pub mod openapi;
#[cfg(feature = "otel")]
mod otlp;
mod problem;
mod queries;
pub mod routes;
mod run;
mod settings;
#[cfg(feature = "otel")]
mod spans;
mod state;
mod stream;
mod tables;
mod tail;
mod tasks;
mod timed;
mod tls;
mod unread;

pub use auth::{Source as TokenSource, TokenFiles};
pub use duties::DutySettings;
pub use limits::Limits;
#[cfg(feature = "otel")]
pub use otlp::{TraceError, Traces};
pub use run::{ServeError, run};
pub use settings::{ReplicaBounds, Settings, TlsFiles};
#[cfg(feature = "otel")]
pub use spans::SPANS;
