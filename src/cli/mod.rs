//! The command line. One file per verb; this one parses and dispatches.

mod against;
mod apply;
mod archive;
mod at;
mod backup;
mod bench;
mod blame;
mod catalogue;
mod check;
mod checkpoint;
mod copy;
mod diff;
mod epoch;
mod events;
mod export;
mod fields;
mod follow;
mod fork;
mod import;
mod info;
mod input;
mod keygen;
mod maintain;
mod output;
mod proof_files;
mod prove;
mod quarantine;
mod replay;
mod rows;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod serve_log;
#[cfg(feature = "serve")]
mod serve_parts;
mod signals;
mod size;
mod snapshot;
mod sql;
mod wait;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use tasklog_log::StoreError;

use crate::{
    Access, Error, OpenOptions, StoreUrl, TaskStore,
    cli::output::Output,
    show::{
        mask,
        visible::{visible, visible_json},
    },
    wire::ErrorBody,
};

/// An event-sourced task registry: every change is an event in a log, every table a replay away.
#[derive(Parser)]
#[command(name = "tasklog", version, about, long_about = None, propagate_version = true)]
pub struct Cli {
    /// The store: sqlite:PATH, memory:, or redis://[USER[:PASSWORD]@]HOST:PORT/DB[?prefix=…&durability=…]
    #[arg(long, global = true, env = "TASKLOG_STORE", default_value = "sqlite:tasklog.db", value_name = "URL")]
    store: StoreUrl,
    /// One JSON value per line, for machines
    #[arg(long, global = true)]
    json: bool,
    /// Show sensitive columns instead of masking them
    #[arg(long, global = true)]
    show_sensitive: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Apply commands, one JSON object a line, in order
    Apply(apply::Apply),
    /// Show one row
    Get(rows::Get),
    /// List rows
    List(rows::List),
    /// Ask a query of the catalogue, such as tasks.unfinished
    Query(rows::Ask),
    /// Show the audit trail, oldest event first
    Log(events::LogArgs),
    /// Tell everything that happened to one row, field by field
    History(events::HistoryArgs),
    /// Tell which event last set each field of a row
    Blame(blame::Blame),
    /// Tell which rows differ between two moments, or between two stores
    Diff(diff::Diff),
    /// Step through events, with the row before and after each
    Replay(replay::Replay),
    /// Make a store of the log up to a moment, with events left out and commands added
    Fork(fork::Fork),
    /// Run a read-only SQL query over the 14 tables and `events`
    Sql(sql::Sql),
    /// Show what the store is and holds
    Info(info::Info),
    /// Check every event, every link and every row against a replay
    Verify(maintain::Verify),
    /// Print a checkpoint of the log, which later proves that nothing was changed
    Checkpoint(checkpoint::Checkpoint),
    /// Write a proof that an event is in the log, or that the log only grew
    Prove(prove::Prove),
    /// Check a proof against a checkpoint, without the store
    Check(Box<check::Check>),
    /// Make a key that signs checkpoints
    Keygen(keygen::Keygen),
    /// Rebuild tables from the log, while readers go on
    Rebuild(maintain::Rebuild),
    /// Let replays pass over an event that cannot be folded, take that back, or list what they pass over
    Quarantine(quarantine::Quarantine),
    /// Make a snapshot of all rows, while readers and writers go on
    Snapshot(snapshot::Snapshot),
    /// List the snapshots and whether each can be used
    Snapshots(snapshot::List),
    /// Show the log's epoch, or begin the next one after commits were lost
    Epoch(epoch::Epoch),
    /// Keep a replica of another store, and keep it up to date
    Follow(follow::Follow),
    /// Copy a store, byte for byte, and compare both
    Copy(copy::Copy),
    /// Serve the store over HTTP
    #[cfg(feature = "serve")]
    Serve(Box<serve::Serve>),
    /// The catalogue of commands, queries and events, with their JSON Schemas
    Commands(catalogue::Commands),
    /// Make a recorded day of one orchestrator
    Generate(catalogue::Generate),
    /// Seal the log into segments at another place, or verify these
    Archive(archive::Archive),
    /// Remove from the log what the archive and a snapshot have
    Trim(archive::Trim),
    /// Show or say how much of the log is kept where
    Retention(archive::Retention),
    /// Write the log as lines of JSON
    Export(export::Export),
    /// Make a consistent copy of a store's file while it is written to
    Backup(backup::Backup),
    /// Make a store of a backup, in a new epoch
    Restore(backup::Restore),
    /// Take over an exported log, or data of other systems
    #[command(subcommand)]
    Import(import::Import),
    /// Measure speed and size against a raw baseline in the same run
    Bench(bench::Bench),
    /// Measure what a registry of some size takes on disk and in Redis, and forecast deployments
    Size(size::Size),
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
}

/// How a verb ended.
pub(crate) enum Ended {
    /// Fine.
    Well,
    /// Something was rejected, or a check failed.
    Refused,
}

/// What a verb needs of the command line around it.
pub(crate) struct Context {
    pub(crate) url: StoreUrl,
    pub(crate) out: Output,
}

impl Context {
    /// Opens the store for commands.
    pub(crate) fn open(&self) -> Result<TaskStore, Error> {
        self.refuse_folder()?;
        TaskStore::open_with(&self.url, OpenOptions::default())
    }

    /// Opens the store for queries.
    pub(crate) fn open_to_read(&self) -> Result<TaskStore, Error> {
        self.refuse_folder()?;
        TaskStore::open_with(&self.url, OpenOptions { access: Access::Read, ..OpenOptions::default() })
    }

    /// Opens the store without writing anything to it, whatever it is like.
    pub(crate) fn open_to_look(&self) -> Result<TaskStore, Error> {
        self.refuse_folder()?;
        TaskStore::open_with(&self.url, OpenOptions { access: Access::Look, ..OpenOptions::default() })
    }
}

impl Context {
    /// SQLite's own words for it are those of a broken disk.
    pub(crate) fn refuse_folder(&self) -> Result<(), Error> {
        match &self.url {
            StoreUrl::Sqlite(path) if path.is_dir() => {
                Err(StoreError::unavailable(format!("{} is a folder, not a store", path.display())).into())
            }
            _ => Ok(()),
        }
    }
}

/// Runs the program: parses the command line, does what it says, and answers the exit status: 0 fine, 1 something was
/// rejected or a check failed, 2 usage, 3 store error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    init_tracing(&cli.verb);
    let out = Output::new(cli.json, cli.show_sensitive);
    let context = Context { url: cli.store, out };
    match run(cli.verb, &context) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Refused) => ExitCode::from(1),
        // Whoever read the output has seen enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&context, &error);
            match error {
                Error::Rejected(_) => ExitCode::from(1),
                Error::Store(_) => ExitCode::from(3),
            }
        }
    }
}

/// Ends the program because its command line was wrong, with the usage of the verb.
pub(crate) fn usage(verb: &str, why: &str) -> ! {
    let mut program = Cli::command();
    program.build();
    let why = why.split('\n').map(visible).collect::<Vec<_>>().join("\n");
    match program.find_subcommand_mut(verb) {
        Some(verb) => verb.error(clap::error::ErrorKind::ValueValidation, why).exit(),
        None => program.error(clap::error::ErrorKind::ValueValidation, why).exit(),
    }
}

fn report(context: &Context, error: &Error) {
    if context.out.json {
        let body = serde_json::to_string(&ErrorBody::new(error)).unwrap_or_default();
        eprintln!(r#"{{"error":{}}}"#, visible_json(&body));
        return;
    }
    let text = match error {
        Error::Rejected(rejection) => rejection.to_string(),
        Error::Store(error) => error.full(),
    };
    output::say(&format!("{}error:{} {}", output::BAD.render(), output::BAD.render_reset(), visible(&text)));
}

fn run(verb: Verb, context: &Context) -> Result<Ended, Error> {
    match verb {
        Verb::Apply(verb) => verb.run(context),
        Verb::Get(verb) => verb.run(context),
        Verb::List(verb) => verb.run(context),
        Verb::Query(verb) => verb.run(context),
        Verb::Log(verb) => verb.run(context),
        Verb::History(verb) => verb.run(context),
        Verb::Blame(verb) => verb.run(context),
        Verb::Diff(verb) => verb.run(context),
        Verb::Replay(verb) => verb.run(context),
        Verb::Fork(verb) => verb.run(context),
        Verb::Sql(verb) => verb.run(context),
        Verb::Info(verb) => verb.run(context),
        Verb::Verify(verb) => verb.run(context),
        Verb::Checkpoint(verb) => verb.run(context),
        Verb::Prove(verb) => verb.run(context),
        Verb::Check(verb) => verb.run(context),
        Verb::Keygen(verb) => verb.run(context),
        Verb::Rebuild(verb) => verb.run(context),
        Verb::Quarantine(verb) => verb.run(context),
        Verb::Snapshot(verb) => verb.run(context),
        Verb::Snapshots(verb) => verb.run(context),
        Verb::Epoch(verb) => verb.run(context),
        Verb::Follow(verb) => verb.run(context),
        Verb::Copy(verb) => verb.run(context),
        #[cfg(feature = "serve")]
        Verb::Serve(verb) => verb.run(context),
        Verb::Commands(verb) => verb.run(context),
        Verb::Generate(verb) => verb.run(context),
        Verb::Archive(verb) => verb.run(context),
        Verb::Trim(verb) => verb.run(context),
        Verb::Retention(verb) => verb.run(context),
        Verb::Export(verb) => verb.run(context),
        Verb::Backup(verb) => verb.run(context),
        Verb::Restore(verb) => verb.run(context),
        Verb::Import(verb) => verb.run(context),
        Verb::Bench(verb) => verb.run(context),
        Verb::Size(verb) => verb.run(context),
        Verb::Completions { shell } => {
            // Written to memory first: a reader that goes away would be a panic.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tasklog", &mut script);
            context.out.verbatim(String::from_utf8_lossy(&script).trim_end()).map(|()| Ended::Well)
        }
        Verb::Man { folder } => {
            std::fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder))
                .map_err(|error| output::io("writing man pages", error))?;
            Ok(Ended::Well)
        }
    }
}

/// What the library has to say goes to standard error. The service says it in its own way, and begins that itself.
fn init_tracing(verb: &Verb) {
    #[cfg(feature = "serve")]
    if let Verb::Serve(_) = verb {
        return;
    }
    #[cfg(not(feature = "serve"))]
    let _ = verb;
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(log_filter()).without_time();
    let _ = log.with_ansi(std::io::stderr().is_terminal()).try_init();
}

/// `TASKLOG_LOG` chooses how much is said (`info` by default).
fn log_filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_env("TASKLOG_LOG").unwrap_or_else(|_| "info".into())
}

/// Whether a person is looking at standard output.
pub(crate) fn on_terminal() -> bool {
    std::io::stdout().is_terminal()
}
