//! An event-sourced task registry: every change is an event, every table a replay away.
//!
//! tasklog keeps the task registry of an orchestrator that spreads search indexes over many Meilisearch servers. Every
//! command is **decided** (purely, on the rows it reads), what it decides is **appended** as events to a log, and the
//! events are **folded** into 14 tables in the same transaction. The tables can be rebuilt from the log, compared with
//! it, and every row can tell its history.
//!
//! ```text
//! command ─► wire ─► committer ─► engine ─► decide ─► events ─► log + tables ─► queries
//!                    (one thread,  (one      (pure)              (one transaction)
//!                     many callers) batch)
//! ```
//!
//! # The whole journey
//!
//! ```
//! use tasklog::{
//!     Error, TaskStore,
//!     command::CommandOptions,
//!     replay::history,
//!     tables::{sessions, tasks},
//! };
//! use tasklog::projections::tables::tasks::{self as rows, TaskStatus};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("tasklog.db");
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # runtime.block_on(async {
//! let store = TaskStore::open(&format!("sqlite:{}", path.display()))?;
//!
//! // A client write: idempotency key, task and session pin in one commit, all or nothing.
//! let options = CommandOptions { actor: Some("router".into()), reason: Some("POST /documents".into()), ..CommandOptions::default() };
//! store
//!     .transact(
//!         vec![
//!             Box::new(tasks::Register { miroir_id: Some("mtask-1".into()), ..tasks::Register::default() }),
//!             Box::new(sessions::RecordWrite {
//!                 session_id: "session-1".into(), mtask_id: "mtask-1".into(), pinned_group: None,
//!             }),
//!         ],
//!         options,
//!     )
//!     .await?;
//!
//! // A node has taken the write, and reports how far it is.
//! let attached = store
//!     .tasks()
//!     .attach_node_task(tasks::AttachNodeTask { miroir_id: "mtask-1".into(), node_id: "meili-0".into(), task_uid: 7 })
//!     .await?;
//! assert!(attached.changed);
//! let reported = store
//!     .tasks()
//!     .report_node_statuses(tasks::ReportNodeStatuses {
//!         miroir_id: "mtask-1".into(),
//!         reports: vec![tasks::NodeReport { node_id: "meili-0".into(), status: TaskStatus::Succeeded, error: None }],
//!     })
//!     .await?;
//! assert_eq!(reported.answer.status, TaskStatus::Succeeded);
//!
//! // A rejection changes nothing and says why.
//! let refused = store.tasks().cancel(tasks::Cancel { miroir_id: "mtask-1".into(), error: None }).await;
//! assert!(matches!(refused, Err(Error::Rejected(_))));
//!
//! // Rows, the history behind them, and the proof that the log gives exactly these rows.
//! let task = store.tasks().get(tasks::Get { miroir_id: "mtask-1".into() })?.expect("it was registered");
//! assert_eq!(task.status, TaskStatus::Succeeded);
//! let steps = store.read(|log, view| Ok(history(log, view, &rows::DEF, "mtask-1")?))?;
//! assert_eq!(steps.len(), 4);
//! assert_eq!(store.verify(|_| {})?.found, 0);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok(())
//! # }
//! ```
//!
//! Architecture invariants: this crate is the only one that names concrete backends; decisions are pure; whatever shaped
//! an outcome is in its event.

pub mod backend;
pub mod bench;
mod beside;
pub mod blobs;
pub mod cli;
pub mod command;
mod committer;
pub mod config;
pub mod copy;
pub mod decision;
pub mod engine;
pub mod export;
pub mod facts;
pub mod follow;
pub mod fork;
pub mod generate;
pub mod keep;
mod last_event;
pub mod meilisearch;
pub mod meters;
mod private;
pub mod proof;
mod provisional;
pub mod query;
pub mod rejection;
pub mod rows;
#[cfg(feature = "serve")]
pub mod serve;
pub mod shared;
mod show;
pub mod size;
pub mod store;
pub mod tables;
pub mod task_api;
pub mod text;
pub mod wire;

pub use config::Config;
pub use rejection::{Error, Rejection, RejectionKind};
pub use store::{Access, OpenOptions, StoreUrl, TaskStore};
pub use tasklog_log as log;
pub use tasklog_projections as projections;
pub use tasklog_replay as replay;

/// The README's examples are compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So is the example of the page about shared keys.
#[cfg(doctest)]
#[doc = include_str!("../docs/shared-keys.md")]
struct SharedKeysPage;

#[cfg(doctest)]
#[doc = include_str!("../docs/following.md")]
struct Following;

#[cfg(doctest)]
#[doc = include_str!("../docs/time-travel.md")]
struct TimeTravel;
