//! The tree against the known vectors of RFC 6962 implementations, and against a naive tree that is nothing but the RFC's
//! definitions.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Memory, Writer, commit};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tasklog_log::{
    Position, leaf,
    merkle::{
        Frontier, Hash, Kept, MemoryTree, ProofError, Tree, catch_up, check_consistency, check_inclusion, leaf_hash,
    },
};

fn hex(text: &str) -> Hash {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    Hash(std::array::from_fn(|at| byte(2 * at)))
}

/// The leaves of the test data of Certificate Transparency.
const LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];
/// The roots of the first 0 to 8 of them.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
/// Leaf index, tree size, audit path.
const INCLUSION: [(u64, u64, &[&str]); 3] = [
    (0, 1, &[]),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
];
/// Old size, size, proof.
const CONSISTENCY: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

/// The definitions of RFC 6962, section 2.1, word by word.
mod naive {
    use super::*;

    fn split(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }

    pub fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash(Sha256::digest([]).into()),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(split(many.len()));
                let bytes = [&[1][..], &root(left).0, &root(right).0].concat();
                Hash(Sha256::digest(bytes).into())
            }
        }
    }

    pub fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut path, sibling) = if m < k { (path(m, left), right) } else { (path(m - k, right), left) };
        path.push(root(sibling));
        path
    }

    pub fn proof(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        subproof(m, leaves, true)
    }

    fn subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { Vec::new() } else { vec![root(leaves)] };
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut proof, sibling) =
            if m <= k { (subproof(m, left, whole), right) } else { (subproof(m - k, right, false), left) };
        proof.push(root(sibling));
        proof
    }
}

#[test]
fn the_known_roots() {
    let hashes: Vec<_> = LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect();
    for (size, root) in ROOTS.iter().enumerate() {
        let frontier: Frontier = hashes[..size].iter().copied().collect();
        assert_eq!(frontier.root(), hex(root), "{size} leaves");
        assert_eq!(naive::root(&hashes[..size]), hex(root), "{size} leaves");
    }
}

#[test]
fn the_known_proofs() {
    let hashes: Vec<_> = LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect();
    for (index, size, path) in INCLUSION {
        let path: Vec<_> = path.iter().map(|hash| hex(hash)).collect();
        assert_eq!(naive::path(index as usize, &hashes[..size as usize]), path);
        check_inclusion(index, size, &hashes[index as usize], &path, &hex(ROOTS[size as usize])).unwrap();
    }
    for (old, size, proof) in CONSISTENCY {
        let proof: Vec<_> = proof.iter().map(|hash| hex(hash)).collect();
        assert_eq!(naive::proof(old as usize, &hashes[..size as usize]), proof);
        check_consistency(old, size, &proof, &hex(ROOTS[old as usize]), &hex(ROOTS[size as usize])).unwrap();
    }
}

/// A log of `sizes.sum()` events, in commits of these sizes, and the hashes of its leaves.
fn log(sizes: &[usize]) -> (Writer<Memory>, Vec<Hash>) {
    let mut writer = Writer::<Memory>::open();
    let mut number = 0;
    for size in sizes {
        let keys: Vec<String> = (0..*size).map(|at| format!("k{}", number + at)).collect();
        number += size;
        let writes: Vec<_> = keys.iter().map(|key| (&**key, 0)).collect();
        writer.append(&[commit(&writes)]);
    }
    let all = writer.all();
    let leaves = all
        .iter()
        .flat_map(|commit| commit.events.iter().map(|event| leaf_hash(&leaf(&commit.meta, commit.recorded_at, event))));
    let leaves = leaves.collect();
    (writer, leaves)
}

/// Around every border of chunks and of powers of two.
const SIZES: [u64; 24] =
    [0, 1, 2, 3, 5, 7, 8, 100, 127, 128, 200, 255, 256, 257, 300, 511, 512, 513, 600, 767, 768, 769, 800, 810];

#[test]
fn roots_and_proofs_of_a_log_are_those_of_the_naive_tree() {
    // Commits that end on, before and after the borders of chunks, one of them longer than a chunk.
    let (mut writer, leaves) = log(&[1, 2, 3, 100, 150, 1, 43, 270, 198, 1, 40, 1]);
    let log = writer.log();
    let kept = MemoryTree::default();
    catch_up(&*log, &kept, 600, &|| false).unwrap();
    for kept in [Kept::default(), Kept::load(&kept).unwrap()] {
        let tree = Tree::open(&*log, kept).unwrap();
        for size in SIZES {
            let root = tree.root(size).unwrap();
            assert_eq!(root, naive::root(&leaves[..size as usize]), "{size} events");
            for old in SIZES.into_iter().filter(|old| *old <= size) {
                let proof = tree.consistency(old, size).unwrap();
                if old > 0 {
                    assert_eq!(proof, naive::proof(old as usize, &leaves[..size as usize]), "{old} to {size}");
                    let position = Position(old);
                    let path = tree.inclusion(position, size).unwrap();
                    assert_eq!(path, naive::path(old as usize - 1, &leaves[..size as usize]), "{old} of {size}");
                    let leaf = tree.leaf(position).unwrap();
                    assert_eq!(leaf, leaves[old as usize - 1]);
                    check_inclusion(old - 1, size, &leaf, &path, &root).unwrap();
                }
                check_consistency(old, size, &proof, &tree.root(old).unwrap(), &root).unwrap();
            }
        }
        assert!(tree.root(811).is_err());
        assert!(tree.inclusion(Position(0), 5).is_err());
        assert!(tree.inclusion(Position(6), 5).is_err());
        assert!(tree.consistency(6, 5).is_err());
    }
}

fn hashes(count: u64) -> Vec<Hash> {
    (0..count).map(|at| leaf_hash(&at.to_be_bytes())).collect()
}

#[test]
fn every_proof_of_small_trees_is_accepted_and_no_changed_one() {
    for size in 1..=40_u64 {
        let leaves = hashes(size);
        let root = naive::root(&leaves);
        let frontier: Frontier = leaves.iter().copied().collect();
        assert_eq!(frontier.root(), root);
        for at in 0..size {
            let path = naive::path(at as usize, &leaves);
            let leaf = leaves[at as usize];
            check_inclusion(at, size, &leaf, &path, &root).unwrap();
            for wrong in (0..size).filter(|wrong| *wrong != at) {
                assert!(check_inclusion(wrong, size, &leaf, &path, &root).is_err(), "{at} as {wrong} of {size}");
            }
            assert!(check_inclusion(at, size, &leaf, &[&path[..], &[root]].concat(), &root).is_err());
            if let Some((_, short)) = path.split_last() {
                assert!(check_inclusion(at, size, &leaf, short, &root).is_err());
            }
            let (old, old_root) = (at + 1, naive::root(&leaves[..=at as usize]));
            let proof = naive::proof(old as usize, &leaves);
            check_consistency(old, size, &proof, &old_root, &root).unwrap();
            assert!(check_consistency(old, size, &[&proof[..], &[root]].concat(), &old_root, &root).is_err());
            if let Some((_, short)) = proof.split_last() {
                assert!(check_consistency(old, size, short, &old_root, &root).is_err());
            }
            assert!(check_consistency(old, size, &proof, &leaf_hash(b"other"), &root).is_err());
        }
    }
    let out = check_inclusion(3, 3, &leaf_hash(b""), &[], &Hash::of_nothing());
    assert!(matches!(out, Err(ProofError::OutOfRange { .. })));
    assert!(check_consistency(4, 3, &[], &leaf_hash(b""), &leaf_hash(b"")).is_err());
}

proptest! {
    #[test]
    fn a_changed_hash_of_a_proof_is_refused(size in 2_u64..700, at in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), bit in 0_usize..256) {
        let leaves = hashes(size);
        let root = naive::root(&leaves);
        let at = at.index(size as usize) as u64;
        let flip = |proof: &[Hash]| {
            let mut proof = proof.to_vec();
            let index = which.index(proof.len());
            proof[index].0[bit / 8] ^= 1 << (bit % 8);
            proof
        };
        let path = naive::path(at as usize, &leaves);
        prop_assert!(check_inclusion(at, size, &leaves[at as usize], &path, &root).is_ok());
        prop_assert!(check_inclusion(at, size, &leaves[at as usize], &flip(&path), &root).is_err());
        let proof = naive::proof(at as usize + 1, &leaves);
        let old_root = naive::root(&leaves[..=at as usize]);
        prop_assert!(check_consistency(at + 1, size, &proof, &old_root, &root).is_ok());
        if !proof.is_empty() {
            prop_assert!(check_consistency(at + 1, size, &flip(&proof), &old_root, &root).is_err());
        }
    }
}
