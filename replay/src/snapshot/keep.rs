use std::sync::Arc;

use tasklog_log::{BlobReader, Blobs, Checkpoint, Log, StoreError};

use super::{Snapshot, Snapshots, file::File};

/// How often a snapshot is written: what is in the way under its name is damaged, and removed.
const WRITES_MAX: usize = 2;

impl Snapshot {
    /// Copies it to another place, unless that has it, and answers the copy, all of which was read again and found right.
    ///
    /// # Errors
    /// `corrupt` if it was damaged since it was first read; `unavailable`; `read_only`.
    pub fn keep_in(&self, place: &Arc<dyn Blobs>) -> Result<Self, StoreError> {
        let info = self.info();
        let mut damage = String::new();
        for _ in 0..WRITES_MAX {
            place.put(&info.name, &mut BlobReader::new(&*self.blobs, &info.name))?;
            match File::open(&**place, info)? {
                Ok(file) => {
                    return Ok(Self { blobs: Arc::clone(place), file: Arc::new(file), checkpoint: self.checkpoint });
                }
                Err(why) => damage = why,
            }
            place.delete(&info.name)?;
        }
        Err(self.file.damaged(&damage))
    }
}

impl Snapshots {
    /// The snapshot that a log begins with: of exactly this commit. Which events were quarantined when it was made makes no
    /// difference: the log's own decisions since then say what has become of its rows. The inner error says why there is none.
    ///
    /// # Errors
    /// `unavailable`; the log's.
    pub fn beginning(&self, log: &dyn Log, at: &Checkpoint) -> Result<Result<Snapshot, String>, StoreError> {
        let mut why_not = format!("{} has none of event {}", self.place(), at.position);
        for info in self.list()?.iter().filter(|info| info.position == at.position) {
            let made_without = match &*self.file(info)? {
                Ok(file) if file.directory.checkpoint().commit == at.commit => file.directory.passed_over.clone(),
                Ok(_) => continue,
                Err(why) => {
                    why_not = format!("{}: {why}", info.name);
                    continue;
                }
            };
            match self.clone().passing_over(made_without).open(log, info)? {
                Ok(snapshot) => return Ok(Ok(snapshot)),
                Err(why) => why_not = format!("{}: {why}", info.name),
            }
        }
        Ok(Err(why_not))
    }
}
