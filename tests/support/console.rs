//! Pages whose `console` blocks show what commands print: run, and compared.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A file of the project.
pub fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Runs the commands of a page's `console` blocks in one folder, and gives the page with what they print. `adapt` makes of a
/// command as the page has it what is run: where a service listens differs from run to run.
pub fn run_blocks(page: &str, folder: &Path, adapt: impl Fn(&str) -> String) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_tasklog")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(binary.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let mut made = String::new();
    let mut inside = false;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) if !line.starts_with("$ ") => continue,
            _ => {}
        }
        made.push_str(line);
        made.push('\n');
        let Some(first) = line.strip_prefix("$ ").filter(|_| inside) else { continue };
        let mut command = first.to_owned();
        while command.ends_with('\\')
            && let Some(more) = lines.next()
        {
            for text in [&mut made, &mut command] {
                text.push_str(more);
                text.push('\n');
            }
            command.truncate(command.len() - 1);
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec 2>&1; {}", adapt(&command))]).current_dir(folder).env("PATH", &path);
        shell.env_remove("TASKLOG_STORE").env_remove("TASKLOG_LOG").env_remove("CLICOLOR_FORCE");
        // No settings of the person who runs the tests.
        shell.env("CURL_HOME", folder);
        let printed = String::from_utf8(shell.output().unwrap().stdout).unwrap().replace("\r\n", "\n");
        made.push_str(&printed);
        if !printed.is_empty() && !printed.ends_with('\n') {
            made.push('\n');
        }
    }
    made
}

/// What a page says is what was made of it, line by line as `seen`. With `UPDATE_DOCS` in the environment the page becomes what
/// was made.
#[track_caller]
pub fn assert_prints(file: &Path, page: &str, made: &str, seen: impl Fn(&str) -> String) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file, made).unwrap();
        return;
    }
    for (said, printed) in page.lines().zip(made.lines()) {
        assert_eq!(seen(said), seen(printed), "make {} anew: UPDATE_DOCS=1 cargo test, and this test", file.display());
    }
    assert_eq!(page.lines().count(), made.lines().count());
}

/// A line without what differs from run to run: ids, digests, instants, durations, sizes of files.
pub fn steady(line: &str) -> String {
    // Of HTTP.
    if line.starts_with("date: ") {
        return "date: …".to_owned();
    }
    let words = line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !"-.:+/".contains(c));
    let mut made = String::new();
    let mut number_before = None;
    for word in words {
        let end =
            word.len() - word.chars().next_back().filter(|c| !c.is_ascii_alphanumeric()).map_or(0, char::len_utf8);
        let (text, gap) = word.split_at(end);
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let bare = text.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let id = bare.len() >= 32 && digits > 0;
        let time = digits >= 13;
        if matches!(text, "s" | "bytes" | "ms" | "events/s")
            && let Some(start) = number_before
        {
            made.truncate(start);
            made.push_str("… ");
        }
        let numeric = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        // `1,175,552` are three words and one number.
        number_before = numeric.then(|| number_before.filter(|_| made.ends_with(',')).unwrap_or(made.len()));
        made.push_str(if id || time { "…" } else { text });
        made.push_str(gap);
    }
    made
}
