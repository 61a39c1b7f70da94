use std::{fs::File, ops::ControlFlow, path::PathBuf, time::Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Context, Ended,
    export::ImportLog,
    input,
    output::{self, BAD, number},
};
use crate::{
    Error, Rejection, TaskStore,
    command::CommandOptions,
    engine::Request,
    meilisearch::{self, DumpError},
    show::visible::visible,
    store::QueuedAnswer,
};

/// Imports waiting for their answers; they share group commits.
const IMPORTS_AHEAD_MAX: usize = 1_024;

/// Take over an exported log, or data of other systems.
#[derive(Subcommand)]
pub(crate) enum Import {
    /// The task queue of a Meilisearch v6 dump, into `tasks`; safe to repeat
    Meilisearch(Meilisearch),
    /// A log that was exported, into a store of its own; safe to repeat
    Log(ImportLog),
}

/// Takes the task queue of a Meilisearch v6 dump into `tasks`, one commit per task. An import that is repeated finds its
/// tasks there and changes nothing.
#[derive(Args)]
pub(crate) struct Meilisearch {
    /// The dump, a gzipped tar archive
    file: PathBuf,
    /// The node whose queue it is
    #[arg(long, value_name = "NODE")]
    node: String,
}

/// What became of the tasks.
#[derive(Default)]
struct Tally {
    imported: u64,
    known: u64,
    refused: u64,
}

impl Import {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        match self {
            Self::Meilisearch(verb) => verb.run(context),
            Self::Log(verb) => verb.run(context),
        }
    }
}

impl Meilisearch {
    fn run(self, context: &Context) -> Result<Ended, Error> {
        input::check(&self.file, "import");
        let file =
            File::open(&self.file).map_err(|error| output::io(&format!("opening {}", self.file.display()), error))?;
        let store = context.open()?;
        let began = Instant::now();
        let bar = output::progress(None, "tasks");
        let mut tally = Tally::default();
        let mut waiting: Vec<(u64, QueuedAnswer)> = Vec::new();
        let read = meilisearch::read_dump(file, &self.node, |task| {
            bar.inc(1);
            match self.one(context, &store, task, &mut waiting, &mut tally) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        let dump = match read.map_err(|error| self.refused(error))? {
            ControlFlow::Continue(dump) => dump,
            ControlFlow::Break(error) => return Err(error),
        };
        settle(context, &mut waiting, &mut tally)?;
        bar.finish_and_clear();
        let Tally { imported, known, refused } = tally;
        if context.out.json {
            let value = json!({
                "imported": imported, "known": known, "refused": refused, "db_version": dump.db_version, "node": self.node,
            });
            context.out.line(value.to_string())?;
        } else {
            context.out.line(format!(
                "{} tasks of node {} imported, {} were there already, {} refused, in {:.1} s",
                number(imported),
                self.node,
                number(known),
                number(refused),
                began.elapsed().as_secs_f64()
            ))?;
        }
        Ok(if refused == 0 { Ended::Well } else { Ended::Refused })
    }

    fn refused(&self, error: DumpError) -> Error {
        Rejection::invalid(format!("{}: {error}", self.file.display())).into()
    }

    fn one(
        &self,
        context: &Context,
        store: &TaskStore,
        task: Result<crate::tables::tasks::Import, meilisearch::LineError>,
        waiting: &mut Vec<(u64, QueuedAnswer)>,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        match task {
            Ok(task) => {
                let uid = task.task_uid;
                let reason = format!("import of {}", visible(&self.file.display().to_string()));
                let options = CommandOptions { reason: Some(reason.into()), ..CommandOptions::default() };
                waiting.push((uid, store.queue(Request::one(Box::new(task), options))?));
            }
            Err(error) => refuse(context, tally, &error.to_string())?,
        }
        if waiting.len() == IMPORTS_AHEAD_MAX { settle(context, waiting, tally) } else { Ok(()) }
    }
}

fn settle(context: &Context, waiting: &mut Vec<(u64, QueuedAnswer)>, tally: &mut Tally) -> Result<(), Error> {
    for (uid, answer) in waiting.drain(..) {
        match answer.wait() {
            Ok(reply) if reply.meta.changed => tally.imported += 1,
            Ok(_) => tally.known += 1,
            Err(Error::Rejected(rejection)) => refuse(context, tally, &format!("task {uid}: {rejection}"))?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refuse(context: &Context, tally: &mut Tally, why: &str) -> Result<(), Error> {
    tally.refused += 1;
    if context.out.json {
        return context.out.line(json!({ "refused": why }).to_string());
    }
    context.out.line(format!("{}✗{} {why}", BAD.render(), BAD.render_reset()))
}
