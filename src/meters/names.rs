use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// How many values of a label that users choose are told apart; those that come later are counted together as `other`.
pub const NAMES_MAX: usize = 200;
/// See [`NAMES_MAX`].
pub(crate) const OTHER: &str = "other";

/// Metrics with a label that users choose: the number of its values is bounded.
///
/// The lock is taken by what happens rarely (flips, rollovers, canary runs), and never by a client's write.
pub(super) struct Names<M> {
    metrics: M,
    known: Mutex<BTreeSet<String>>,
}

impl<M> Names<M> {
    pub(super) fn new(metrics: M) -> Self {
        Self { metrics, known: Mutex::default() }
    }

    /// Lends the metrics with the label's value for `name`.
    pub(super) fn of(&self, name: &str, count: impl FnOnce(&M, &str)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        count(&self.metrics, bounded(&mut known, name));
    }
}

/// `name`, if it is known or there is room for it.
pub(super) fn bounded<'n>(known: &mut BTreeSet<String>, name: &'n str) -> &'n str {
    if known.contains(name) {
        return name;
    }
    if known.len() == NAMES_MAX {
        return OTHER;
    }
    known.insert(name.to_owned());
    name
}
