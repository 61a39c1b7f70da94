//! What the documentation shows is what the program prints.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

fn project(file: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn tasklog(args: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_tasklog")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_catalogue_in_the_docs_is_the_programs() {
    let page = std::fs::read_to_string(project("docs/catalogue.md")).unwrap();
    let made = String::from_utf8(tasklog(&["commands", "--markdown"])).unwrap();
    assert_eq!(page, made, "make it anew: tasklog commands --markdown > docs/catalogue.md");
}

#[test]
fn the_recorded_day_is_what_the_generator_makes() {
    let day = std::fs::read(project("examples/day.ndjson")).unwrap();
    let made = tasklog(&["generate", "--seed", "42", "--commands", "20000"]);
    assert!(day == made, "make it anew: tasklog generate --seed 42 --commands 20000 --out examples/day.ndjson");
}

#[test]
fn the_recorded_day_covers_every_table_and_stays_small() {
    let day = std::fs::read_to_string(project("examples/day.ndjson")).unwrap();
    assert!(day.len() < 4_000_000, "{} bytes", day.len());
    assert!(day.lines().count() >= 20_000);
    for side in tasklog::tables::SIDES {
        for command in side.commands {
            assert!(day.contains(&format!("\"{}\"", command.name)), "no {} in the recorded day", command.name);
        }
    }
}
