use std::ops::{Bound, ControlFlow};

use schemars::JsonSchema;
use serde::Serialize;
use tasklog_log::{Log, Millis, Position};
use tasklog_projections::{
    Cell, Found, PAGE_ROWS_MAX, Scan,
    tables::tasks::{TaskRow, Tasks as TaskTable},
};

use super::{
    asked::{Asked, Between},
    error::ApiError,
    uids::{Uids, birth_at},
    view::{TaskView, kind},
};
use crate::{
    Error, TaskStore,
    query::{Query, Reader},
    tables::tasks::Count,
};

/// Rows that one request looks at, where a filter has no index. Beyond, `total` is what was found so far, and `next` leads
/// on.
pub const LOOKED_AT_MAX: usize = 20_000;

/// A page of tasks in Meilisearch's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tasks {
    /// The newest first, unless asked for the other way round.
    pub results: Vec<TaskView>,
    /// Tasks that pass the filters, on all pages.
    pub total: u64,
    /// As asked.
    pub limit: u64,
    /// The uid of the first task of this page.
    pub from: Option<u64>,
    /// Where the next page begins; null after the last one.
    pub next: Option<u64>,
}

/// One task, by its uid or by its `miroir_id`.
///
/// # Errors
/// The inner error if there is none, or if the text can be neither; the outer one is the store's.
pub fn get(store: &TaskStore, uids: &Uids, text: &str) -> Result<Result<(TaskView, Position), ApiError>, Error> {
    let number = text.parse::<u64>().ok();
    store.look(|read, log| {
        let found = match number {
            Some(uid) => by_uid(read, log, uids, uid)?,
            None => read.get::<TaskTable>(text)?,
        };
        let Some(found) = found else {
            let odd = number.is_none() && !text.starts_with("mtask-");
            return Ok(Err(if odd { ApiError::invalid_uid(text) } else { ApiError::task_not_found(text) }));
        };
        let uid = uids.of(log, &found.miroir_id, found.rev)?;
        Ok(Ok((TaskView::of(&found, uid), read.position()?)))
    })
}

fn by_uid(read: &Reader<'_>, log: &dyn Log, uids: &Uids, uid: u64) -> Result<Option<Found<TaskRow>>, Error> {
    let Some(birth) = birth_at(log, uid)? else { return Ok(None) };
    let Some(found) = read.get::<TaskTable>(&birth.miroir_id)? else { return Ok(None) };
    // Removed, and registered again since: that is another task.
    Ok((uids.of(log, &birth.miroir_id, found.rev)? == uid).then_some(found))
}

/// A page of tasks.
///
/// # Errors
/// The store's.
pub fn list(store: &TaskStore, uids: &Uids, asked: &Asked) -> Result<(Tasks, Position), Error> {
    store.look(|read, log| {
        let lister = Lister { read, log, uids, asked };
        Ok((lister.page()?, read.position()?))
    })
}

type Row = Found<TaskRow>;

/// Where a page begins: the order of tasks.
type Place = (Millis, String);

struct Lister<'a> {
    read: &'a Reader<'a>,
    log: &'a dyn Log,
    uids: &'a Uids,
    asked: &'a Asked,
}

impl Lister<'_> {
    fn page(&self) -> Result<Tasks, Error> {
        let limit = self.asked.limit;
        let (mut found, stopped, total) = match &self.asked.uids {
            _ if self.asked.nothing => (Vec::new(), None, 0),
            Some(wanted) => {
                let (found, total) = self.named(wanted)?;
                (found, None, total)
            }
            None => {
                let (found, stopped) = self.walk(self.begin()?.as_ref(), limit + 1)?;
                (found, stopped, self.total()?)
            }
        };
        let next = if found.len() > limit { found.drain(limit..).next() } else { stopped };
        let next = next.map(|row| self.uid(&row)).transpose()?;
        let results = found.iter().map(|row| Ok(TaskView::of(row, self.uid(row)?)));
        let results = results.collect::<Result<Vec<_>, Error>>()?;
        let from = results.first().map(|task| task.uid);
        Ok(Tasks { results, total, limit: limit as u64, from, next })
    }

    fn uid(&self, row: &Found<TaskRow>) -> Result<u64, Error> {
        Ok(self.uids.of(self.log, &row.miroir_id, row.rev)?)
    }

    /// Where the page begins. A uid that is no task's stands for the moment of the event at that position.
    fn begin(&self) -> Result<Option<Place>, Error> {
        let Some(from) = self.asked.from else { return Ok(None) };
        if let Some(birth) = birth_at(self.log, from)? {
            return Ok(Some((birth.created_at, birth.miroir_id)));
        }
        let beyond = from > self.log.head()?.position.0;
        let at = match self.log.event_alone(Position(from)) {
            _ if beyond => Millis::MAX,
            Ok(Some(commit)) => commit.recorded_at,
            Ok(None) => 0,
            Err(error) => return Err(error.into()),
        };
        let id = if self.asked.reverse { String::new() } else { char::MAX.to_string() };
        Ok(Some((at, id)))
    }

    /// The tasks with these uids.
    fn named(&self, wanted: &[u64]) -> Result<(Vec<Row>, u64), Error> {
        let mut found = Vec::new();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        for uid in wanted {
            let row = by_uid(self.read, self.log, self.uids, uid)?;
            found.extend(row.filter(|row| self.passes(row)));
        }
        self.sort(&mut found);
        let total = found.len() as u64;
        if let Some((at, id)) = self.begin()? {
            found.retain(|row| {
                let place = (row.created_at, &*row.miroir_id);
                if self.asked.reverse { place >= (at, &*id) } else { place <= (at, &*id) }
            });
        }
        Ok((found, total))
    }

    /// Up to `limit` tasks from a place on; and where it stopped looking, if it did.
    fn walk(&self, begin: Option<&Place>, limit: usize) -> Result<(Vec<Row>, Option<Row>), Error> {
        let mut found = Vec::new();
        let mut all = true;
        for scan in self.scans(begin) {
            let (mut met, mut looked_at) = (0, 0);
            self.read.walk::<TaskTable>(scan.limit(limit.min(PAGE_ROWS_MAX)), |row| {
                looked_at += 1;
                if self.passes(&row) {
                    met += 1;
                    found.push(row);
                } else if looked_at >= LOOKED_AT_MAX {
                    all = false;
                    found.push(row);
                    return ControlFlow::Break(());
                }
                if met == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        self.sort(&mut found);
        // The first one that does not pass is where a walk stopped: what stands behind it was not looked for everywhere.
        let stopped = found.iter().position(|row| !all && !self.passes(row));
        let stopped = stopped.and_then(|at| found.drain(at..).next());
        Ok((found, stopped))
    }

    /// The walks whose rows together are all that may pass: one, or one a status.
    fn scans(&self, begin: Option<&Place>) -> Vec<Scan<'static>> {
        let mut scans: Vec<_> = match &self.asked.statuses {
            None => vec![Scan::all("by_created")],
            Some(statuses) => {
                let mut names: Vec<_> = statuses.iter().map(|status| status.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                names.into_iter().map(|status| Scan::equal("by_status", [Cell::from(status)])).collect()
            }
        };
        for scan in &mut scans {
            let mut walk = scan.clone();
            if let Some((at, id)) = begin {
                let place = Bound::Included(vec![Cell::Integer(*at), Cell::Text(id.clone().into())]);
                walk = if self.asked.reverse { walk.from(place) } else { walk.to(place) };
            }
            *scan = if self.asked.reverse { walk } else { walk.descending() };
        }
        scans
    }

    fn sort(&self, found: &mut [Row]) {
        found.sort_by(|a, b| (a.created_at, &a.miroir_id).cmp(&(b.created_at, &b.miroir_id)));
        if !self.asked.reverse {
            found.reverse();
        }
    }

    /// Whether a task is one of those asked for.
    fn passes(&self, row: &TaskRow) -> bool {
        let Asked { statuses, types, index_uids, enqueued, started, finished, .. } = self.asked;
        statuses.as_ref().is_none_or(|statuses| statuses.contains(&row.status))
            && types.as_ref().is_none_or(|types| types.contains(&&*kind(row)))
            && index_uids.as_ref().is_none_or(|uids| row.index_uid.as_ref().is_some_and(|uid| uids.contains(uid)))
            && enqueued.has(Some(row.created_at))
            && started.has(row.started_at)
            && finished.has(row.finished_at)
    }

    /// How many tasks pass on all pages. Where only statuses count, an index knows; else rows are looked at.
    fn total(&self) -> Result<u64, Error> {
        let Asked { statuses, types, index_uids, enqueued, started, finished, .. } = self.asked;
        let any = [enqueued, started, finished].into_iter().all(Between::is_any);
        if types.is_none() && index_uids.is_none() && any {
            if statuses.is_none() {
                return Count {}.answer(self.read);
            }
            return self.scans(None).iter().map(|scan| self.read.count::<TaskTable>(scan)).sum();
        }
        let (mut total, mut looked_at) = (0, 0);
        for scan in self.scans(None) {
            self.read.walk::<TaskTable>(scan.limit(PAGE_ROWS_MAX), |row| {
                looked_at += 1;
                total += u64::from(self.passes(&row));
                if looked_at == LOOKED_AT_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(total)
    }
}
