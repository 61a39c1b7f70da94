//! `tasks`: what clients and pollers may do to a task.
//!
//! In the order of a task's life: it is registered (`register.rs`), nodes take the write and report how far they are
//! (`node_tasks.rs`), which makes the task's own status (`status.rs`), and a while after its end it goes (`prune.rs`).

mod node_tasks;
mod prune;
mod queries;
mod register;
mod status;

use std::sync::Arc;

use tasklog_projections::tables::tasks::{DEF, TaskRow, Tasks};

pub use self::{
    node_tasks::{AttachNodeTask, NodeReport, ReplaceNodeTask, ReportAnswer, ReportNodeStatuses},
    prune::{PRUNE_LIMIT, Prune, Pruned},
    queries::{Count, Get, List, OldestProcessing, Prunable, Unfinished},
    register::{Import, Register, Registered},
    status::{Cancel, SetStatus, StatusAnswer},
};
use crate::{decision::Decision, rejection::Error, tables::side};

side! {
    /// `tasks`
    pub struct TasksHandle for DEF as tasks {
        commands {
            register(Register),
            attach_node_task(AttachNodeTask),
            replace_node_task(ReplaceNodeTask),
            report_node_statuses(ReportNodeStatuses),
            set_status(SetStatus),
            cancel(Cancel),
            prune(Prune),
            import(Import),
        }
        queries {
            get(Get),
            count(Count),
            list(List),
            unfinished(Unfinished),
            oldest_processing(OldestProcessing),
            prunable(Prunable),
        }
    }
}

fn existing(cx: &mut Decision<'_>, miroir_id: &str) -> Result<Arc<TaskRow>, Error> {
    cx.existing::<Tasks>("task", miroir_id)
}
