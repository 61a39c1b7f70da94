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

/// Runs the commands of a page's `console` blocks in one folder, and gives the page with what they print.
fn run_blocks(page: &str, folder: &std::path::Path) -> String {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_tasklog")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(binary.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let mut made = String::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) if !line.starts_with("$ ") => continue,
            _ => {}
        }
        made.push_str(line);
        made.push('\n');
        if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec 2>&1; {command}")]).current_dir(folder).env("PATH", &path);
            shell.env_remove("TASKLOG_STORE").env_remove("TASKLOG_LOG").env_remove("CLICOLOR_FORCE");
            made.push_str(&String::from_utf8(shell.output().unwrap().stdout).unwrap());
        }
    }
    made
}

/// The page walks through one incident with real output: `UPDATE_DOCS=1 cargo test --test docs` writes what the program
/// prints now.
#[test]
fn the_incident_in_the_docs_prints_what_the_page_says() {
    let file = project("docs/time-travel.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("examples")).unwrap();
    let example = "examples/incident.ndjson";
    std::fs::copy(project(example), folder.path().join(example)).unwrap();
    let made = run_blocks(&page, folder.path());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &made).unwrap();
        return;
    }
    for (said, printed) in page.lines().zip(made.lines()) {
        assert_eq!(said, printed, "make it anew: UPDATE_DOCS=1 cargo test --test docs");
    }
    assert_eq!(page, made);
}
