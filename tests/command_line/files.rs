//! Files and places that are not there, cannot be written, or hold what not everybody may see.

use crate::{
    register,
    support::program::{Store, names, run, tasklog},
};

#[test]
fn a_place_that_cannot_be_written_is_no_archive() {
    let store = Store::with(&[register("m-1")]);
    let nowhere = store.path().join("archive");
    for verb in [&["archive", "--to"][..], &["retention", "--archive"]] {
        let ended = store.run(verb.iter().map(AsRef::as_ref).chain([nowhere.as_os_str()]));
        ended.with(3).says(&["making folder", "archive"]);
        assert!(store.json(["retention"])[0]["archive"].is_null(), "{verb:?}");
    }
    let place = store.folder.path().join("archive");
    store
        .run(["archive".as_ref(), "--to".as_ref(), place.as_os_str()])
        .with(0)
        .prints(&["nothing is sealed yet: the log has 2 events, a segment 100,000 (--all seals what there is)"]);
    assert_eq!(names(&place), [""; 0]);
    store.run(["archive", "--verify"]).with(1).says(&["nothing is sealed there"]);
    store.run(["archive", "--all"]).with(0).prints(&["2 events in 1 new segments"]);
}

#[cfg(unix)]
fn mode(path: &std::path::Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
}

#[cfg(unix)]
#[test]
fn what_has_secrets_in_the_clear_is_for_its_owner_only() {
    let store = Store::with(&[register("m-1"), register("m-2")]);
    let checkpoint = store.folder.path().join("checkpoint");
    std::fs::write(&checkpoint, store.run(["checkpoint"]).with(0).out).unwrap();
    let kept = checkpoint.to_str().unwrap();
    let as_any_file = mode(&checkpoint);
    for (verb, expected) in [
        (&["backup", "--to"][..], 0o600),
        (&["export", "--show-sensitive", "--out"], 0o600),
        (&["prove", "1", "--out"], 0o600),
        (&["export", "--out"], as_any_file),
        (&["prove", "--consistency", kept, "--out"], as_any_file),
    ] {
        let to = store.folder.path().join(verb.join("-").replace('/', "-"));
        let run = || store.run(verb.iter().map(AsRef::as_ref).chain([to.as_os_str()]));
        run().with(0);
        assert_eq!(mode(&to), expected, "{verb:?}");
        // None of them is written over.
        run().with(1).says(&["already_exists", "is there already"]);
    }
}

#[test]
fn a_folder_is_no_store_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for verb in [&["apply"][..], &["info"], &["verify"]] {
        let mut command = tasklog();
        command.arg("--store").arg(format!("sqlite:{}", folder.path().display())).args(verb);
        run(command, b"").with(3).says(&["is a folder, not a store"]);
    }
    let beside = names(folder.path().parent().unwrap());
    let lock = format!("{}-lock", folder.path().file_name().unwrap().to_str().unwrap());
    assert!(!beside.contains(&lock));
}

#[test]
fn sqlites_name_for_memory_is_no_file() {
    let mut command = tasklog();
    command.args(["--store", "sqlite::memory:", "apply"]);
    run(command, b"").with(2).says(&["expected sqlite:PATH, memory:"]);
}

#[test]
fn an_option_of_a_url_stands_once() {
    let mut command = tasklog();
    command.args(["--store", "redis://127.0.0.1/0?prefix=a&prefix=b", "info"]);
    run(command, b"").with(2).says(&["option \"prefix\" stands twice"]);
}

#[test]
fn a_recording_is_not_written_over_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("day.ndjson");
    std::fs::write(&file, "mine").unwrap();
    let mut command = tasklog();
    command.args(["generate", "--commands", "10", "--out"]).arg(&file);
    run(command, b"").with(1).says(&["already_exists"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_checkpoint_says_whether_the_log_goes_on() {
    let store = Store::with(&[register("m-1")]);
    let checkpoint = store.folder.path().join("checkpoint");
    std::fs::write(&checkpoint, store.run(["checkpoint"]).with(0).out).unwrap();
    let against = || store.run(["verify".as_ref(), "--against".as_ref(), checkpoint.as_os_str()]).with(0);
    against().prints(&["events 1 to 1 are those of the checkpoint; the log ends there, in"]);
    store.apply(&[register("m-2")]).with(0);
    against().prints(&["the log goes on to event 2, in"]);
}
