use serde_json::{Value, json};
use tasklog_log::{Position, StoreError, archive::Manifest};

use crate::{
    Error, TaskStore,
    config::HOUR_MS,
    show::number,
    store::{Keep, Retention, archive},
};

/// What is kept of a log, and where: the hot log, the archive, snapshots, and what replays pass over. It is
/// told as of today, whichever moment is asked about: that is where the past is read from.
pub(crate) struct Keeping {
    retention: Retention,
    quarantined: Vec<Position>,
    hot_first: Position,
    head: Position,
    /// None if there is no archive; otherwise what its place has, or why that is not known.
    archive: Option<Result<Option<Reach>, String>>,
    snapshots: usize,
    newest_snapshot: Option<Position>,
    snapshot_place: String,
}

/// How far an archive reaches.
struct Reach {
    first: Option<Position>,
    last: Position,
    segments: usize,
    bytes: u64,
}

impl From<&Manifest> for Reach {
    fn from(manifest: &Manifest) -> Self {
        Self {
            first: manifest.first(),
            last: manifest.last(),
            segments: manifest.segments.len(),
            bytes: manifest.segments.iter().map(|segment| segment.bytes).sum(),
        }
    }
}

impl Keeping {
    pub(crate) fn of(store: &TaskStore) -> Result<Self, Error> {
        let store = store.present();
        let retention = store.retention()?;
        let (hot_first, head) = store.read_hot(|log, _| Ok((log.first()?, log.head()?)))?;
        let reach = |place: &String| -> Result<Option<Reach>, StoreError> {
            let manifest = archive::open(place)?.manifest()?;
            Ok(manifest.filter(|manifest| manifest.log == head.log.id).map(|manifest| Reach::from(&*manifest)))
        };
        // Whoever asks what there is wants an answer above all if something is not there.
        let archive = retention.archive.as_ref().map(|place| reach(place).map_err(|error| error.full()));
        let snapshots = store.snapshots()?;
        let listed = snapshots.list()?;
        Ok(Self {
            quarantined: store.passed_over()?,
            hot_first,
            head: head.position,
            archive,
            snapshots: listed.len(),
            newest_snapshot: listed.first().map(|newest| newest.position),
            snapshot_place: snapshots.place(),
            retention,
        })
    }

    /// Adds the fields of it.
    pub(crate) fn tell(&self, value: &mut Value) {
        let Retention { archive, keep } = &self.retention;
        let archive = archive.as_ref().map(|place| {
            let mut told = json!({ "place": place });
            match &self.archive {
                Some(Ok(Some(reach))) => {
                    told["first"] = json!(reach.first);
                    told["last"] = json!(reach.last);
                    told["segments"] = json!(reach.segments);
                    told["bytes"] = json!(reach.bytes);
                }
                Some(Ok(None)) => told["last"] = json!(0),
                Some(Err(why)) => told["error"] = json!(why),
                None => {}
            }
            told["covers_trimmed"] = json!(self.covers_trimmed());
            told
        });
        value["hot_first"] = json!(self.hot_first);
        value["archive"] = json!(archive);
        value["retention"] = json!({
            "on": self.retention.is_on(), "keep_events": keep.events,
            "keep_hours": keep.age_ms.map(|age| age / HOUR_MS),
        });
        value["snapshots"] = json!({
            "place": self.snapshot_place, "count": self.snapshots, "newest": self.newest_snapshot,
        });
        value["quarantined"] = json!(self.quarantined);
    }

    /// Whether the archive has all that the store no longer has; none if that is not known.
    fn covers_trimmed(&self) -> Option<bool> {
        match &self.archive {
            _ if self.hot_first == Position(1) => Some(true),
            Some(Ok(Some(reach))) => Some(reach.first == Some(Position(1)) && reach.last.next() >= self.hot_first),
            Some(Ok(None)) | None => Some(false),
            Some(Err(_)) => None,
        }
    }

    /// The lines of it, by their names.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let Retention { archive, keep } = &self.retention;
        let hot = match self.hot_first {
            Position(1) => "all events: nothing is trimmed".into(),
            first => format!("events {first} to {}; what was before is in the archive", self.head),
        };
        lines.push(("hot log", hot));
        let place = archive.as_deref().unwrap_or("none");
        let mut reach = match &self.archive {
            Some(Ok(Some(Reach { first: Some(first), last, segments, bytes }))) => {
                format!("{place}: events {first} to {last} in {segments} segments, {} bytes", number(*bytes))
            }
            Some(Ok(_)) => format!("{place}: nothing of this log"),
            Some(Err(why)) => format!("{place}: it cannot be read now: {why}"),
            None => place.into(),
        };
        if self.covers_trimmed() == Some(false) {
            reach =
                format!("{reach}; events 1 to {}, which the store no longer has, are missing", self.hot_first.before());
        }
        lines.push(("archive", reach));
        lines.push(("retention", self.shown_retention(keep)));
        let newest = self.newest_snapshot.map_or("none".into(), |newest| {
            format!("{}, the newest of event {newest} ({})", self.snapshots, self.snapshot_place)
        });
        lines.push(("snapshots", newest));
        let quarantined = match &*self.quarantined {
            [] => "none".into(),
            [.., last] => format!("{} events, the last one is event {last}", self.quarantined.len()),
        };
        lines.push(("quarantined", quarantined));
        lines
    }

    fn shown_retention(&self, keep: &Keep) -> String {
        let kept: Vec<_> = [
            keep.events.map(|events| format!("the newest {} events", number(events))),
            keep.age_ms.map(|age| format!("what is younger than {} hours", age / HOUR_MS)),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (kept.is_empty(), self.retention.is_on()) {
            (true, _) => "everything stays".into(),
            (false, true) => format!("{} and the archive has the rest", kept.join(" and ")),
            (false, false) => format!("{}, once there is an archive; until then everything stays", kept.join(" and ")),
        }
    }
}
