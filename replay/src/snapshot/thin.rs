use tasklog_log::{Log, StoreError};

use super::{SnapshotInfo, Snapshots};

/// So many of the newest ones always stay.
const NEWEST_KEPT: usize = 3;

impl Snapshots {
    /// Removes snapshots that are too close together: the newest three stay, and beyond them the distances double, so
    /// that few are left of a long log. The oldest one that the log goes on from stays as well: what a trim has removed is
    /// in it.
    ///
    /// # Errors
    /// `unavailable`; the log's.
    pub fn thin(&self, log: &dyn Log) -> Result<Vec<SnapshotInfo>, StoreError> {
        let infos = self.list()?;
        let start = log.first()?.before();
        let needed = infos.iter().rposition(|info| info.position >= start);
        let removed = superfluous(&infos, needed);
        for info in &removed {
            self.remove(info)?;
        }
        Ok(removed)
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
    use tasklog_log::Position;

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
