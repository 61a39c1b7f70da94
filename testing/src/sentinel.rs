use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{RedisServer, free_port};

/// How long it may take until it answers.
const STARTING_MAX: Duration = Duration::from_secs(30);
/// How often a free port that somebody else took meanwhile is replaced by another one.
const PORTS_TRIED_MAX: usize = 10;

/// A sentinel process that watches one master alone, and promotes a replica soon after the master is gone.
pub struct RedisSentinel {
    port: u16,
    folder: TempDir,
    process: Option<Child>,
}

impl RedisSentinel {
    /// Watches `master` under `name`.
    #[must_use]
    pub fn start(name: &str, master: &RedisServer) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut sentinel = Self { port: 0, folder, process: None };
        for _ in 0..PORTS_TRIED_MAX {
            sentinel.port = free_port();
            if sentinel.try_run(name, master.port()) {
                return sentinel;
            }
            sentinel.kill();
        }
        panic!("redis-server --sentinel does not start");
    }

    fn try_run(&mut self, name: &str, master: u16) -> bool {
        let (port, path) = (self.port, self.folder.path().join("sentinel.conf"));
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nlogfile {}\nsentinel monitor {name} 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n",
            self.folder.path().display(),
            self.folder.path().join("log").display()
        );
        fs::write(&path, settings).expect("a file in a temporary folder");
        let mut command = Command::new("redis-server");
        command.arg(path).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server is installed"));
        let began = Instant::now();
        while began.elapsed() < STARTING_MAX {
            if !matches!(self.process.as_mut().map(Child::try_wait), Some(Ok(None))) {
                return false;
            }
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("a URL");
            if let Ok(mut conn) = client.get_connection_with_timeout(Duration::from_secs(2))
                && redis::cmd("PING").query::<String>(&mut conn).is_ok()
            {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Its port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for RedisSentinel {
    fn drop(&mut self) {
        self.kill();
    }
}
