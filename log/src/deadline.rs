use std::time::{Duration, Instant};

/// The longest wait in one piece: a longer timeout is as good as none.
const WAIT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// The end of a wait. Any timeout is legal, `Duration::MAX` too, which no [`Instant`] can hold.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout.min(WAIT_MAX))
    }

    /// Zero once it is over.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}
