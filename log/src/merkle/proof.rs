use super::{Hash, node_hash};

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf, or no such older tree.
    #[error("a tree of {size} leaves has no {what}")]
    OutOfRange {
        /// What was asked for.
        what: String,
        /// Leaves of the tree.
        size: u64,
    },
    /// It has too many or too few hashes for these sizes.
    #[error("the proof has the wrong number of hashes: {found}")]
    Length {
        /// So many.
        found: usize,
    },
    /// Its hashes lead to another root.
    #[error("the proof leads to the {which} {found}, expected {expected}")]
    Root {
        /// `root`, or `root of the older tree`.
        which: &'static str,
        /// The root of the tree.
        expected: Hash,
        /// Where the proof leads.
        found: Hash,
    },
}

fn expect(which: &'static str, expected: &Hash, found: Hash) -> Result<(), ProofError> {
    if found == *expected { Ok(()) } else { Err(ProofError::Root { which, expected: *expected, found }) }
}

/// Checks that the leaf with this hash is leaf `index`, from 0, of the tree of `size` leaves with this root (RFC 9162,
/// 2.1.3.2).
///
/// # Errors
/// [`ProofError`]
pub fn check_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange { what: format!("leaf {index}"), size });
    }
    let length = || ProofError::Length { found: proof.len() };
    let mut walk = Walk { node: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in proof {
        if walk.last == 0 {
            return Err(length());
        }
        hash = if walk.is_right() { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
        walk.up();
    }
    if walk.last != 0 {
        return Err(length());
    }
    expect("root", root, hash)
}

/// Checks that the tree of `old_size` leaves is the beginning of the tree of `size` leaves (RFC 9162, 2.1.4.2).
///
/// # Errors
/// [`ProofError`]
pub fn check_consistency(
    old_size: u64,
    size: u64,
    proof: &[Hash],
    old_root: &Hash,
    root: &Hash,
) -> Result<(), ProofError> {
    const OLDER: &str = "root of the older tree";
    let length = || ProofError::Length { found: proof.len() };
    if old_size > size {
        return Err(ProofError::OutOfRange { what: format!("older tree of {old_size} leaves"), size });
    }
    if old_size == size || old_size == 0 {
        // Nothing is to be proved: equal trees have equal roots, and every tree begins with nothing.
        let same = if old_size == 0 { Hash::of_nothing() } else { *root };
        return if proof.is_empty() { expect(OLDER, old_root, same) } else { Err(length()) };
    }
    let mut walk = Walk { node: old_size - 1, last: size - 1 };
    walk.skip_right();
    // The older tree is one complete subtree exactly if there is nothing left of it; then its root begins the proof.
    let (begin, rest) = match proof.split_first() {
        _ if old_size.is_power_of_two() => (old_root, proof),
        Some((begin, rest)) => (begin, rest),
        None => return Err(length()),
    };
    let (mut older, mut hash) = (*begin, *begin);
    for sibling in rest {
        if walk.last == 0 {
            return Err(length());
        }
        if walk.is_right() {
            older = node_hash(sibling, &older);
            hash = node_hash(sibling, &hash);
        } else {
            hash = node_hash(&hash, sibling);
        }
        walk.up();
    }
    if walk.last != 0 {
        return Err(length());
    }
    expect(OLDER, old_root, older)?;
    expect("root", root, hash)
}

/// The way from a node to the root: its number, and that of the last node, on their level.
struct Walk {
    node: u64,
    last: u64,
}

impl Walk {
    /// Whether the sibling of the next step is on the left; a last node without one has risen to where it has one.
    fn is_right(&self) -> bool {
        self.node & 1 == 1 || self.node == self.last
    }

    fn up(&mut self) {
        if self.node == self.last {
            while self.node & 1 == 0 && self.node != 0 {
                self.shift();
            }
        }
        self.shift();
    }

    fn skip_right(&mut self) {
        while self.node & 1 == 1 {
            self.shift();
        }
    }

    fn shift(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }
}
