//! Whether a background duty has anything to do for jobs. Each look is bounded, and the next one goes on where it ended: what
//! cannot be worked on hides nothing for ever.

use std::sync::Arc;

use tasklog_projections::{
    Cell, PAGE_ROWS_MAX, Scan,
    tables::jobs::{JobRow, JobState, Jobs},
};

use super::purge::{ReadJobs, purgeable};
use crate::{query::Reader, rejection::Error};

/// A job along an index of instants or positions: what it has there, and its id.
pub(crate) type Place = (i64, String);

/// Whether a purge that goes on from `place` would remove something, as far as one look sees. Where there is nothing, `place`
/// moves to where the next look goes on: in front again after the last job.
pub(crate) fn is_purgeable(read: &Reader<'_>, place: &mut Option<Place>) -> Result<bool, Error> {
    let cutoff_ms = read.now() - read.config().job_ttl_ms;
    let mut read = read;
    let look = purgeable(&mut read, cutoff_ms, place.clone(), 1)?;
    *place = look.place.filter(|_| !look.ended);
    Ok(!look.found.is_empty())
}

impl ReadJobs for &Reader<'_> {
    fn page(&mut self, scan: Scan<'_>) -> Result<Vec<Arc<JobRow>>, Error> {
        let limit = scan.limit;
        Ok(self.list::<Jobs>(scan, Some(limit))?.into_iter().map(|found| found.row).collect())
    }

    fn job(&mut self, id: &str) -> Result<Option<Arc<JobRow>>, Error> {
        Ok(self.get::<Jobs>(id)?.map(|found| found.row))
    }
}

/// A page of jobs in progress beyond `place`: those that are delegated and whose chunks have all ended, and the place to go
/// on from; none after the last job in progress.
pub(crate) fn settleable(read: &Reader<'_>, place: Option<&Place>) -> Result<(Vec<String>, Option<Place>), Error> {
    let mut scan = Scan::equal("by_state", [Cell::from(JobState::InProgress.as_str())]);
    if let Some((position, id)) = place {
        scan = scan.after(vec![Cell::Integer(*position), Cell::from(&**id)]);
    }
    let page = read.list::<Jobs>(scan, Some(PAGE_ROWS_MAX))?;
    let mut ended = Vec::new();
    for job in page.iter().filter(|job| job.is_delegated()) {
        let unfinished = |state: JobState| {
            read.count::<Jobs>(&Scan::equal("by_parent", [Cell::from(&*job.id), Cell::from(state.as_str())]))
        };
        if unfinished(JobState::Queued)? + unfinished(JobState::InProgress)? == 0 {
            ended.push(job.id.clone());
        }
    }
    let last = page.last().filter(|_| page.len() == PAGE_ROWS_MAX);
    Ok((ended, last.map(|job| (job.enqueued_at_position, job.id.clone()))))
}
