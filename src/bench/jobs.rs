use std::{
    path::Path,
    time::{Duration, Instant},
};

use tasklog_log::StoreError;
use tasklog_projections::Json;

use super::{Figure, Latencies, Plan, ROUNDS, median, rate, writes::store};
use crate::{
    Error, TaskStore,
    command::{AnyCommand, CommandOptions},
    engine::Request,
    tables::jobs::{ClaimNext, Complete, Enqueue},
};

/// Workers at once.
const WORKERS: usize = 16;
/// Jobs of each of them, per round.
const JOBS_PER_WORKER: usize = 500;
/// A queue that nobody would call long.
const BACKLOG_SMALL: usize = 1_000;
/// A long one.
const BACKLOG_LARGE: usize = 100_000;
/// Jobs taken from a backlog by each worker, per round; fewer than the small backlog in all.
const TAKEN_PER_WORKER: usize = 50;
/// Jobs per commit of the preparation.
const FILL: usize = 1_000;

/// Enqueue, claim, complete by 16 workers, every step durable.
pub(super) fn throughput(_: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let store = store(folder, "store.db")?;
    let mut rates = Vec::new();
    let mut latencies = Latencies(Vec::new());
    for _ in 0..ROUNDS {
        let (took, measured) = work(&store, JOBS_PER_WORKER, true)?;
        latencies.0.extend(measured);
        rates.push(rate((WORKERS * JOBS_PER_WORKER) as u64, took));
    }
    tell(Figure::at_least("jobs_per_s", median(rates), 5_000.0));
    latencies.figures("job", tell);
    Ok(())
}

/// Claim and complete with 100,000 jobs waiting, against 1,000 waiting.
pub(super) fn backlog(_: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let small = store(folder, "small.db")?;
    let large = store(folder, "large.db")?;
    fill(&small, BACKLOG_SMALL)?;
    fill(&large, BACKLOG_LARGE)?;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (base, _) = work(&small, TAKEN_PER_WORKER, false)?;
        let (took, _) = work(&large, TAKEN_PER_WORKER, false)?;
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        rates.push(rate((WORKERS * TAKEN_PER_WORKER) as u64, took));
        fill(&small, WORKERS * TAKEN_PER_WORKER)?;
    }
    tell(Figure::at_least("jobs_backlog_ratio", median(ratios), 0.80));
    tell(Figure::plain("jobs_backlog_per_s", median(rates)));
    Ok(())
}

fn enqueue() -> Result<Enqueue, Error> {
    let params = Json::parse(r#"{"index_uid":"products","shards":[0,15]}"#).map_err(StoreError::corrupt_store)?;
    Ok(Enqueue { id: None, r#type: "reshard_backfill".into(), params, max_attempts: None })
}

fn fill(store: &TaskStore, jobs: usize) -> Result<(), Error> {
    let mut left = jobs;
    while left > 0 {
        let size = left.min(FILL);
        let commands = (0..size).map(|_| Ok(Box::new(enqueue()?) as Box<dyn AnyCommand>));
        let commands = commands.collect::<Result<Vec<_>, Error>>()?;
        let request = Request::transact(commands, CommandOptions::default());
        store.send_blocking(request)?;
        left -= size;
    }
    Ok(())
}

/// 16 workers do so many jobs each; answers how long it took, and each job's own time.
fn work(store: &TaskStore, jobs: usize, enqueues: bool) -> Result<(Duration, Vec<Duration>), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .map_err(|error| StoreError::unavailable_because("starting an async runtime", error))?;
    let began = Instant::now();
    let latencies = runtime.block_on(async {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let store = store.clone();
                tokio::spawn(async move { worker_loop(&store, worker, jobs, enqueues).await })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            let joined = worker.await.map_err(|error| StoreError::unavailable_because("a worker", error))?;
            all.extend(joined?);
        }
        Ok::<_, Error>(all)
    })?;
    Ok((began.elapsed(), latencies))
}

async fn worker_loop(store: &TaskStore, worker: usize, jobs: usize, enqueues: bool) -> Result<Vec<Duration>, Error> {
    let pod = format!("pod-{worker}");
    let mut latencies = Vec::with_capacity(jobs);
    for _ in 0..jobs {
        let one = Instant::now();
        if enqueues {
            store.run(enqueue()?).await?;
        }
        let claimed = store.run(ClaimNext { pod: pod.clone(), types: None }).await?.answer;
        let (Some(job), Some(token)) = (claimed.job, claimed.claim_token) else {
            return Err(StoreError::unavailable("a worker found no job").into());
        };
        store.run(Complete { id: job.id.clone(), token, progress: None }).await?;
        latencies.push(one.elapsed());
    }
    Ok(latencies)
}
