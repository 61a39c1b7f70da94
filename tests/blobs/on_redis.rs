//! What only Redis can show.

use std::io::{self, Read};

use tasklog::log::{Blobs, StoreErrorKind};

use crate::{Harness, Redis};

impl Redis {
    /// The names of all keys, without the prefix.
    fn keys(&self) -> Vec<String> {
        let found: Vec<String> = self.server.run(&["KEYS", &format!("{}:*", self.prefix)]);
        let mut keys: Vec<_> = found.into_iter().map(|key| key[self.prefix.len() + 1..].to_owned()).collect();
        keys.sort();
        keys
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }
}

/// Reads some bytes, and then never again: the process is gone.
struct Killed(usize);

impl Read for Killed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            // Nobody is there to clean up.
            panic!("killed");
        }
        let length = into.len().min(self.0);
        self.0 -= length;
        Ok(length)
    }
}

#[test]
fn a_killed_put_is_not_listed_and_removed_by_a_later_one_once_it_is_old() {
    let redis = Redis::start();
    let killed = std::panic::catch_unwind(|| redis.place().put("a/b", &mut Killed(2_500_000)));
    assert!(killed.is_err());
    let left = redis.keys();
    assert_eq!(left.len(), 3, "two pieces and the note of them: {left:?}");
    let blobs = redis.place();
    assert!(blobs.list("").unwrap().is_empty());
    assert!(blobs.put("a/b", &mut &b"whole"[..]).unwrap(), "the name is free");
    assert_eq!(redis.keys().len(), 5, "it may still be at work");

    let uploads = redis.key("_blob_uploads");
    let noted: Vec<String> = redis.server.run(&["HGETALL", &uploads]);
    let _: i64 = redis.server.run(&["HSET", &uploads, &noted[0], "1 2"]);
    blobs.put("a/c", &mut &b"x"[..]).unwrap();
    let left = redis.keys();
    assert_eq!(left.len(), 3, "two blobs of one piece, and their list: {left:?}");
    assert_eq!(blobs.list("").unwrap().len(), 2);
}

#[test]
fn an_upload_whose_pieces_were_removed_does_not_become_a_blob() {
    struct Robbed<'r>(&'r Redis, usize);
    impl Read for Robbed<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.1 == 2 << 20 {
                let _: i64 = self.0.server.run(&["DEL", &self.0.key("_blob_uploads")]);
            }
            let length = into.len().min(self.1).min(4096);
            self.1 -= length;
            Ok(length)
        }
    }
    let redis = Redis::start();
    let error = redis.place().put("a/b", &mut Robbed(&redis, 3 << 20)).unwrap_err();
    assert!(error.to_string().contains("its pieces were removed meanwhile"), "{error}");
    assert!(redis.keys().is_empty(), "{:?}", redis.keys());
}

#[test]
fn a_lost_piece_is_an_error_that_names_it_and_no_shorter_blob() {
    let redis = Redis::start();
    let blobs = redis.place();
    blobs.put("a/b", &mut &vec![7; 2_500_000][..]).unwrap();
    let piece = redis.keys().into_iter().find(|key| key.ends_with(":1")).unwrap();
    let _: i64 = redis.server.run(&["DEL", &redis.key(&piece)]);
    assert_eq!(blobs.get("a/b", 0..9).unwrap().unwrap().len(), 9);
    let error = blobs.get("a/b", 0..2_000_000).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains(&piece), "{error}");
}

#[test]
fn a_key_of_a_wrong_type_in_the_way_is_named_and_nothing_is_left_behind() {
    let redis = Redis::start();
    let _: String = redis.server.run(&["SET", &redis.key("_blob_uploads"), "x"]);
    let error = redis.place().put("a/b", &mut &b"x"[..]).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert_eq!(redis.keys(), ["_blob_uploads"]);
}
