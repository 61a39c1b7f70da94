//! The service under load: a serving process, a loading process, and the library facade as the baseline of the same run.

mod load;
mod process;

use std::path::Path;

use serde_json::Value;
use tasklog_log::StoreError;

pub(crate) use self::load::{Load, load};
use self::process::{Loader, Served};
use super::{
    Figure, Plan, ROUNDS, median, rate,
    reads::fill,
    workload::{TASK_EVENTS, ids},
    writes::{CALLERS, callers, runtime, store},
};
use crate::{Error, OpenOptions, StoreUrl, TaskStore};

/// Connections at once.
const CONNECTIONS: [usize; 3] = [1, 64, 256];
/// Commands of a life.
const LIFE_COMMANDS: u64 = 4;
/// Lives of all connections together, per round.
const LIVES: usize = 5_120;
/// Lives of a lone connection, per round.
const LONE_LIVES: usize = 250;
/// Lives in the log that tails read.
const TAIL_LIVES: usize = 20_000;
/// Events that each of many tails reads.
const EVENTS_OF_MANY: u64 = 6_000;
/// Tails at once.
const TAILS: [usize; 2] = [1, 100];
const KIB: f64 = 1_024.0;

/// Measures the service, telling each figure as it is known.
///
/// # Errors
/// The store's, and what keeps a process from being started.
pub fn run(plan: &Plan, folder: &Path, mut tell: impl FnMut(Figure)) -> Result<(), Error> {
    type Group = fn(&Path, &mut dyn FnMut(Figure)) -> Result<(), Error>;
    let groups: [(&[&str], Group); 3] = [
        (&["http_idle_mb"], idle),
        (&["http_ratio", "http_commands_per_s"], commands),
        (&["http_tail_events_per_s", "http_tail_kb"], tails),
    ];
    for (names, group) in groups {
        if plan.only.as_ref().is_none_or(|only| names.iter().any(|name| name.contains(&**only))) {
            let folder = folder.join(names[0]);
            std::fs::create_dir_all(&folder)
                .map_err(|error| StoreError::unavailable_because("making a scratch folder", error))?;
            group(&folder, &mut tell)?;
        }
    }
    Ok(())
}

/// Memory of a service that nobody has asked anything.
fn idle(folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let served = Served::start(&folder.join("idle.db"))?;
    tell(Figure::at_most("http_idle_mb", served.resident_kib()? / KIB, 32.0));
    served.stop()
}

/// Commands, each a request, against the library facade with 256 callers.
fn commands(folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let facade = store(folder, "facade.db")?;
    let runtime = runtime()?;
    let all = ids(LIVES * ROUNDS);
    let served = Served::start(&folder.join("served.db"))?;
    let (mut ratios, mut facades) = (Vec::new(), Vec::new());
    let mut over: [Vec<[f64; 3]>; CONNECTIONS.len()] = Default::default();
    for ids in all.chunks(LIVES) {
        let began = std::time::Instant::now();
        runtime.block_on(callers(&facade, ids, CALLERS))?;
        let base = rate(LIVES as u64 * LIFE_COMMANDS, began.elapsed());
        facades.push(base);
        for (measured, connections) in over.iter_mut().zip(CONNECTIONS) {
            let lives = if connections == 1 { LONE_LIVES } else { LIVES };
            let told = Loader::start(
                &served.address,
                &["--connections", &connections.to_string(), "--lives", &lives.to_string()],
            )?
            .done()?;
            let number = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
            measured.push([number("commands_per_s"), number("p50_us"), number("p99_us")]);
            if connections == CALLERS {
                ratios.push(number("commands_per_s") / base);
            }
        }
    }
    tell(Figure::at_least("http_ratio", median(ratios), 0.25));
    tell(Figure::plain("facade_commands_per_s", median(facades)));
    for (measured, connections) in over.iter().zip(CONNECTIONS) {
        for (at, unit) in ["commands_per_s", "p50_us", "p99_us"].into_iter().enumerate() {
            let values = measured.iter().map(|one| one[at]).collect();
            tell(Figure::plain(format!("http_{connections}_{unit}"), median(values)));
        }
    }
    served.stop()
}

/// Live tails that begin at the first event, and what a tail that waits for news costs.
fn tails(folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let path = folder.join("tails.db");
    let store = TaskStore::open_with(&StoreUrl::Sqlite(path.clone()), OpenOptions::default())?;
    fill(&store, &ids(TAIL_LIVES))?;
    drop(store);
    let served = Served::start(&path)?;
    for tails in TAILS {
        let events = if tails == 1 { TAIL_LIVES as u64 * TASK_EVENTS } else { EVENTS_OF_MANY };
        let loader =
            Loader::start(&served.address, &["--tails", &tails.to_string(), "--tail-events", &events.to_string()])?;
        let told: Value = loader.done()?;
        tell(Figure::plain(
            format!("http_tail_events_per_s_{tails}"),
            told["events_per_s"].as_f64().unwrap_or(f64::NAN),
        ));
    }
    // Those that only wait: they begin at the end.
    let before = served.resident_kib()?;
    let count = TAILS[1];
    let waiting = Loader::start(&served.address, &["--tails", &count.to_string(), "--tail-events", "0"])?.ready()?;
    tell(Figure::plain("http_tail_kb", (served.resident_kib()? - before).max(0.0) / count as f64));
    waiting.stop()?;
    served.stop()
}
