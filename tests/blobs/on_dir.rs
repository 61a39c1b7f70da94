//! What only a folder can show.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use tasklog::{
    blobs::DirBlobs,
    log::{Blobs, StoreErrorKind},
};

#[test]
fn a_read_only_folder_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut permissions = fs::metadata(folder.path()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(folder.path(), permissions.clone()).unwrap();
    let blobs = DirBlobs::new(folder.path());
    let error = blobs.put("snapshots/a", &mut &b"x"[..]).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly);
    assert!(error.to_string().contains("is read-only"), "{error}");
    assert!(error.to_string().contains(&*folder.path().display().to_string()), "{error}");
    assert!(blobs.list("").unwrap().is_empty());
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    fs::set_permissions(folder.path(), permissions).unwrap();
}

/// A process that was killed while it wrote.
#[test]
fn half_a_file_is_not_listed_and_removed_by_a_later_put_once_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = DirBlobs::new(folder.path());
    blobs.put("a/whole", &mut &b"x"[..]).unwrap();
    for (name, age) in [("old", 2 * 60 * 60), ("new", 60)] {
        let path = folder.path().join(format!("a/.incomplete-{name}"));
        fs::write(&path, "half").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    assert_eq!(blobs.list("").unwrap().len(), 1);
    blobs.put("a/next", &mut &b"x"[..]).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(folder.path().join("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".incomplete-new", "next", "whole"]);
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = DirBlobs::new(folder.path().join("in"));
    for name in ["../out", "a/../../out", "/tmp/out", "", "a//b", ".hidden", "a\\b", "a b", &"a".repeat(300)] {
        assert!(blobs.put(name, &mut &b"x"[..]).is_err(), "{name:?}");
        assert!(blobs.get(name, 0..9).is_err(), "{name:?}");
        assert!(blobs.delete(name).is_err(), "{name:?}");
    }
}
