//! What a log is for after it was written: fold it into tables again, compare, and tell an entity's history.
//!
//! One [`Folder`] turns commits into row changes; rebuild, verify and every later reader of the log drive it.
//!
//! Architecture invariant: this crate knows no backend by name. It sees a log through [`tasklog_log::Log`] and tables
//! through [`tasklog_projections::View`].

pub mod as_of;
mod blame;
mod compare;
mod diff;
mod fold;
pub mod follow;
pub mod fork;
mod history;
mod quarantine;
pub mod snapshot;
mod steps;
mod through;
mod tree_check;
mod verify;

pub use as_of::{Moment, MomentError, Past};
pub use blame::{Blame, blame};
pub use compare::{Difference, compare, live_rows};
pub use diff::{Between, Cause, Counts, Fate, RowDiff, diff, diff_row};
pub use fold::{FOLD_ROWS_MAX, Folder, catch_up, catch_up_with};
pub use history::{FieldChange, Step, changes, history};
pub use quarantine::{can_be_quarantined, is_quarantined_later, quarantine_of, refold};
pub use steps::Steps;
pub use through::LogThrough;
pub use verify::{Finding, Problem, Report, Verifier};
