use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a server may take until it answers.
const STARTING_MAX: Duration = Duration::from_secs(30);
/// How often a free port that somebody else took meanwhile is replaced by another one.
const PORTS_TRIED_MAX: usize = 10;

/// A redis-server process of this test: on a free loopback port, with a folder of its own, killed when dropped.
pub struct RedisServer {
    port: u16,
    settings: Vec<(String, String)>,
    folder: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    /// A server that keeps nothing on disk and evicts nothing.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with an append-only file that is synced before every answer.
    #[must_use]
    pub fn durable() -> Self {
        Self::start_with(&[("appendonly", "yes"), ("appendfsync", "always")])
    }

    /// A server with settings as redis.conf names them; they replace the defaults.
    #[must_use]
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server = Self { port: 0, settings, folder, process: None };
        for _ in 0..PORTS_TRIED_MAX {
            server.port = free_port();
            if server.try_run() {
                return server;
            }
        }
        panic!("redis-server does not start: is it installed? {}", server.log());
    }

    /// A server that keeps nothing, for all tests of this process; each uses a prefix of its own. It ends with the last
    /// test that holds it, because nothing drops a static.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A replica of `primary` that has all that it has.
    #[must_use]
    pub fn replica_of(primary: &Self) -> Self {
        let replica = Self::start_with(&[("replicaof", &format!("127.0.0.1 {}", primary.port()))]);
        let began = Instant::now();
        while !replica.run::<String>(&["INFO", "replication"]).contains("master_link_status:up") {
            assert!(began.elapsed() < STARTING_MAX, "no link to the primary: {}", replica.log());
            thread::sleep(Duration::from_millis(10));
        }
        replica
    }

    /// Starts the process again after it ended, on the same port and folder.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.try_run(), "redis-server does not start again on port {}: {}", self.port, self.log());
    }

    fn try_run(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.arg("--port").arg(self.port.to_string()).arg("--bind").arg("127.0.0.1");
        command.arg("--dir").arg(self.folder.path()).arg("--logfile").arg(self.folder.path().join("log"));
        for (name, value) in [("save", ""), ("appendonly", "no"), ("maxmemory-policy", "noeviction")] {
            if !self.settings.iter().any(|(set, _)| set == name) {
                command.arg(format!("--{name}")).arg(value);
            }
        }
        for (name, value) in &self.settings {
            command.arg(format!("--{name}")).args(value.split(' '));
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(process.expect("redis-server is installed"));
        let began = Instant::now();
        while began.elapsed() < STARTING_MAX {
            let ended = self.process.as_mut().map(Child::try_wait);
            if !matches!(ended, Some(Ok(None))) {
                return false;
            }
            if let Ok(mut connection) = self.try_connect()
                && redis::cmd("PING").query::<String>(&mut connection).is_ok()
            {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Its port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT/0`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn try_connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(2))
    }

    /// A plain connection, as redis-cli has one.
    #[must_use]
    pub fn connect(&self) -> redis::Connection {
        self.try_connect().expect("a connection to the server of this test")
    }

    /// Runs one command, given as on redis-cli but split already.
    pub fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut self.connect()).expect("the server of this test answers")
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGSTOP: it stays connected and answers nobody.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.pid().to_string()).status().expect("kill is installed");
        assert!(sent.success(), "kill {signal} {}", self.pid());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of the loopback interface that nobody listens on.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
