//! The master property.

use std::{collections::HashMap, time::Duration};

use tasklog::{
    Error, TaskStore,
    blobs::open_place,
    log::{Commit, CommitId, Log, Position, archive::Archive},
    projections::{View, facts},
};

use crate::{
    dump::{commits, folded, live},
    world::{Acknowledged, Checked, World, ensure, must_begin_again, told},
};

/// How long a follower may take before it is reported as one that does not catch up.
const FOLLOWER_MAX: Duration = Duration::from_secs(120);

impl World {
    /// Live rows = rows rebuilt from the first event = every snapshot and what comes after it = the follower's = those of the
    /// archive and what comes after it = those of the last moment; the log has what was acknowledged and only grows; and
    /// `verify` finds nothing.
    pub fn check(&mut self) -> Checked {
        let store = self.store().clone();
        let snapshots = store.snapshots().map_err(told("snapshots"))?;
        let archived = self.archive().map(|place| open_place(&place.display().to_string())).transpose();
        let archived = archived.map_err(told("the archive's place"))?.map(Archive::new);
        let looked = store.read(|log, view| {
            let all = commits(log, Position::ZERO)?;
            let rows = live(log, view)?;
            let looked = self.check_log(&all).and_then(|()| {
                same("rebuilt from the first event", &rows, &folded(&all, None, log, view).map_err(why)?)?;
                check_snapshots(&snapshots, &all, &rows, log, view)?;
                archived.as_ref().map_or(Ok(()), |past| check_archive(past, &all, &rows, log, view))
            });
            Ok(looked.map(|()| (all, rows)))
        });
        let (all, rows) = looked.map_err(told("reading"))??;
        let head = all.last().map_or(Position::ZERO, Commit::last);
        self.check_follower(head, &rows)?;
        if head > Position::ZERO {
            same("as of the head", &the_14(&rows), &the_14(&as_of(&store, head)?))?;
        }
        let report = store.verify(|_| {}).map_err(told("verify"))?;
        ensure(report.found == 0, || format!("verify has found {:#?}", report.findings))?;
        ensure(report.head == head, || format!("verify ended at {}, the log at {head}", report.head))?;
        self.remember(all, head, rows);
        Ok(())
    }

    /// Dense, in time order, what it was before and more, with every acknowledged commit once and in its caller's order.
    fn check_log(&self, all: &[Commit]) -> Checked {
        let (mut next, mut time) = (Position(1), i64::MIN);
        let mut places: HashMap<CommitId, Position> = HashMap::new();
        for commit in all {
            for event in &commit.events {
                ensure(event.position == next, || format!("event {} where {next} was expected", event.position))?;
                next = next.next();
            }
            let at = commit.recorded_at;
            ensure(at >= time, || format!("event {}: recorded at {at}, after {time}", commit.first()))?;
            time = at;
            let before = places.insert(commit.meta.id, commit.last());
            let id = commit.meta.id;
            ensure(before.is_none(), || format!("commit {id} is at {} and at {before:?}", commit.last()))?;
        }
        for (before, now) in self.known().iter().zip(all) {
            ensure(before == now, || format!("history has changed: {before:?} is now {now:?}"))?;
        }
        let (known, len) = (self.known().len(), all.len());
        ensure(known <= len, || format!("the log had {known} commits, and has {len} of them"))?;
        let mut last = Position::ZERO;
        for Acknowledged { id, position } in self.acknowledged() {
            let found = places.get(id);
            let what = "an acknowledged commit";
            ensure(found == Some(position), || format!("{what}, {id}, was to be at {position}, found {found:?}"))?;
            ensure(*position > last, || format!("{what}, {id}, at {position}, was acknowledged after that at {last}"))?;
            last = *position;
        }
        Ok(())
    }

    fn check_follower(&mut self, head: Position, rows: &str) -> Checked {
        let Some(follower) = self.follower() else { return Ok(()) };
        match follower.wait_for(head, FOLLOWER_MAX) {
            Err(error) if must_begin_again(&error) => self.follow_anew()?,
            waited => waited.map(drop).map_err(told("the follower"))?,
        }
        let Some(follower) = self.follower() else { return Ok(()) };
        follower.wait_for(head, FOLLOWER_MAX).map_err(told("the follower"))?;
        let begun = follower.store().beginning().map_err(told("where the follower began"))?.is_some();
        let report = follower.store().verify(|_| {}).map_err(told("verifying the follower"))?;
        ensure(report.found == 0, || format!("verify has found in the follower {:#?}", report.findings))?;
        let theirs = follower.store().read(|log, view| Ok((log.head()?.position, live(log, view)?)));
        let (at, theirs) = theirs.map_err(told("reading the follower's rows"))?;
        ensure(at == head, || format!("the follower is at {at}, the log at {head}"))?;
        same("the follower's", rows, &theirs)?;
        if head > Position::ZERO {
            self.did.insert("a follower that has caught up");
            if begun {
                self.did.insert("a follower that began with a snapshot");
            }
        }
        Ok(())
    }

    /// A moment that was the present once is what it was then.
    pub fn check_as_of(&self, which: u8) -> Checked {
        let moments = self.moments();
        let Some((position, then)) = moments.get(usize::from(which) * moments.len() / 256) else { return Ok(()) };
        same(&format!("as of {position}"), &the_14(then), &the_14(&as_of(self.store(), *position)?))
    }
}

/// Without the facts about the log, which are today's at every moment.
fn the_14(rows: &str) -> String {
    let facts = format!("{}/", facts::DEF.name);
    rows.split_inclusive('\n').filter(|line| !line.starts_with(&facts)).collect()
}

fn why(error: tasklog::log::StoreError) -> String {
    error.full()
}

fn as_of(store: &TaskStore, position: Position) -> Checked<String> {
    let context = format!("as of {position}");
    let at = store.at(position).map_err(told(&context))?;
    at.read(|log, view| Ok(live(log, view)?)).map_err(told(&context))
}

fn check_snapshots(
    snapshots: &tasklog::replay::snapshot::Snapshots,
    all: &[Commit],
    rows: &str,
    log: &dyn Log,
    view: &dyn View,
) -> Checked {
    for info in snapshots.list().map_err(why)? {
        // One that was made before something was quarantined is not used any more, nor one that was thinned out meanwhile.
        let Ok(Ok(snapshot)) = snapshots.open(log, &info) else { continue };
        let theirs =
            folded(all, Some(&snapshot), log, view).map_err(|error| format!("{}: {}", info.name, why(error)))?;
        same(&format!("of a snapshot and the tail ({})", info.name), rows, &theirs)?;
    }
    Ok(())
}

/// What is sealed is what the log says, and gives, with what comes after it, the same rows.
fn check_archive(past: &Archive, all: &[Commit], rows: &str, log: &dyn Log, view: &dyn View) -> Checked {
    let Some(manifest) = past.manifest().map_err(why)? else { return Ok(()) };
    let (first, last) = (manifest.first().unwrap_or(Position(1)), manifest.last());
    ensure(first == Position(1), || format!("the archive begins at {first}"))?;
    let (mut sealed, mut after) = (Vec::new(), Position::ZERO);
    while after < last {
        let page = past.read(after, last.next(), 100).map_err(why)?;
        after = page.last().map(Commit::last).ok_or_else(|| format!("the archive ends at {after}, not at {last}"))?;
        sealed.extend(page);
    }
    ensure(all.starts_with(&sealed), || "the archive has other commits than the log".into())?;
    sealed.extend(commits(log, last).map_err(why)?);
    same("the archive's and the rest", rows, &folded(&sealed, None, log, view).map_err(why)?)
}

/// The first line that differs says most.
pub fn same(what: &str, rows: &str, theirs: &str) -> Checked {
    if rows == theirs {
        return Ok(());
    }
    let missing = rows.lines().find(|line| !theirs.lines().any(|other| other == *line)).unwrap_or("nothing");
    let stray = theirs.lines().find(|line| !rows.lines().any(|other| other == *line)).unwrap_or("nothing");
    Err(format!("the rows {what} differ from the live ones:\n  live  {missing}\n  there {stray}"))
}

/// What an operation may answer: that it was done, or that it is refused.
pub fn done_or_refused<T>(what: &str, answer: Result<T, Error>) -> Checked<Option<T>> {
    match answer {
        Ok(done) => Ok(Some(done)),
        Err(Error::Rejected(_)) => Ok(None),
        Err(error) => Err(told(what)(error)),
    }
}
