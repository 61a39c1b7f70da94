use std::io::Read;

use sha2::{Digest, Sha256};

use super::{
    Archive, SegmentInfo,
    segment::{DIGEST_BYTES, Index, lost},
};
use crate::{BlobReader, Blobs, Commit, Millis, Position, StoreError};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 16;

/// What a verification of an archive has read and found.
#[derive(Debug, Default)]
pub struct ArchiveReport {
    /// Segments read.
    pub segments: u64,
    /// Commits read.
    pub commits: u64,
    /// Events read.
    pub events: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The position of its first event; 0 if it has none.
    pub first: Position,
    /// The position of its last event; 0 if it has none.
    pub last: Position,
    /// The events that were sealed with a wrong checksum, as they stood in the log, because replays pass over them.
    pub damaged: Vec<Position>,
    /// What is wrong, segment by segment. The others hold.
    pub findings: Vec<StoreError>,
}

impl Archive {
    /// Reads every segment against its digest and every event in it against its checksum. It goes on after a finding, so
    /// that one report tells all. `note` hears of each segment that was read.
    ///
    /// # Errors
    /// `corrupt` if there is no manifest that could be read; `unavailable`.
    pub fn verify(&self, note: &mut dyn FnMut(&SegmentInfo)) -> Result<ArchiveReport, StoreError> {
        self.verify_segments(Position(1), Position(u64::MAX), note)
    }

    /// [`Archive::verify`] of the segments that hold any of the events from `first` to `last`.
    ///
    /// # Errors
    /// As [`Archive::verify`].
    pub fn verify_segments(
        &self,
        first: Position,
        last: Position,
        note: &mut dyn FnMut(&SegmentInfo),
    ) -> Result<ArchiveReport, StoreError> {
        let Some(manifest) = self.manifest()? else { return Ok(ArchiveReport::default()) };
        let mut report = ArchiveReport {
            first: manifest.first().unwrap_or_default(),
            last: manifest.last(),
            ..ArchiveReport::default()
        };
        let mut recorded_at = Millis::MIN;
        let asked = manifest.segments.iter().filter(|segment| segment.last >= first && segment.first <= last);
        for info in asked {
            let mut read = Segment { info, blobs: &**self.blobs(), recorded_at, report: &mut report };
            match read.verify(manifest.log) {
                Ok(()) => {}
                Err(error @ (StoreError::Corrupt { .. } | StoreError::SchemaAhead { .. })) => {
                    report.findings.push(error);
                }
                Err(error) => return Err(error),
            }
            recorded_at = info.recorded_to;
            report.segments += 1;
            report.bytes += info.bytes;
            note(info);
        }
        Ok(report)
    }
}

struct Segment<'a> {
    info: &'a SegmentInfo,
    blobs: &'a dyn Blobs,
    recorded_at: Millis,
    report: &'a mut ArchiveReport,
}

impl Segment<'_> {
    fn verify(&mut self, log: crate::LogId) -> Result<(), StoreError> {
        let info = self.info;
        let index = Index::open(self.blobs, info)?;
        if index.log.id != log {
            return Err(self.lost(&format!("it is of log {}", index.log.id)));
        }
        self.digest()?;
        let mut commits = 0;
        for block in 0..index.blocks.len() {
            let block = index.block(self.blobs, info, block)?;
            commits += block.len() as u64;
            self.block(&block)?;
        }
        if commits != info.commits || self.recorded_at != info.recorded_to {
            return Err(self.lost("it has other commits than its manifest says"));
        }
        Ok(())
    }

    /// Density inside and between blocks is what reading one has checked; checksums are what makes the sum of a block right.
    fn block(&mut self, block: &[Commit]) -> Result<(), StoreError> {
        for commit in block {
            if commit.recorded_at < self.recorded_at {
                return Err(self.lost(&format!("event {} was recorded before the one before it", commit.first())));
            }
            self.recorded_at = commit.recorded_at;
            // A checksum that is not computed was stored, and that is done for a damaged event alone.
            let damaged = commit.events.iter().filter(|event| commit.check(event).is_err());
            self.report.damaged.extend(damaged.map(|event| event.position));
            self.report.commits += 1;
            self.report.events += commit.events.len() as u64;
        }
        Ok(())
    }

    fn digest(&self) -> Result<(), StoreError> {
        let mut reader = BlobReader::new(self.blobs, &*self.info.name);
        let digested = self.info.bytes.saturating_sub(DIGEST_BYTES as u64);
        let mut sha256 = Sha256::new();
        let (mut at, mut stored) = (0, Vec::new());
        let mut page = vec![0; READ_BYTES];
        loop {
            let read = reader.read(&mut page).map_err(|error| {
                let doing = format!("reading segment {} at {}", self.info.name, self.blobs.place());
                StoreError::unavailable_because(doing, error)
            })?;
            if read == 0 {
                break;
            }
            let left = usize::try_from(digested.saturating_sub(at)).unwrap_or(usize::MAX).min(read);
            sha256.update(&page[..left]);
            stored.extend_from_slice(&page[left..read]);
            at += read as u64;
        }
        let found = hex::encode(sha256.finalize());
        if at != self.info.bytes {
            return Err(self.lost(&format!("it has {at} bytes, expected {}", self.info.bytes)));
        }
        if found != self.info.sha256 || hex::encode(stored) != self.info.sha256 {
            return Err(self.lost(&format!("SHA-256 of its bytes: expected {}, found {found}", self.info.sha256)));
        }
        Ok(())
    }

    fn lost(&self, why: &str) -> StoreError {
        lost(self.blobs, self.info, self.info.first, self.info.last, why)
    }
}
