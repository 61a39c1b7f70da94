use serde::{Deserialize, Serialize};

use crate::{Blobs, CommitId, LogId, LogInfo, Millis, Position, StoreError};

/// The newest format of manifests.
pub const MANIFEST_VERSION: u32 = 1;
/// What the names of manifests begin with.
pub(super) const MANIFESTS: &str = "manifests/";
/// Manifests that stay beside the newest one.
const OLD_MANIFESTS_KEPT: usize = 10;
/// Manifests read when those that are listed are gone again: others write meanwhile.
const MANIFEST_ATTEMPTS_MAX: usize = 16;
/// A manifest has at most this many bytes: a line for each of a million segments.
const MANIFEST_BYTES_MAX: u64 = 512 << 20;

/// A segment, as a manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentInfo {
    /// The name of its blob.
    pub name: String,
    /// The position of its first event.
    pub first: Position,
    /// The position of its last event.
    pub last: Position,
    /// How many commits it has.
    pub commits: u64,
    /// The id of its last commit.
    pub last_commit: CommitId,
    /// ms: the instant of its first commit.
    pub recorded_from: Millis,
    /// ms: the instant of its last commit.
    pub recorded_to: Millis,
    /// How many bytes it has.
    pub bytes: u64,
    /// SHA-256 of all of them but the last 32, in hex.
    pub sha256: String,
    /// SHA-256 of its header and its index, in hex.
    pub index_sha256: String,
}

/// What an archive holds: written after its segments, and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`]
    pub format: u32,
    /// Which manifest this is, from 1; the highest number counts.
    pub number: u64,
    /// The log.
    pub log: LogId,
    /// The log's epoch when it was written.
    pub epoch: u64,
    /// All segments, dense, in order.
    pub segments: Vec<SegmentInfo>,
}

impl Manifest {
    /// An archive with nothing in it yet.
    #[must_use]
    pub fn empty(log: LogInfo) -> Self {
        Self { format: MANIFEST_VERSION, number: 0, log: log.id, epoch: log.epoch, segments: Vec::new() }
    }

    /// The first position; none if there is no segment.
    #[must_use]
    pub fn first(&self) -> Option<Position> {
        self.segments.first().map(|segment| segment.first)
    }

    /// The last position; 0 if there is no segment.
    #[must_use]
    pub fn last(&self) -> Position {
        self.segments.last().map_or(Position::ZERO, |segment| segment.last)
    }

    /// The segment that holds a position.
    #[must_use]
    pub fn segment(&self, position: Position) -> Option<&SegmentInfo> {
        let at = self.segments.partition_point(|segment| segment.last < position);
        self.segments.get(at).filter(|segment| segment.first <= position)
    }

    /// The newest manifest of an archive; none if it has none.
    ///
    /// # Errors
    /// `corrupt` for one that says what cannot be; `schema_ahead` for a newer format; `unavailable`.
    pub fn newest(blobs: &dyn Blobs) -> Result<Option<Self>, StoreError> {
        for _ in 0..MANIFEST_ATTEMPTS_MAX {
            let Some((number, name)) = numbers(blobs)?.pop() else { return Ok(None) };
            if let Some(bytes) = blobs.get(&name, 0..MANIFEST_BYTES_MAX)? {
                return Self::read(&bytes, number).map(Some).map_err(|error| in_place(error, &name, &blobs.place()));
            }
        }
        Err(StoreError::unavailable(format!(
            "reading the newest manifest at {}: it was replaced each time",
            blobs.place()
        )))
    }

    fn read(bytes: &[u8], number: u64) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let wrong = |error: serde_json::Error| StoreError::corrupt_store(error.to_string());
        let found = serde_json::from_slice::<Format>(bytes).map_err(wrong)?.format;
        if found > MANIFEST_VERSION {
            return Err(StoreError::SchemaAhead { what: "archive manifest".into(), found, known: MANIFEST_VERSION });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        if manifest.number != number {
            return Err(StoreError::corrupt_store(format!("it says that it is number {}", manifest.number)));
        }
        let mut next = manifest.first().unwrap_or(Position(1));
        for segment in &manifest.segments {
            if segment.first != next || segment.last < segment.first {
                return Err(StoreError::corrupt_store(format!(
                    "{}: expected to begin at {next}, found {} to {}",
                    segment.name, segment.first, segment.last
                )));
            }
            next = segment.last.next();
        }
        Ok(manifest)
    }

    /// Writes it under its number; false if another one has that number. Old ones are removed.
    pub(super) fn write(&self, blobs: &dyn Blobs) -> Result<bool, StoreError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| StoreError::unavailable_because("writing a manifest", error))?;
        let name = format!("{MANIFESTS}{:020}.json", self.number);
        if !blobs.put(&name, &mut &text[..])? {
            return Ok(false);
        }
        let mut old = numbers(blobs)?;
        old.retain(|(number, _)| *number < self.number);
        old.truncate(old.len().saturating_sub(OLD_MANIFESTS_KEPT));
        for (_, name) in old {
            // Nobody reads it any more; the next one removes it.
            if let Err(error) = blobs.delete(&name) {
                tracing::warn!(error = error.full(), name, "an old manifest stays");
            }
        }
        Ok(true)
    }
}

/// The manifests that there are, by their numbers.
fn numbers(blobs: &dyn Blobs) -> Result<Vec<(u64, String)>, StoreError> {
    let listed = blobs.list(MANIFESTS)?;
    Ok(listed.into_iter().filter_map(|blob| Some((number(&blob.name)?, blob.name))).collect())
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(MANIFESTS)?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Says of an error without a position which blob it is about.
pub(super) fn in_place(error: StoreError, name: &str, place: &str) -> StoreError {
    match error {
        StoreError::Corrupt { position, why } => {
            StoreError::Corrupt { position, why: format!("{name} at {place}: {why}") }
        }
        other => other,
    }
}
