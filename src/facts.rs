//! Commands about the log itself. They go through the same engine as all others and change table `_log`; none of them is in
//! the catalogue, because they are how this program notes what an operator or it itself has decided.

mod quarantine;
mod rebuilt;
mod retention;

pub(crate) use quarantine::Looked;
pub use quarantine::{Lift, Quarantine};
pub use rebuilt::NoteRebuild;
pub use retention::{SetKeep, SetPlace, Trim};
