use tasklog_log::{Checkpoint, StoreError};

/// How a follower stands, as it tells its replica.
#[derive(Clone, Copy, Debug)]
pub enum Word<'w> {
    /// The source was seen, and ends here.
    Seen(&'w Checkpoint),
    /// The source cannot be reached.
    Lost(&'w StoreError),
    /// It was told to stop, or to end at the head and is there.
    Stopped,
    /// It ended for a reason that does not pass by itself.
    Failed(&'w StoreError),
}

impl<'w> Word<'w> {
    /// What an error says.
    pub(super) fn of(error: &'w StoreError) -> Self {
        if error.is_retryable() { Self::Lost(error) } else { Self::Failed(error) }
    }
}
