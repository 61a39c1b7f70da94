use tasklog_log::{Log, Position, StoreError};

use super::{SnapshotInfo, Snapshots, unlike_the_log};

/// So many of the newest ones always stay.
const NEWEST_KEPT: usize = 3;

impl Snapshots {
    /// Removes snapshots that are too close together: the newest three stay, and beyond them the distances double, so
    /// that few are left of a long log. Of a trimmed log the oldest usable one stays as well: what was removed is in it.
    ///
    /// # Errors
    /// `unavailable`; the log's.
    pub fn thin(&self, log: &dyn Log) -> Result<Vec<SnapshotInfo>, StoreError> {
        let infos = self.list()?;
        let start = log.first()?.before();
        let mut needed = None;
        for (at, info) in infos.iter().enumerate().rev().filter(|(_, info)| info.position >= start) {
            // A log that has its beginning needs none.
            if start == Position::ZERO || self.open(log, info)?.is_ok() {
                needed = Some(at);
                break;
            }
        }
        let removed = superfluous(&infos, needed);
        for info in &removed {
            self.remove(info)?;
        }
        Ok(removed)
    }

    /// Removes those after `base` whose commit the log has lost, once somebody has accepted the loss: the log may come to
    /// their positions again, and when it is trimmed there, nothing could tell them from the right ones.
    pub(super) fn remove_lost(&self, log: &dyn Log, base: Position) -> Result<(), StoreError> {
        for info in self.list()?.into_iter().filter(|info| info.position > base) {
            let at = match &*self.file(&info)? {
                Ok(file) => file.directory.checkpoint(),
                Err(_) => continue,
            };
            let present = log.info()?;
            let given_up = at.log.id == present.id && at.log.epoch < present.epoch && info.position >= log.first()?;
            if given_up && let Some(why) = unlike_the_log(log, &at)? {
                tracing::warn!(snapshot = info.name, place = self.place(), why, "removing a snapshot of what was lost");
                self.remove(&info)?;
            }
        }
        Ok(())
    }
}

/// Which of `infos`, newest first, are to go. One goes if the gap that it leaves is no longer than the way from there to the
/// newest one.
fn superfluous(infos: &[SnapshotInfo], needed: Option<usize>) -> Vec<SnapshotInfo> {
    let Some(newest) = infos.first() else { return Vec::new() };
    let mut removed = Vec::new();
    let mut last_kept = newest.position;
    for (at, info) in infos.iter().enumerate() {
        let gap = infos.get(at + 1).map(|older| last_kept.0 - older.position.0);
        let goes = gap.is_some_and(|gap| gap <= newest.position.0 - last_kept.0);
        if goes && at >= NEWEST_KEPT && needed != Some(at) {
            removed.push(info.clone());
        } else {
            last_kept = info.position;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infos(positions: impl IntoIterator<Item = u64>) -> Vec<SnapshotInfo> {
        positions.into_iter().map(|at| SnapshotInfo::named(Position(at), &[7; 32], 1)).collect()
    }

    fn thinned(infos: &[SnapshotInfo], needed: Option<usize>) -> Vec<u64> {
        let removed = superfluous(infos, needed);
        infos.iter().filter(|info| !removed.contains(info)).map(|info| info.position.0).collect()
    }

    #[test]
    fn distances_double_beyond_the_newest_three() {
        assert_eq!(thinned(&infos((1..=20).rev()), None), [20, 19, 18, 16, 12, 4, 1]);
        assert_eq!(thinned(&infos([3, 2, 1]), None), [3, 2, 1]);
    }

    #[test]
    fn the_one_that_the_log_goes_on_from_stays() {
        assert!(thinned(&infos((1..=20).rev()), Some(10)).contains(&10));
    }

    #[test]
    fn thinning_after_each_new_one_leaves_few_and_no_long_gap() {
        let mut kept: Vec<u64> = Vec::new();
        for at in 1..=1_000 {
            kept.insert(0, at);
            kept = thinned(&infos(kept.iter().copied()), None);
            let newest = kept[0];
            assert!(kept.len() <= 24, "{kept:?}");
            for pair in kept.windows(2) {
                assert!(pair[0] - pair[1] <= (newest - pair[0]).max(1), "{kept:?}");
            }
        }
    }
}
