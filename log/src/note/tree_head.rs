use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::{LogId, LogInfo, merkle::Hash};

/// What a tasklog's origin begins with; the log's id follows.
pub const ORIGIN_PREFIX: &str = "tasklog/";
/// What the extension line with the epoch begins with.
const EPOCH_PREFIX: &str = "epoch ";

/// Why a note's text states no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeHeadError {
    /// A line that is missing or wrong.
    #[error("no checkpoint: line {line}: expected {expected}")]
    Line {
        /// From 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
}

/// What a checkpoint states (`tlog-checkpoint`): of which log, how many events, and the root of their tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// `tasklog/<log id>`, or the origin of another kind of log.
    pub origin: String,
    /// Events of the tree: it covers positions 1 to this.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// Further lines; a tasklog writes `epoch <number>`.
    pub extensions: Vec<String>,
}

impl TreeHead {
    /// Of a tasklog.
    #[must_use]
    pub fn new(log: LogInfo, size: u64, root: Hash) -> Self {
        let extensions = vec![format!("{EPOCH_PREFIX}{}", log.epoch)];
        Self { origin: Self::origin_of(log.id), size, root, extensions }
    }

    /// The origin of a tasklog.
    #[must_use]
    pub fn origin_of(log: LogId) -> String {
        format!("{ORIGIN_PREFIX}{log}")
    }

    /// The id of the tasklog; none for another kind of log.
    #[must_use]
    pub fn log_id(&self) -> Option<LogId> {
        Uuid::parse_str(self.origin.strip_prefix(ORIGIN_PREFIX)?).ok()
    }

    /// The epoch in which it was stated.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.extensions.iter().find_map(|line| line.strip_prefix(EPOCH_PREFIX)?.parse().ok())
    }
}

impl FromStr for TreeHead {
    type Err = TreeHeadError;
    /// Reads a note's text.
    fn from_str(text: &str) -> Result<Self, TreeHeadError> {
        let wrong = |line, expected| TreeHeadError::Line { line, expected };
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(wrong(1, "the log's origin"))?;
        let size = lines.next().unwrap_or_default();
        let plain = size == "0" || (!size.starts_with('0') && size.bytes().all(|byte| byte.is_ascii_digit()));
        let size = size.parse().ok().filter(|_| plain).ok_or(wrong(2, "the tree's size, a decimal number"))?;
        let root = lines.next().and_then(Hash::from_base64).ok_or(wrong(3, "the root, 32 bytes in base64"))?;
        let mut extensions = Vec::new();
        for (at, line) in lines.enumerate() {
            if line.is_empty() {
                return Err(wrong(4 + at, "an extension line, which is not empty"));
            }
            extensions.push(line.to_owned());
        }
        Ok(Self { origin: origin.into(), size, root, extensions })
    }
}

impl fmt::Display for TreeHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root, extensions } = self;
        writeln!(f, "{origin}\n{size}\n{root}")?;
        for line in extensions {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}
