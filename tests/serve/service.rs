//! A service of one test, and ways to talk to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use serde_json::Value;

use crate::support::program::tasklog;

/// The lines that a process has logged so far, and whether there will be more.
#[derive(Default)]
struct Logged {
    lines: Vec<String>,
    ended: bool,
}

/// A serving process; killed when dropped.
pub struct Service {
    pub child: Child,
    /// `http://127.0.0.1:PORT`
    pub base: String,
    logged: Arc<(Mutex<Logged>, Condvar)>,
    folder: Option<tempfile::TempDir>,
    agent: ureq::Agent,
}

/// What came back.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answered {
    #[track_caller]
    pub fn with(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// `Tasklog-Position`
    #[track_caller]
    pub fn position(&self) -> u64 {
        self.header("tasklog-position").unwrap_or_else(|| panic!("no position: {self:?}")).parse().unwrap()
    }

    /// Asserts a problem of this status and kind, and gives its detail.
    #[track_caller]
    pub fn problem(self, status: u16, kind: &str) -> String {
        let answered = self.with(status);
        assert_eq!(answered.header("content-type"), Some("application/problem+json"), "{answered:?}");
        let body = answered.json();
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["kind"], kind, "{body}");
        assert_eq!(body["type"], format!("urn:tasklog:problem:{kind}"));
        assert!(!body["title"].as_str().unwrap().is_empty());
        body["detail"].as_str().unwrap().to_owned()
    }
}

impl Service {
    /// Serves a new store in a folder of its own.
    pub fn new(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("tasklog.db").display());
        let mut service = Self::of(&url, args);
        service.folder = Some(folder);
        service
    }

    /// Serves a store.
    pub fn of(url: &str, args: &[&str]) -> Self {
        Self::spawn(Self::command(url, args))
    }

    /// The program, about to serve a store.
    pub fn command(url: &str, args: &[&str]) -> Command {
        let mut command = tasklog();
        for name in ["TASKLOG_TOKEN", "TASKLOG_READ_TOKEN", "TASKLOG_SENSITIVE_TOKEN"] {
            command.env_remove(name);
        }
        command.env("TASKLOG_LOG", "info,tasklog::requests=debug,tasklog::serve=debug");
        command.args(["--store", url, "serve", "--log-format", "json"]).args(args);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
    }

    /// Starts it and waits until it answers.
    pub fn spawn(command: Command) -> Self {
        let service = Self::listening(command);
        service.logs("\"message\":\"serving");
        service
    }

    /// Starts it and waits until it listens; its store may not be open yet.
    pub fn listening(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let logged: Arc<(Mutex<Logged>, Condvar)> = Arc::default();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let keeper = Arc::clone(&logged);
        thread::spawn(move || {
            for line in stderr.lines() {
                keeper.0.lock().unwrap().lines.push(line.unwrap());
                keeper.1.notify_all();
            }
            keeper.0.lock().unwrap().ended = true;
            keeper.1.notify_all();
        });
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let agent = ureq::Agent::new_with_config(config);
        let mut service = Self { child, base: String::new(), logged, folder: None, agent };
        let listening: Value = serde_json::from_str(&service.logs("\"listening\"")).unwrap();
        service.base = listening["url"].as_str().unwrap().to_owned();
        service
    }

    /// Waits for a log line that has this text, and gives it.
    #[track_caller]
    pub fn logs(&self, text: &str) -> String {
        let mut logged = self.logged.0.lock().unwrap();
        loop {
            if let Some(line) = logged.lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(!logged.ended, "{text:?} was not logged: {:#?}", logged.lines);
            logged = self.logged.1.wait(logged).unwrap();
        }
    }

    /// All that was logged so far.
    pub fn log(&self) -> String {
        self.logged.0.lock().unwrap().lines.join("\n")
    }

    /// `127.0.0.1:PORT`
    pub fn place(&self) -> &str {
        self.base.split_once("://").unwrap().1
    }

    /// The store in this service's folder.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.folder.as_ref().unwrap().path().join("tasklog.db").display())
    }

    pub fn get(&self, path: &str) -> Answered {
        self.get_with(path, &[])
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answered {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answered(request.call().unwrap())
    }

    pub fn post(&self, path: &str, body: &str) -> Answered {
        self.post_with(path, body, &[("content-type", "application/json")])
    }

    pub fn post_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answered {
        self.try_post(path, body.as_bytes(), headers).unwrap()
    }

    pub fn try_post(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Result<Answered, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body)?;
        let text = response.body_mut().read_to_string()?;
        Ok(Answered { status: response.status().as_u16(), headers: headers_of(&response), text })
    }

    /// Registers a task.
    #[track_caller]
    pub fn register(&self, id: &str) -> Answered {
        self.post("/v1/commands", &register(id)).with(200)
    }

    /// A connection of its own.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.place()).unwrap()
    }

    /// Sends bytes as they are, and reads what comes until the other side closes.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// SIGTERM; answers the exit status.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.ended()
    }

    /// Waits for the process's end; its exit status.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn headers_of<B>(response: &ureq::http::Response<B>) -> Vec<(String, String)> {
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn answered(mut response: ureq::http::Response<ureq::Body>) -> Answered {
    let text = response.body_mut().read_to_string().unwrap();
    Answered { status: response.status().as_u16(), headers: headers_of(&response), text }
}

/// A command that registers a task.
pub fn register(id: &str) -> String {
    serde_json::json!({ "command": "tasks.register", "args": { "miroir_id": id, "node_tasks": { "n1": 7 } } })
        .to_string()
}

/// A live tail, read line by line.
pub struct Tail {
    lines: std::io::Lines<BufReader<TcpStream>>,
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sse {
    pub event: Option<String>,
    pub id: Option<u64>,
    pub data: String,
}

impl Tail {
    /// Opens one; `path` has the parameters.
    pub fn open(service: &Service, path: &str, headers: &str) -> Self {
        let mut stream = service.connect();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\nconnection: close\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        Self::read(stream)
    }

    /// Reads one whose request was sent.
    pub fn read(stream: TcpStream) -> Self {
        let mut lines = BufReader::new(stream).lines();
        let status = lines.next().unwrap().unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        while !lines.next().unwrap().unwrap().is_empty() {}
        Self { lines }
    }

    /// The next line that is no chunk size; none at the end.
    fn line(&mut self) -> Option<String> {
        // Chunks end with an event, so that a chunk's size stands on a line of its own.
        self.lines.next().transpose().unwrap()
    }

    /// The next comment or event; comments have only data.
    pub fn next(&mut self) -> Option<Sse> {
        let mut sse = Sse::default();
        let mut met = false;
        loop {
            let line = self.line()?;
            if line.is_empty() && met {
                return Some(sse);
            }
            met |= line.contains(':');
            match line.split_once(": ") {
                Some(("id", id)) => sse.id = Some(id.parse().unwrap()),
                Some(("event", event)) => sse.event = Some(event.to_owned()),
                Some(("data", data)) => sse.data = data.to_owned(),
                _ => {}
            }
        }
    }

    /// The next event, comments passed over; none at the end.
    pub fn event(&mut self) -> Option<Sse> {
        loop {
            let sse = self.next()?;
            if !sse.data.is_empty() {
                return Some(sse);
            }
        }
    }

    /// The ids of the next so many events.
    pub fn ids(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.event().unwrap().id.unwrap()).collect()
    }
}
