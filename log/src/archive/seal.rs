use super::{
    Archive, Manifest, SegmentInfo,
    segment::{self, Sealed, bytes_of, ends_with},
};
use crate::{BlobReader, Checkpoint, Commit, Log, Position, StoreError, read_checked_but};

/// A segment takes no further commit when it has this many events, unless the archive is told otherwise.
pub const SEGMENT_EVENTS_DEFAULT: usize = 100_000;
/// A segment takes no further commit when it has this many bytes of payloads and keys.
const SEGMENT_BYTES: usize = 64 << 20;
/// Events read at once.
const PAGE_EVENTS: usize = 2_000;
/// How often another archiver may be faster in one call before this one gives up.
const OVERTAKEN_MAX: usize = 1_000;

/// How a log is archived.
#[derive(Clone, Copy, Debug)]
pub struct Sealing {
    /// A segment takes no further commit when it has this many events.
    pub segment_events: usize,
    /// Whether the log's end becomes a segment although it is shorter.
    pub all: bool,
    /// The most segments that are sealed in one call.
    pub segments_max: usize,
}

impl Default for Sealing {
    fn default() -> Self {
        Self { segment_events: SEGMENT_EVENTS_DEFAULT, all: false, segments_max: usize::MAX }
    }
}

impl Archive {
    /// Seals what the archive does not have yet of a log into further segments, oldest first, and answers what it holds
    /// then. `note` hears of each segment when a manifest lists it.
    ///
    /// The log must be the hot one, which the archive's end is compared with. If the two disagree there and the log is in a
    /// later epoch, then what the archive has beyond the last common point was lost, and somebody has accepted that: the next
    /// manifest no longer lists it.
    ///
    /// # Errors
    /// `diverged` if the archive is another log's, or has what the log does not have; `corrupt` for an event with a wrong
    /// checksum that nobody passes over, and for positions that neither has; `unavailable`. Segments that were noted stay.
    pub fn seal(
        &self,
        log: &dyn Log,
        how: &Sealing,
        note: &mut dyn FnMut(&SegmentInfo),
    ) -> Result<Manifest, StoreError> {
        let mut sealed = 0;
        let mut overtaken = 0;
        loop {
            let newest = self.manifest()?;
            let listed = newest.as_ref().map_or(0, |newest| newest.segments.len());
            let number = newest.as_ref().map_or(0, |newest| newest.number);
            let mut manifest = agreed(log, newest.as_deref())?;
            let cut_back = manifest.segments.len() < listed;
            let commits = match sealed < how.segments_max {
                true => self.next_segment(log, manifest.last(), how)?,
                false => Vec::new(),
            };
            if commits.is_empty() && !cut_back {
                return Ok(manifest);
            }
            if !commits.is_empty() {
                let segment = segment::seal(log.info()?, &commits)?;
                drop(commits);
                manifest.segments.push(self.put_segment(segment)?);
            }
            manifest.number = number + 1;
            if manifest.write(&**self.blobs())? {
                sealed += 1;
                if let Some(newest) = manifest.segments.last() {
                    note(newest);
                }
            } else {
                overtaken += 1;
                if overtaken == OVERTAKEN_MAX {
                    let place = self.blobs().place();
                    return Err(StoreError::unavailable(format!("archiving to {place}: others were faster each time")));
                }
            }
        }
    }

    /// Whole commits after a position, as many as a segment takes; none if there are fewer.
    fn next_segment(&self, log: &dyn Log, after: Position, how: &Sealing) -> Result<Vec<Commit>, StoreError> {
        let mut commits: Vec<Commit> = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        let segment_events = how.segment_events.max(1);
        let passed_over = |position| self.passed_over.contains(&position);
        while events < segment_events {
            let at = commits.last().map_or(after, Commit::last);
            let page = read_checked_but(log, at, PAGE_EVENTS.min(segment_events - events), &passed_over)?;
            if page.is_empty() {
                return Ok(if how.all { commits } else { Vec::new() });
            }
            for commit in page {
                events += commit.events.len();
                bytes += bytes_of(&commit);
                commits.push(commit);
                if bytes >= SEGMENT_BYTES {
                    return Ok(commits);
                }
            }
        }
        Ok(commits)
    }

    /// Puts a segment, unless it is there already. What is there under its name may be another log's, or another life's of
    /// this one, that was never listed: then it gets a name of its own.
    fn put_segment(&self, Sealed { bytes, mut info }: Sealed) -> Result<SegmentInfo, StoreError> {
        let blobs = &**self.blobs();
        if blobs.put(&info.name, &mut &bytes[..])? || same(blobs, &info.name, &bytes)? {
            return Ok(info);
        }
        let plain = info.name.strip_suffix(".tlseg").unwrap_or(&info.name);
        info.name = format!("{plain}-{}.tlseg", &info.sha256[..16]);
        if blobs.put(&info.name, &mut &bytes[..])? || same(blobs, &info.name, &bytes)? {
            return Ok(info);
        }
        let place = blobs.place();
        Err(StoreError::corrupt_store(format!("segment {} at {place} is there, and is damaged", info.name)))
    }
}

/// Whether a blob has these bytes.
fn same(blobs: &dyn crate::Blobs, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
    let mut reader = BlobReader::new(blobs, name);
    let mut rest = bytes;
    let mut page = vec![0; 1 << 16];
    loop {
        let failed = |error| StoreError::unavailable_because(format!("reading {name} at {}", blobs.place()), error);
        let read = std::io::Read::read(&mut reader, &mut page).map_err(failed)?;
        match rest.split_at_checked(read) {
            Some((part, others)) if *part == page[..read] && read > 0 => rest = others,
            _ => return Ok(read == 0 && rest.is_empty()),
        }
    }
}

/// What the next manifest begins with: the newest, as far as the log agrees with it.
fn agreed(log: &dyn Log, newest: Option<&Manifest>) -> Result<Manifest, StoreError> {
    let head = log.head()?;
    let Some(newest) = newest else { return Ok(Manifest::empty(head.log)) };
    let mut manifest = Manifest { epoch: head.log.epoch, ..newest.clone() };
    let first = log.first()?;
    let archived = |manifest: &Manifest| {
        let last = manifest.segments.last();
        Box::new(Checkpoint {
            log: crate::LogInfo { id: newest.log, epoch: newest.epoch },
            position: manifest.last(),
            commit: last.map_or(Checkpoint::start(head.log).commit, |last| last.last_commit),
            recorded_at: last.map_or(0, |last| last.recorded_to),
        })
    };
    if newest.log != head.log.id || newest.epoch > head.log.epoch {
        return Err(StoreError::Diverged { checkpoint: archived(newest), log: Box::new(head) });
    }
    while let Some(last) = manifest.segments.last() {
        if last.last < first {
            // Trimmed: the archive is all there is of it.
            break;
        }
        let theirs = if last.last <= head.position { log.event(last.last)? } else { None };
        if theirs.as_ref().is_some_and(|(theirs, _)| ends_with(last, theirs)) {
            break;
        }
        if newest.epoch == head.log.epoch {
            let at = theirs.map_or(head, |(commit, _)| Checkpoint {
                log: head.log,
                position: last.last,
                commit: commit.meta.id,
                recorded_at: commit.recorded_at,
            });
            return Err(StoreError::Diverged { checkpoint: archived(&manifest), log: Box::new(at) });
        }
        manifest.segments.pop();
    }
    let next = manifest.last().next();
    if first > next {
        let why = format!("events {next} to {} are neither in the log nor in the archive", first.before());
        return Err(StoreError::corrupt(next, why));
    }
    Ok(manifest)
}
