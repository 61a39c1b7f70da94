//! From the settings to the end of the process.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tasklog_log::StoreError;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, mpsc},
};

use super::{
    Settings,
    auth::Tokens,
    duties::Duties,
    listen::accept,
    routes::{Listener, router},
    state::{App, Phase, Shared},
    tls::Tls,
};
use crate::{Error, OpenOptions, StoreUrl, TaskStore};

/// Threads that may block beside those that read: opening the store, watching its head.
const FURTHER_THREADS: usize = 8;
/// File descriptors that are not connections of clients.
const FURTHER_FILES: u64 = 256;
/// Connections to the listener for metrics.
const METRICS_CONNECTIONS_MAX: usize = 64;
/// Between the first two attempts to open the store; twice as long after each further one.
const OPEN_PAUSE_MIN: Duration = Duration::from_millis(100);
/// See [`OPEN_PAUSE_MIN`].
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long threads that block have to end once everything else has.
const THREADS_MAX: Duration = Duration::from_secs(5);

/// Why a store is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings are wrong.
    #[error("{0}")]
    Settings(String),
    /// The address cannot be listened on, or the system refused something else.
    #[error("{doing}: {cause}")]
    System {
        /// What was being done.
        doing: String,
        /// Why it could not be.
        #[source]
        cause: std::io::Error,
    },
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] Error),
}

fn system(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> ServeError {
    let doing = doing.into();
    move |cause| ServeError::System { doing, cause }
}

/// Serves a store until SIGTERM or SIGINT: then nothing new is accepted, what was accepted is answered, and the store is
/// closed. A second signal ends the process at once. SIGHUP reads tokens and certificate anew.
///
/// # Errors
/// See [`ServeError`]; once it serves, nothing but the store's opening ends it.
pub fn run(url: StoreUrl, options: OpenOptions, mut settings: Settings) -> Result<(), ServeError> {
    let tokens = Tokens::read(&settings.tokens).map_err(ServeError::Settings)?;
    if !settings.listen.ip().is_loopback() && tokens.is_empty() {
        return Err(ServeError::Settings(format!(
            "{} is reached from other machines: give a token (--token-file, or TASKLOG_TOKEN), or listen on 127.0.0.1",
            settings.listen
        )));
    }
    let tls = settings.tls.as_ref().map(Tls::read).transpose().map_err(ServeError::Settings)?.map(Arc::new);
    settings.limits.connections_max = room(settings.limits.connections_max);
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(settings.limits.readers_max + FURTHER_THREADS)
        .thread_name("tasklog-serve")
        .build()
        .map_err(system("starting threads"))?;
    let app = Shared::new(url, settings, tokens);
    let served = runtime.block_on(serve(&app, options, tls));
    close(runtime, app);
    served
}

/// Raises the bound of open files as far as the system lets it, and answers how many connections fit.
fn room(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + FURTHER_FILES;
    let reached = match (current, maximum) {
        (Some(current), _) if current < needed => {
            let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
            match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
                Ok(()) => raised,
                Err(error) => {
                    tracing::warn!(%error, "raising the bound of open files");
                    current
                }
            }
        }
        _ => needed,
    };
    let fits = usize::try_from(reached.saturating_sub(FURTHER_FILES)).unwrap_or(wanted).clamp(1, wanted);
    if fits < wanted {
        tracing::warn!(wanted, fits, "the system lets this process have fewer connections than asked for");
    }
    fits
}

async fn serve(app: &App, options: OpenOptions, tls: Option<Arc<Tls>>) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = listen(app.settings.listen).await?;
    let metrics = match app.settings.metrics_listen {
        Some(place) => Some(listen(place).await?),
        None => None,
    };
    let (alive, mut all_gone) = mpsc::channel(1);
    let room = Arc::new(Semaphore::new(app.settings.limits.connections_max));
    let place = listener.local_addr().map_err(system("asking for the address"))?;
    if scheme == "http" && !place.ip().is_loopback() {
        tracing::warn!("tokens travel unencrypted: give --tls-cert and --tls-key, or encrypt in front of this service");
    }
    tracing::info!(store = %app.url, url = %format!("{scheme}://{place}"), "listening");
    let main = router(app, Listener::Main);
    tokio::spawn(accept(app.clone(), listener, main, tls.clone(), room, alive.clone()));
    if let Some(metrics) = metrics {
        let place = metrics.local_addr().map_err(system("asking for the address"))?;
        tracing::info!(url = %format!("http://{place}"), "listening for metrics");
        let router = router(app, Listener::Metrics);
        // Whoever looks after the process finds room when clients have taken all of theirs.
        let room = Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX));
        tokio::spawn(accept(app.clone(), metrics, router, None, room, alive.clone()));
    }
    drop(alive);
    let opening = open_in_time(app, options);
    tokio::pin!(opening);
    let mut opened = false;
    let mut duties = None;
    loop {
        tokio::select! {
            done = &mut opening, if !opened => {
                opened = true;
                if let Err(error) = done {
                    app.enter(Phase::Stopping);
                    return Err(error.into());
                }
                duties = start_duties(app)?;
            }
            told = signals.next() => match told {
                Told::ReadAnew => {
                    app.reload_tokens();
                    if let Some(tls) = &tls {
                        tls.reload();
                    }
                }
                Told::Stop => break,
            },
        }
    }
    app.enter(Phase::Stopping);
    // Each ends after the command that it is at.
    let duties = tokio::task::spawn_blocking(move || drop(duties));
    let shutdown_max = app.settings.limits.shutdown_max;
    tracing::info!("stopping: answering what was accepted");
    tokio::select! {
        _ = all_gone.recv() => {}
        () = tokio::time::sleep(shutdown_max) => {
            tracing::warn!(ms = shutdown_max.as_millis() as u64, "some connections did not end in time and are closed");
        }
        status = signals.again() => {
            tracing::warn!("a second signal: ending at once");
            std::process::exit(status);
        }
    }
    if tokio::time::timeout(THREADS_MAX, duties).await.is_err() {
        tracing::warn!("a background duty did not end in time: its lease ends by itself");
    }
    Ok(())
}

fn start_duties(app: &App) -> Result<Option<Duties>, ServeError> {
    match (&app.settings.duties, app.store()) {
        (Some(settings), Ok(store)) => {
            Duties::start(store, settings).map(Some).map_err(system("starting threads for background duties"))
        }
        _ => Ok(None),
    }
}

async fn listen(place: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(place).await.map_err(system(format!("listening on {place}")))
}

/// Opens the store. What may be gone soon is tried again, for as long as the settings say.
async fn open_in_time(app: &App, options: OpenOptions) -> Result<(), Error> {
    let began = Instant::now();
    let mut pause = OPEN_PAUSE_MIN;
    loop {
        let (shared, options) = (app.clone(), options.clone());
        let done = tokio::task::spawn_blocking(move || open(&shared, options)).await;
        let done = done.unwrap_or_else(|_| Err(StoreError::unavailable("opening the store").into()));
        let left = app.settings.wait_for_store.saturating_sub(began.elapsed());
        match done {
            Err(Error::Store(error)) if error.is_retryable() && !left.is_zero() => {
                let error = error.full();
                if app.opened_not_yet(&error) {
                    tracing::warn!(
                        error,
                        seconds = left.as_secs(),
                        "the store cannot be opened yet; it is tried again"
                    );
                }
            }
            done => return done,
        }
        // The last try is when the time is over.
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(OPEN_PAUSE_MAX);
    }
}

/// Opens the store: for commands, or for reading if it is a replica.
fn open(app: &App, options: OpenOptions) -> Result<(), Error> {
    let store = open_store(&app.url, options)?;
    let position = store.head()?;
    app.saw(position);
    let read_only = store.read_only().map(str::to_owned);
    app.opened(store);
    match read_only {
        Some(why) => tracing::info!(position = position.0, "serving, for reading only: {why}"),
        None => tracing::info!(position = position.0, "serving"),
    }
    Ok(())
}

fn open_store(url: &StoreUrl, mut options: OpenOptions) -> Result<TaskStore, Error> {
    if let StoreUrl::Sqlite(path) = url
        && crate::store::sqlite::replica_of(path)?.is_some()
    {
        options.access = crate::Access::Read;
    }
    TaskStore::open_with(url, options)
}

/// Ends threads, then closes the store: the committer finishes what it has taken.
fn close(runtime: Runtime, app: App) {
    runtime.shutdown_timeout(THREADS_MAX);
    match Arc::try_unwrap(app) {
        Ok(shared) => drop(shared),
        // A thread that blocks still reads; the process ends without it, and what was acknowledged is durable.
        Err(_) => tracing::warn!("a thread still reads the store: ending without it"),
    }
    tracing::info!("stopped");
}

enum Told {
    Stop,
    ReadAnew,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        let on = |kind| signal(kind).map_err(system("listening for signals"));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::ReadAnew,
        }
    }

    /// The exit status of a process that is told to stop once more.
    async fn again(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
        }
    }
}
