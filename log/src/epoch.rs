use crate::{CommitId, Millis, Position};

/// An epoch that somebody has begun, by accepting that the log is what it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedEpoch {
    /// Its number; the first one that is accepted is 2, because a log is born with 1.
    pub epoch: u64,
    /// Where the log ended then.
    pub position: Position,
    /// The commit that ended there; nil for an empty log.
    pub commit: CommitId,
    /// ms: when, by the log's clock.
    pub accepted_at: Millis,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}
