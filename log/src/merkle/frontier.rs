use super::{Hash, node_hash};

/// The right edge of a growing tree: the roots of its complete subtrees, the largest first. All that is needed to go on,
/// and to tell the root, in as many hashes as the number of leaves has bits.
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    subtrees: Vec<Hash>,
    leaves: u64,
}

impl Frontier {
    /// A tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many leaves it has. They may stand for subtrees, if those are all of one size.
    #[must_use]
    pub const fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Adds the hash of the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // As many complete subtrees end here as the number of leaves had ones at its end.
        for _ in 0..self.leaves.trailing_ones() {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node_hash(&left, &hash);
        }
        self.subtrees.push(hash);
        self.leaves += 1;
    }

    /// Adds a smaller tree at the right end; nothing may follow it.
    pub(super) fn push_last(&mut self, root: Hash) {
        self.subtrees.push(root);
    }

    /// The root of what was added so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let joined = self.subtrees.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        joined.unwrap_or_else(Hash::of_nothing)
    }
}

impl Extend<Hash> for Frontier {
    fn extend<T: IntoIterator<Item = Hash>>(&mut self, leaves: T) {
        for leaf in leaves {
            self.push(leaf);
        }
    }
}

impl FromIterator<Hash> for Frontier {
    fn from_iter<T: IntoIterator<Item = Hash>>(leaves: T) -> Self {
        let mut frontier = Self::new();
        frontier.extend(leaves);
        frontier
    }
}
