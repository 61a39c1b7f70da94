//! A signal left a hidden copy of the store beside a backup or a fork, half an export under its final name, and no word from
//! `apply` how far it had come.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use crate::{
    register,
    support::program::{Ended, Store, names, tasklog},
};

/// Attempts to meet a process in the middle of its work.
const ATTEMPTS_MAX: usize = 200;

fn send(signal: &str, child: &Child) {
    // It may have ended by now.
    let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// A store that takes a while to copy.
fn full() -> Store {
    let store = Store::new();
    let day = store.folder.path().join("day.ndjson");
    let mut generate = tasklog();
    generate.args(["generate", "--seed", "3", "--commands", "6000", "--out"]).arg(&day);
    assert!(generate.stderr(Stdio::null()).status().unwrap().success());
    store.run(["apply".as_ref(), day.as_os_str()]);
    store
}

/// Runs a verb and sends it a signal once it has begun to write; again, until the signal came before the end.
fn met(store: &Store, signal: &str, verb: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    for attempt in 0..ATTEMPTS_MAX {
        let to = folder.path().join(format!("to{attempt}"));
        let last = verb.last().unwrap().replace("TO", to.to_str().unwrap());
        let mut command = store.command(verb[..verb.len() - 1].iter().copied().chain([&*last]));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let before = names(folder.path()).len();
        while names(folder.path()).len() == before && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        send(signal, &child);
        let ended: Ended = child.wait_with_output().unwrap().into();
        if ended.status == Some(0) {
            continue;
        }
        if signal == "-KILL" {
            let left = names(folder.path()).into_iter().filter(|name| name.starts_with(".to")).count();
            if left == 0 {
                continue;
            }
            // The next one of that name removes it, but for what is not begun yet.
            store.run(verb[..verb.len() - 1].iter().copied().chain([&*last])).with(0);
        }
        let expected: Vec<_> = (0..attempt + usize::from(signal == "-KILL")).map(|at| format!("to{at}")).collect();
        let left: Vec<_> = names(folder.path()).into_iter().filter(|name| !name.ends_with("-lock")).collect();
        let mut expected = expected;
        expected.sort();
        assert_eq!(left, expected, "{verb:?}: {ended:?}");
        return ended;
    }
    panic!("{verb:?} always ended before the signal");
}

#[test]
fn a_backup_a_fork_and_an_export_that_are_stopped_leave_nothing() {
    let store = full();
    for (verb, why) in [
        (&["backup", "--to", "TO"][..], "was stopped: nothing of it is left"),
        (&["fork", "--into", "sqlite:TO"], "the fork was stopped: nothing of it is left"),
        (&["export", "--show-sensitive", "--out", "TO"], "the export was stopped: nothing of it is left"),
    ] {
        for signal in ["-INT", "-TERM"] {
            met(&store, signal, verb).with(3).says(&[why]);
        }
    }
}

#[test]
fn what_a_killed_process_has_left_is_removed_by_the_next_one() {
    let store = full();
    for verb in [&["backup", "--to", "TO"][..], &["fork", "--into", "sqlite:TO"], &["export", "--out", "TO"]] {
        assert_eq!(met(&store, "-KILL", verb).status, None);
    }
}

#[test]
fn what_another_process_is_writing_is_left_alone() {
    let store = Store::with(&[register("m-1")]);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let other = folder.path().join(".to.incomplete-other");
    std::fs::create_dir(&other).unwrap();
    let in_use = std::fs::File::create(other.join("in-use")).unwrap();
    in_use.lock().unwrap();
    store.run(["backup".as_ref(), "--to".as_ref(), to.as_os_str()]).with(0);
    assert_eq!(names(folder.path()), [".to.incomplete-other", "to"]);
    in_use.unlock().unwrap();
    std::fs::remove_file(&to).unwrap();
    store.run(["backup".as_ref(), "--to".as_ref(), to.as_os_str()]).with(0);
    assert_eq!(names(folder.path()), ["to"]);
}

#[test]
fn apply_that_is_stopped_answers_what_it_has_sent_and_says_how_far_it_came() {
    for signal in ["-INT", "-TERM"] {
        let store = Store::new();
        let mut command = store.command(["apply"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The third line is not complete when the signal comes.
        let input = child.stdin.as_mut().unwrap();
        write!(input, "{}\n{}\n{}", register("m-1"), register("m-2"), &register("m-3")[..40]).unwrap();
        let answers: Vec<_> = {
            let out = BufReader::new(child.stdout.as_mut().unwrap());
            out.lines().take(2).map(Result::unwrap).collect()
        };
        assert!(answers.iter().all(|answer| answer.contains(r#""ok":true"#)), "{answers:?}");
        send(signal, &child);
        // Standard input stays open.
        let input = child.stdin.take();
        let ended: Ended = child.wait_with_output().unwrap().into();
        drop(input);
        let why = "stopped by a signal: lines 1 to 2 are answered, none after them was sent";
        ended.with(3).says(&["2 commands read and answered", why]);
        assert_eq!(store.json(["list", "tasks"]).len(), 2);
    }
}
