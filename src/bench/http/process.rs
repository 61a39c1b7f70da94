use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;
use tasklog_log::StoreError;

use crate::Error;

/// Lines that a service logs before it serves.
const LINES_MAX: usize = 100;

fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
    move |error| StoreError::unavailable_because(doing, error)
}

fn program() -> Result<Command, StoreError> {
    let mut command = Command::new(std::env::current_exe().map_err(failed("finding this program"))?);
    for name in ["TASKLOG_STORE", "TASKLOG_TOKEN", "TASKLOG_READ_TOKEN", "TASKLOG_SENSITIVE_TOKEN", "TASKLOG_LOG"] {
        command.env_remove(name);
    }
    Ok(command)
}

/// A serving process; killed when dropped.
pub(super) struct Served {
    child: Child,
    /// `IP:PORT`
    pub(super) address: String,
}

impl Served {
    /// Serves a file on a free port of the loopback interface.
    pub(super) fn start(path: &Path) -> Result<Self, Error> {
        let mut command = program()?;
        command.args(["--store", &format!("sqlite:{}", path.display()), "serve"]);
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed("starting the service"))?;
        let stderr = child.stderr.take().ok_or_else(|| StoreError::unavailable("the service has no standard error"))?;
        let mut served = Self { child, address: String::new() };
        let mut lines = BufReader::new(stderr).lines();
        for line in lines.by_ref().take(LINES_MAX) {
            let line = line.map_err(failed("reading what the service logs"))?;
            let logged: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(url) = logged["url"].as_str().and_then(|url| url.strip_prefix("http://")) {
                url.clone_into(&mut served.address);
            }
            if logged["message"].as_str().is_some_and(|message| message.starts_with("serving")) {
                // Nobody else reads them, and a full pipe would stop the service.
                thread::spawn(move || lines.for_each(drop));
                return Ok(served);
            }
        }
        Err(StoreError::unavailable("the service did not begin to serve").into())
    }

    /// What of it is in memory.
    pub(super) fn resident_kib(&self) -> Result<f64, Error> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).map_err(failed("reading the service's memory"))?;
        let found =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        found.ok_or_else(|| StoreError::unavailable("the service's status tells no VmRSS").into())
    }

    /// Ends it as a supervisor does, and waits until it has ended.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| StoreError::unavailable_because("stopping the service", error))?;
        let status = self.child.wait().map_err(failed("waiting for the service's end"))?;
        if status.success() { Ok(()) } else { Err(StoreError::unavailable(format!("the service: {status}")).into()) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // If it has ended, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that puts load on a service: says one line of JSON when it is done, and ends when its input does.
pub(super) struct Loader(Child);

impl Loader {
    pub(super) fn start(address: &str, args: &[&str]) -> Result<Self, Error> {
        let mut command = program()?;
        command.args(["bench", "--load", address]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(command.spawn().map_err(failed("starting the load"))?))
    }

    /// What it has measured.
    pub(super) fn done(mut self) -> Result<Value, Error> {
        let told = self.line()?;
        self.stop()?;
        Ok(told)
    }

    /// Waits until it is done, and lets it hold its connections.
    pub(super) fn ready(mut self) -> Result<Self, Error> {
        self.line()?;
        Ok(self)
    }

    fn line(&mut self) -> Result<Value, Error> {
        let out = self.0.stdout.take().ok_or_else(|| StoreError::unavailable("the load was read already"))?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map_err(failed("reading what the load has measured"))?;
        let said = format!("the load said {line:?}");
        serde_json::from_str(&line).map_err(|error| StoreError::unavailable_because(said, error).into())
    }

    pub(super) fn stop(mut self) -> Result<(), Error> {
        self.0.stdin = None;
        self.0.wait().map_err(failed("waiting for the load's end"))?;
        Ok(())
    }
}
