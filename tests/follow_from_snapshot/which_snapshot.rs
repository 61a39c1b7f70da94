//! Which snapshot a replica begins with, if it begins with one.

use std::{fs, path::Path};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    support::program::{Store, run},
    world::*,
};

#[test]
fn without_a_snapshot_and_without_the_flag_a_follower_begins_with_the_first_event() {
    let primary = source(20);
    let (one, other) = (Store::new(), Store::new());
    begin(&primary.url(), &one).with(0).says(&["no snapshot of the source can be used"]);
    snapshot(&primary);
    run(follow(&primary.url(), &other, &["--once"]), b"").with(0);
    for replica in [&one, &other] {
        assert_eq!(replica.dump(), primary.dump());
        assert_eq!(replica.json(["info"])[0]["began_with_snapshot"], json!(null));
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_the_next_older_one_with_a_warning() {
    let primary = source(100);
    let older = snapshot(&primary);
    primary.apply(&tail()).with(0);
    snapshot(&primary);
    let newest = snapshot_files(&primary).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let replica = Store::new();
    begin(&primary.url(), &replica).with(0).says(&["passing over a snapshot", "its digest does not match"]);
    assert_begun(&primary.url(), &replica, older);
}

/// What a program with other tables would have made: complete, with a digest that is right.
fn of_another_projection(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let trailer = bytes.len() - 48;
    let number = |at: usize, count: usize| bytes[at..at + count].iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let (place, compressed, raw) = (number(trailer, 8), number(trailer + 8, 4), number(trailer + 12, 4));
    let mut directory = zstd::bulk::decompress(&bytes[place..place + compressed], raw).unwrap();
    let name = b"projection_version";
    let at = directory.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    directory[at] += 1;
    let packed = zstd::bulk::compress(&directory, 3).unwrap();
    let mut changed = bytes[..place].to_vec();
    changed.extend(&packed);
    changed.extend((place as u64).to_be_bytes());
    changed.extend((packed.len() as u32).to_be_bytes());
    changed.extend((directory.len() as u32).to_be_bytes());
    let digest = Sha256::digest(&changed);
    changed.extend(digest);
    let position = path.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().0.to_owned();
    let name = format!("{position}-{}.tls", &hex::encode(digest)[..16]);
    fs::remove_file(path).unwrap();
    fs::write(path.with_file_name(name), changed).unwrap();
}

#[test]
fn a_snapshot_of_another_projection_version_is_not_begun_with() {
    let primary = source(100);
    let older = snapshot(&primary);
    primary.apply(&tail()).with(0);
    snapshot(&primary);
    of_another_projection(&snapshot_files(&primary).pop().unwrap());
    let replica = Store::new();
    begin(&primary.url(), &replica)
        .with(0)
        .says(&["passing over a snapshot", "is of projection 2, this program's is 1"]);
    assert_begun(&primary.url(), &replica, older);
}
