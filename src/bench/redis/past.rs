use std::{path::Path, time::Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tasklog_log::{archive::Sealing, redis::RedisUrl};

use super::{
    super::{Figure, Plan, as_of, past::fill, rate, upkeep},
    Scratch,
};
use crate::{Error, OpenOptions, TaskStore};

/// What is measured of the past of a file, of one in Redis; printed beside the others, without their aims. Tree and snapshots
/// are not kept in the background, so that each is measured by itself.
pub(super) fn past(plan: &Plan, server: &RedisUrl, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let mut tell = |figure: Figure| tell(Figure { aim: None, ..figure });
    let scratch = Scratch::new(server, "past");
    let options = OpenOptions { snapshot_every: 0, keep_tree: false, ..OpenOptions::default() };
    let filled = fill(plan.events, TaskStore::open_with(&scratch.store_url(), options)?, &mut tell)?;
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    as_of::rows(&filled, &mut rng, &mut tell)?;
    as_of::histories(&filled, &mut rng, &mut tell)?;
    as_of::sql(&filled, &mut rng, &mut tell)?;
    let head = filled.store.head()?.0;

    let began = Instant::now();
    filled.store.keep_tree()?;
    tell(Figure::plain("merkle_kept_events_per_s", rate(head, began.elapsed())));

    let to = folder.join("archive");
    let began = Instant::now();
    let how = Sealing { all: true, ..Sealing::default() };
    let manifest = filled.store.archive(&to.to_string_lossy(), &how, &mut |_| {})?;
    tell(Figure::plain("archive_to_events_per_s", rate(manifest.last().0, began.elapsed())));

    upkeep::verify(&filled.store, &mut tell)?;
    upkeep::append_during_snapshot(&filled.store, &mut tell)
}
