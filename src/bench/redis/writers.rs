use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use tasklog_log::{
    StoreError,
    redis::{PASSWORD_VARIABLE, RedisUrl},
};

use super::Scratch;
use crate::{
    Error, OpenOptions, StoreUrl, TaskStore,
    bench::{
        Figure, Plan, ROUNDS, median, rate,
        workload::{TASK_EVENTS, ids},
        writes::{CALLERS, callers, runtime},
    },
};

/// Processes that write at once.
const PROCESSES: usize = 4;
/// Lives of each caller, per round.
const LIVES_PER_CALLER: usize = 30;

/// Four processes of 64 callers each, on entities of their own, against one process of 256 callers.
pub(super) fn writers(_: &Plan, server: &RedisUrl, _: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let events = (CALLERS * LIVES_PER_CALLER) as u64 * TASK_EVENTS;
    let (mut ratios, mut several, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let alone = rate(events, processes(server, 1)?);
        let shared = rate(events, processes(server, PROCESSES)?);
        ratios.push(shared / alone);
        several.push(shared);
        single.push(alone);
    }
    tell(Figure::at_least("writers_ratio", median(ratios), 0.80));
    tell(Figure::plain("writers_events_per_s", median(several)));
    tell(Figure::plain("writers_one_process_events_per_s", median(single)));
    Ok(())
}

/// Starts processes, lets them open the store, and measures from the word "go" to the last "done".
fn processes(server: &RedisUrl, count: usize) -> Result<std::time::Duration, Error> {
    let scratch = Scratch::new(server, "procs");
    let mut workers =
        (0..count).map(|_| Worker::start(&scratch.url, CALLERS / count)).collect::<Result<Vec<_>, _>>()?;
    for worker in &mut workers {
        worker.expect("ready")?;
    }
    let began = Instant::now();
    for worker in &mut workers {
        worker.say("go")?;
    }
    for worker in &mut workers {
        worker.expect("done")?;
    }
    let took = began.elapsed();
    for mut worker in workers {
        worker.say("end")?;
        worker.process.wait().map_err(|error| lost(error.to_string()))?;
    }
    Ok(took)
}

fn lost(why: String) -> Error {
    StoreError::unavailable(format!("a worker of the bench: {why}")).into()
}

struct Worker {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn start(url: &RedisUrl, callers: usize) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(|error| lost(error.to_string()))?;
        // The password goes through the environment, which other users do not see.
        let shown = RedisUrl { password: None, ..url.clone() };
        let mut command = Command::new(program);
        command.args(["--store", &shown.to_string(), "bench", "--worker", &callers.to_string()]);
        if let Some(password) = &url.password {
            command.env(PASSWORD_VARIABLE, password.reveal());
        }
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| lost(error.to_string()))?;
        let said = process.stdout.take().ok_or_else(|| lost("it has no output".into()))?;
        Ok(Self { process, said: BufReader::new(said) })
    }

    fn expect(&mut self, word: &str) -> Result<(), Error> {
        let mut line = String::new();
        self.said.read_line(&mut line).map_err(|error| lost(error.to_string()))?;
        if line.trim() == word { Ok(()) } else { Err(lost(format!("expected {word:?}, it said {line:?}"))) }
    }

    fn say(&mut self, word: &str) -> Result<(), Error> {
        let input = self.process.stdin.as_mut().ok_or_else(|| lost("it has no input".into()))?;
        writeln!(input, "{word}").map_err(|error| lost(error.to_string()))
    }
}

/// The other side of [`Worker`]: what `bench --worker` does.
///
/// # Errors
/// The store's.
pub(crate) fn work(url: &StoreUrl, count: usize) -> Result<(), Error> {
    let store = TaskStore::open_with(url, OpenOptions::default())?;
    let runtime = runtime()?;
    let ids = ids(count * LIVES_PER_CALLER);
    let mut lines = std::io::stdin().lines();
    println!("ready");
    let _ = lines.next();
    runtime.block_on(callers(&store, &ids, count))?;
    println!("done");
    let _ = lines.next();
    Ok(())
}
