//! The program as a person or a script meets it: arguments in, exit status and output out.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

/// The program with a clean environment.
pub fn tasklog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasklog"));
    command.env_remove("TASKLOG_STORE").env_remove("TASKLOG_LOG").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command.stdin(Stdio::null());
    command
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; none if a signal ended it.
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ended {
    /// Asserts the exit status.
    #[track_caller]
    pub fn with(self, status: i32) -> Self {
        let end = |text: &str| text.char_indices().rev().nth(2_000).map_or(0, |(at, _)| at);
        let (out, err) = (&self.out[end(&self.out)..], &self.err[end(&self.err)..]);
        assert_eq!(self.status, Some(status), "exit status\nstdout: {out}\nstderr: {err}");
        self
    }

    /// Standard output as one JSON value per line.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// Asserts that standard error has every one of these texts.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "{text:?} is not in: {}", self.err);
        }
        self
    }

    /// Asserts that standard output has every one of these texts.
    #[track_caller]
    pub fn prints(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.out.contains(text), "{text:?} is not in: {}", self.out);
        }
        self
    }
}

/// Runs a command to its end, feeding it `input`.
pub fn run(mut command: Command, input: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = loop {
        match command.spawn() {
            // A copy of the program that another test's child still holds open from before its exec.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::sleep(Duration::from_millis(1)),
            spawned => break spawned.unwrap(),
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // A program that stops early does not read all of it.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap().into()
    })
}

/// A process of the program that is killed when the test ends.
pub struct Running(pub Child);

impl Running {
    /// The program with these arguments.
    pub fn start(args: &[&str]) -> Self {
        let mut command = tasklog();
        command.args(args);
        Self::of(command)
    }

    pub fn of(mut command: Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Reads its lines until one has `text`.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let out = BufReader::new(self.0.stdout.as_mut().unwrap());
        out.lines().map(Result::unwrap).find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}"))
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> Ended {
        let mut err = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let mut out = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        Ended { status: self.0.wait().unwrap().code(), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A store in a folder of its own, that goes when the test ends.
pub struct Store {
    pub folder: tempfile::TempDir,
}

impl Store {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A new store with these commands applied, one a line.
    pub fn with(lines: &[impl AsRef<str>]) -> Self {
        let store = Self::new();
        store.apply(lines).with(0);
        store
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("tasklog.db")
    }

    /// The path of a file that SQLite or the program keeps beside the store.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path().into_os_string();
        path.push(suffix);
        path.into()
    }

    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    /// The program on this store.
    pub fn command<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = tasklog();
        command.arg("--store").arg(self.url()).args(args);
        command
    }

    pub fn run<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Ended {
        run(self.command(args), b"")
    }

    /// `--json` output of a verb that must succeed.
    #[track_caller]
    pub fn json<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Vec<Value> {
        let mut command = self.command(args);
        command.arg("--json");
        run(command, b"").with(0).json()
    }

    pub fn apply(&self, lines: &[impl AsRef<str>]) -> Ended {
        let text: String = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect();
        self.apply_bytes(text.as_bytes())
    }

    pub fn apply_bytes(&self, input: &[u8]) -> Ended {
        run(self.command(["apply"]), input)
    }

    /// Everything in the log and in the tables, as text; but for the log's facts about itself.
    pub fn dump(&self) -> String {
        let log = self.run(["log", "--json", "--show-sensitive"]).with(0).out;
        let about_tables = |line: &&str| !line.contains("\"table\":\"_log\"");
        let mut text: String = log.lines().filter(about_tables).map(|line| format!("{line}\n")).collect();
        for table in tasklog::projections::TABLES {
            let rows = ["list", table.name, "--json", "--show-sensitive", "--limit", "1000000"];
            text.push_str(table.name);
            text.push('\n');
            text.push_str(&self.run(rows).with(0).out);
        }
        text
    }

    /// Opens the file beside the program, as a person with a database shell does.
    pub fn shell(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    /// Copies the file, to which nobody writes: all that its last writer left.
    pub fn back_up(&self, to: &Path) {
        self.shell().execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
    }

    /// Puts a copy in the place of the file.
    pub fn put_back(&self, from: &Path) {
        for suffix in ["-wal", "-shm"] {
            // A closed store has none.
            let _ = fs::remove_file(self.beside(suffix));
        }
        let beside = self.folder.path().join("restored.db");
        fs::copy(from, &beside).unwrap();
        fs::rename(&beside, self.path()).unwrap();
    }

    /// Changes the file by hand.
    pub fn by_hand(&self, sql: &str) {
        self.shell().execute_batch(sql).unwrap();
    }
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
