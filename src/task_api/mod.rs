//! The task registry as clients of Meilisearch know it: `GET /tasks` and `GET /tasks/{uid}`.
//!
//! Such a client expects an integer where a task here has a text. It gets the position of the event that registered the
//! task: one integer a task, in the order of registration, which never changes and which the log itself leads back from,
//! also after a trim, from the archive.
//!
//! ```text
//! uid ─► the log's event at that position ─► task_registered of miroir_id ─► row
//! row ─► its rev ─► prev ─► prev ─► … ─► task_registered: its position is the uid   (remembered)
//! ```
//! Architecture invariant: nothing here writes, and nothing is stored for it.

mod asked;
mod error;
mod list;
mod uids;
mod view;

pub use asked::{Asked, TYPES};
pub use error::{ApiError, ErrorBody};
pub use list::{LOOKED_AT_MAX, Tasks, get, list};
pub use uids::Uids;
pub use view::{TaskError, TaskView};

#[cfg(test)]
mod tests;
