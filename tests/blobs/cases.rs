//! The cases.

use std::{
    io::{self, Read},
    thread,
};

use tasklog::log::{BlobReader, Blobs};

use crate::Harness;

fn names(blobs: &dyn Blobs, prefix: &str) -> Vec<String> {
    blobs.list(prefix).unwrap().into_iter().map(|blob| blob.name).collect()
}

/// So many bytes that are not the same everywhere.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8 ^ (at / 251) as u8).collect()
}

pub fn a_blob_is_listed_and_read_back_in_any_range(at: &impl Harness) {
    let blobs = at.blobs();
    assert!(blobs.put("snapshots/a-1.tls", &mut &b"0123456789"[..]).unwrap());
    let listed = at.blobs().list("").unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&*listed[0].name, listed[0].bytes), ("snapshots/a-1.tls", 10));
    for (range, expected) in
        [(0..10, "0123456789"), (2..5, "234"), (8..99, "89"), (10..12, ""), (50..60, ""), (5..5, "")]
    {
        let read = blobs.get("snapshots/a-1.tls", range.clone()).unwrap().unwrap();
        assert_eq!(read, expected.as_bytes(), "{range:?}");
    }
    assert_eq!(blobs.get("snapshots/a-1.tls", 0..u64::MAX).unwrap().unwrap().len(), 10);
}

pub fn a_blob_is_never_replaced(at: &impl Harness) {
    let blobs = at.blobs();
    assert!(blobs.put("a/b", &mut &b"first"[..]).unwrap());
    assert!(!at.blobs().put("a/b", &mut &b"second"[..]).unwrap());
    assert_eq!(blobs.get("a/b", 0..99).unwrap().unwrap(), b"first");
    assert_eq!(names(&*blobs, ""), ["a/b"]);
}

pub fn of_two_writers_of_one_name_one_wins(at: &impl Harness) {
    let won: Vec<bool> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4u8)
            .map(|writer| {
                let blobs = at.blobs();
                scope.spawn(move || blobs.put("a/b", &mut &vec![writer; 3_000_000][..]).unwrap())
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let winner = won.iter().position(|won| *won).unwrap() as u8;
    let kept = at.blobs().get("a/b", 0..u64::MAX).unwrap().unwrap();
    assert!(kept.len() == 3_000_000 && kept.iter().all(|byte| *byte == winner));
}

pub fn names_are_listed_in_order_and_by_their_beginning(at: &impl Harness) {
    let blobs = at.blobs();
    for name in ["b/2", "a/b-1", "a/b", "b/10", "a.b", "snapshots/x/y", "B"] {
        assert!(blobs.put(name, &mut &b"x"[..]).unwrap(), "{name}");
    }
    assert_eq!(names(&*blobs, ""), ["B", "a.b", "a/b", "a/b-1", "b/10", "b/2", "snapshots/x/y"]);
    assert_eq!(names(&*blobs, "a/"), ["a/b", "a/b-1"]);
    assert_eq!(names(&*blobs, "a/b-"), ["a/b-1"]);
    assert_eq!(names(&*blobs, "snap"), ["snapshots/x/y"]);
    assert!(names(&*blobs, "c").is_empty());
}

pub fn a_put_whose_content_fails_leaves_nothing(at: &impl Harness) {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the source broke"))
        }
    }
    let blobs = at.blobs();
    let mut content = io::Cursor::new(vec![7; 2_500_000]).chain(Failing);
    let error = blobs.put("a/b", &mut content).unwrap_err();
    assert!(error.full().contains("the source broke"), "{}", error.full());
    assert!(names(&*blobs, "").is_empty());
    assert!(blobs.put("a/b", &mut &b"whole"[..]).unwrap());
    assert_eq!(blobs.get("a/b", 0..99).unwrap().unwrap(), b"whole");
}

pub fn what_is_not_there_is_none(at: &impl Harness) {
    let blobs = at.blobs();
    assert!(names(&*blobs, "").is_empty());
    assert_eq!(blobs.get("a/b", 0..9).unwrap(), None);
    blobs.delete("a/b").unwrap();
    blobs.put("a", &mut &b"x"[..]).unwrap();
    assert_eq!(blobs.get("a/b", 0..9).unwrap(), None);
}

pub fn a_removed_blob_is_gone_and_its_name_is_free(at: &impl Harness) {
    let blobs = at.blobs();
    blobs.put("a/b", &mut &bytes(2_000_000)[..]).unwrap();
    blobs.put("a/c", &mut &b"x"[..]).unwrap();
    blobs.delete("a/b").unwrap();
    blobs.delete("a/b").unwrap();
    assert_eq!(blobs.get("a/b", 0..9).unwrap(), None);
    assert_eq!(names(&*blobs, ""), ["a/c"]);
    assert!(blobs.put("a/b", &mut &b"again"[..]).unwrap());
    assert_eq!(blobs.get("a/b", 0..9).unwrap().unwrap(), b"again");
}

pub fn an_empty_blob_is_there(at: &impl Harness) {
    let blobs = at.blobs();
    assert!(blobs.put("a/b", &mut io::empty()).unwrap());
    assert_eq!(blobs.list("a").unwrap()[0].bytes, 0);
    assert_eq!(blobs.get("a/b", 0..9).unwrap(), Some(Vec::new()));
    blobs.delete("a/b").unwrap();
    assert!(names(&*blobs, "").is_empty());
}

pub fn a_large_blob_comes_back_as_it_was(at: &impl Harness) {
    let blobs = at.blobs();
    let content = bytes(3 * (1 << 20) + 17);
    assert!(blobs.put("a/b", &mut &content[..]).unwrap());
    let mut read = Vec::new();
    BlobReader::new(&*blobs, "a/b").read_to_end(&mut read).unwrap();
    assert!(read == content);
    for begin in [0, 1, (1 << 20) - 1, 1 << 20, 3 << 20] {
        let end = (begin + (1 << 20) + 2).min(content.len());
        let part = blobs.get("a/b", begin as u64..end as u64).unwrap().unwrap();
        assert!(part == content[begin..end], "from {begin}");
    }
}
