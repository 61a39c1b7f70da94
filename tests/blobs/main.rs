//! What every place of blobs promises: one suite, each case on each place.
//!
//! A place joins with a `Harness` and one line in `places!`. A case joins with its name in `each_case!`; one that is
//! forgotten there is dead code, and the compiler says so.
#![allow(clippy::unwrap_used, missing_docs)]

mod cases;
mod on_dir;
mod on_redis;

use std::sync::Arc;

use object_store::memory::InMemory;
use tasklog::{
    blobs::{DirBlobs, ObjectBlobs, RedisBlobs},
    log::{Blobs, MemoryBlobs},
};
use tasklog_testing::RedisServer;
use tempfile::TempDir;

/// One place, and further handles of it.
pub trait Harness: Sized {
    fn start() -> Self;
    fn blobs(&self) -> Arc<dyn Blobs>;
}

pub struct Memory(Arc<MemoryBlobs>);

impl Harness for Memory {
    fn start() -> Self {
        Self(Arc::default())
    }

    fn blobs(&self) -> Arc<dyn Blobs> {
        self.0.clone()
    }
}

pub struct Dir(TempDir);

impl Harness for Dir {
    fn start() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(DirBlobs::new(self.0.path().join("not/there/yet")))
    }
}

/// An object store; this one is in memory.
pub struct Objects(Arc<dyn Blobs>);

impl Harness for Objects {
    fn start() -> Self {
        let place = ObjectBlobs::new(Arc::new(InMemory::new()), "folder/below".into(), "memory:///folder/below");
        Self(Arc::new(place.unwrap()))
    }

    fn blobs(&self) -> Arc<dyn Blobs> {
        self.0.clone()
    }
}

/// A prefix of its own on a server that all tests share.
pub struct Redis {
    pub server: Arc<RedisServer>,
    pub prefix: String,
}

impl Redis {
    pub fn place(&self) -> RedisBlobs {
        RedisBlobs::new(&format!("{}?prefix={}", self.server.url(), self.prefix).parse().unwrap())
    }
}

impl Harness for Redis {
    fn start() -> Self {
        Self { server: RedisServer::shared(), prefix: uuid::Uuid::now_v7().to_string() }
    }

    fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(self.place())
    }
}

macro_rules! each_case {
    ($place:ty: $($case:ident,)*) => {
        $(#[test]
        fn $case() {
            crate::cases::$case(&<$place as crate::Harness>::start());
        })*
    };
}

macro_rules! places {
    ($($module:ident: $place:ty,)*) => {
        $(mod $module {
            each_case! {
                $place:
                a_blob_is_listed_and_read_back_in_any_range,
                a_blob_is_never_replaced,
                of_two_writers_of_one_name_one_wins,
                names_are_listed_in_order_and_by_their_beginning,
                a_put_whose_content_fails_leaves_nothing,
                what_is_not_there_is_none,
                a_removed_blob_is_gone_and_its_name_is_free,
                an_empty_blob_is_there,
                a_large_blob_comes_back_as_it_was,
            }
        })*
    };
}

places! {
    memory: crate::Memory,
    dir: crate::Dir,
    objects: crate::Objects,
    redis: crate::Redis,
}
