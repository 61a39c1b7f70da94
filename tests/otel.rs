//! Spans of requests as a collector meets them: the program as a process, and a collector that keeps what it is sent.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

#[path = "serve/service.rs"]
#[allow(dead_code)]
mod service;
mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use service::{Service, register};
use support::program::tasklog;

const JSON: (&str, &str) = ("content-type", "application/json");
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What a collector was sent at once.
struct Batch {
    head: String,
    body: Vec<u8>,
}

/// A collector that answers every batch with 200.
struct Collector {
    place: SocketAddr,
    batches: Receiver<Batch>,
}

impl Collector {
    fn new() -> Self {
        Self::listening(|stream, batches| take(BufReader::new(stream), batches))
    }

    /// One that is called by `https`, with a certificate for `localhost`.
    fn behind_tls(folder: &Path, name: &str) -> Self {
        let file = |kind: &str| folder.join(format!("{name}.{kind}"));
        let chain = CertificateDer::pem_file_iter(file("pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
        Self::listening(move |stream, batches| {
            let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = stream;
            // Whoever does not trust the certificate goes away.
            if session.complete_io(&mut stream).is_ok() && !session.is_handshaking() {
                take(BufReader::new(StreamOwned::new(session, stream)), batches);
            }
        })
    }

    fn listening(take: impl Fn(TcpStream, &Sender<Batch>) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        let (sender, batches) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (sender, take) = (sender.clone(), take.clone());
                thread::spawn(move || take(stream.unwrap(), &sender));
            }
        });
        Self { place, batches }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.place)
    }

    /// Waits for a batch.
    fn batch(&self) -> Batch {
        self.batches.recv().unwrap()
    }
}

fn take(mut stream: BufReader<impl Read + Write>, batches: &Sender<Batch>) {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            // A connection that is cut has no further batch.
            if stream.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        head.make_ascii_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let mut body = vec![0; length.split_once("\r\n").unwrap().0.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        if batches.send(Batch { head, body }).is_err() {
            return;
        }
    }
}

impl Batch {
    fn has(&self, bytes: &[u8]) -> bool {
        self.body.windows(bytes.len()).any(|window| window == bytes)
    }

    #[track_caller]
    fn with(&self, bytes: &[u8]) -> &Self {
        assert!(self.has(bytes), "{:?}\nis not in\n{:?}", bytes.escape_ascii().to_string(), self.text());
        self
    }

    #[track_caller]
    fn without(&self, text: &str) -> &Self {
        assert!(!self.has(text.as_bytes()), "{text:?} is in\n{:?}", self.text());
        self
    }

    fn text(&self) -> String {
        self.body.escape_ascii().to_string()
    }
}

/// One field of a message in protobuf that has a length: <https://protobuf.dev/programming-guides/encoding>.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// An attribute of a span (`KeyValue`) whose value is a text.
fn text(key: &str, value: &str) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
}

/// An attribute of a span whose value is a number.
fn number(key: &str, value: u16) -> Vec<u8> {
    let varint = match u8::try_from(value) {
        Ok(small @ ..0x80) => vec![small],
        _ => vec![(value & 0x7f) as u8 | 0x80, (value >> 7) as u8],
    };
    [field(1, key.as_bytes()), field(2, &[&[3 << 3], &*varint].concat())].concat()
}

/// A service whose spans go somewhere, batch by batch as soon as they are there.
fn traced(args: &[&str], variables: &[(&str, &str)]) -> (Service, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasklog.db").display());
    let mut command = Service::command(&url, args);
    clean(&mut command);
    command.env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1").envs(variables.iter().copied());
    (Service::spawn(command), folder)
}

/// Whoever runs the tests may export traces, or be behind a proxy.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_ascii_lowercase();
        if lower.starts_with("otel_") || lower.ends_with("_proxy") {
            command.env_remove(name);
        }
    }
}

#[test]
fn a_request_is_a_span_whose_parent_is_what_its_client_says() {
    let collector = Collector::new();
    let (mut service, _folder) =
        traced(&["--otlp-endpoint", &collector.endpoint()], &[("TASKLOG_TOKEN", "sesame-opens-the-mountain")]);
    let headers = [
        JSON,
        ("authorization", "Bearer sesame-opens-the-mountain"),
        ("traceparent", &format!("00-{TRACE}-{PARENT}-01")),
    ];
    let position = service.post_with("/v1/commands", &register("t-4711"), &headers).with(200).position();

    let batch = collector.batch();
    assert!(batch.head.starts_with("post /v1/traces http/1.1\r\n"), "{}", batch.head);
    assert!(batch.head.contains("content-type: application/x-protobuf\r\n"), "{}", batch.head);
    batch
        .with(&field(1, &hex::decode(TRACE).unwrap()))
        .with(&field(4, &hex::decode(PARENT).unwrap()))
        .with(&field(5, b"POST /v1/commands"))
        // SPAN_KIND_SERVER
        .with(&[6 << 3, 2])
        .with(&text("http.request.method", "POST"))
        .with(&text("http.route", "/v1/commands"))
        .with(&number("http.response.status_code", 200))
        .with(&number("tasklog.position", u16::try_from(position).unwrap()))
        .with(&text("service.name", "tasklog"))
        .without("sesame")
        .without("t-4711")
        .without("error.type");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn only_answers_of_500_and_above_are_errors() {
    let collector = Collector::new();
    let (service, _folder) = traced(&["--otlp-endpoint", &collector.endpoint(), "--min-position-wait-ms", "20"], &[]);
    // STATUS_CODE_ERROR
    let failed = field(15, &[3 << 3, 2]);

    service.get_with("/v1/tables/tasks/t1", &[("tasklog-min-position", "99")]).problem(503, "unavailable");
    let batch = collector.batch();
    batch.with(&number("http.response.status_code", 503)).with(&text("error.type", "503")).with(&failed);

    service.get("/v1/tables/tasks/t1").problem(404, "not_found");
    let batch = collector.batch();
    batch.with(&field(5, b"GET /v1/tables/{table}/{*key}")).with(&number("http.response.status_code", 404));
    assert!(!batch.has(&failed), "{}", batch.text());
}

#[test]
fn methods_and_paths_that_clients_make_up_have_one_name() {
    let collector = Collector::new();
    let (service, _folder) = traced(&["--otlp-endpoint", &collector.endpoint()], &[]);
    assert!(service.raw(b"BREW /v1/commands HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").contains(" 405 "));
    collector
        .batch()
        .with(&field(5, b"HTTP /v1/commands"))
        .with(&text("http.request.method", "_OTHER"))
        .without("BREW");
    service.get("/tea").problem(404, "not_found");
    collector.batch().with(&field(5, b"GET")).without("http.route").without("tea");
}

#[test]
fn a_trace_that_its_client_does_not_sample_is_not_exported() {
    let collector = Collector::new();
    let (service, _folder) = traced(&["--otlp-endpoint", &collector.endpoint()], &[]);
    let other = "11111111111111111111111111111111";
    service.get_with("/healthz", &[("traceparent", &format!("00-{other}-{PARENT}-00"))]).with(200);
    service.get_with("/healthz", &[("traceparent", &format!("00-{TRACE}-{PARENT}-01"))]).with(200);
    let batch = collector.batch();
    batch.with(&hex::decode(TRACE).unwrap());
    assert!(!batch.has(&hex::decode(other).unwrap()));
}

#[test]
fn the_end_sends_what_is_queued_to_where_the_environment_says() {
    let collector = Collector::new();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint()),
        ("OTEL_SERVICE_NAME", "registry"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ];
    let (mut service, _folder) = traced(&[], &variables);
    service.get("/healthz").with(200);
    service.get("/v1/info").with(200);
    assert!(collector.batches.try_recv().is_err());
    assert_eq!(service.stop(), Some(0));
    collector
        .batch()
        .with(&field(5, b"GET /healthz"))
        .with(&field(5, b"GET /v1/info"))
        .with(&text("service.name", "registry"))
        .with(&text("deployment.environment.name", "staging"));
}

#[test]
fn without_a_collector_requests_are_answered_and_the_failure_is_said_once() {
    // Nobody listens at port 1.
    let (mut service, _folder) = traced(&["--otlp-endpoint", "http://127.0.0.1:1"], &[]);
    service.register("t1");
    service.logs("spans are not exported");
    for id in ["t2", "t3", "t4"] {
        service.register(id);
    }
    assert_eq!(service.stop(), Some(0));
    service.logs("\"stopped\"");
    assert_eq!(service.log().matches("spans are not exported").count(), 1, "{}", service.log());
}

fn openssl(folder: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let ended = command.current_dir(folder).args(words.split(' ')).output().expect("openssl is installed");
    assert!(ended.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// An authority, and a certificate for `localhost` that it has signed.
fn certified(folder: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {key} -days 2 -keyout ca.key -out ca.pem -subj /CN=authority"));
    openssl(folder, &format!("req {key} -keyout collector.key -out collector.csr -subj /CN=localhost"));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let signed = "-CA ca.pem -CAkey ca.key -set_serial 1 -days 2 -extfile names";
    openssl(folder, &format!("x509 -req -in collector.csr {signed} -out collector.pem"));
}

#[test]
fn spans_go_over_tls_to_a_collector_whose_authority_the_system_trusts() {
    let folder = tempfile::tempdir().unwrap();
    certified(folder.path());
    let collector = Collector::behind_tls(folder.path(), "collector");
    let endpoint = format!("https://localhost:{}", collector.place.port());
    let trusted = folder.path().join("ca.pem").display().to_string();
    let (mut service, _store) = traced(&["--otlp-endpoint", &endpoint], &[("SSL_CERT_FILE", &trusted)]);
    service.register("t1");
    collector.batch().with(&field(5, b"POST /v1/commands"));
    assert_eq!(service.stop(), Some(0));
    assert!(!service.log().contains("spans are not exported"), "{}", service.log());
}

#[test]
fn a_collector_whose_authority_nobody_trusts_gets_no_spans_and_the_log_says_why() {
    let folder = tempfile::tempdir().unwrap();
    certified(folder.path());
    let collector = Collector::behind_tls(folder.path(), "collector");
    let endpoint = format!("https://localhost:{}", collector.place.port());
    let (mut service, _store) = traced(&["--otlp-endpoint", &endpoint], &[]);
    service.register("t1");
    let said = service.logs("spans are not exported");
    assert!(said.contains("certificate"), "{said}");
    service.register("t2");
    service.get("/readyz").with(200);
    assert_eq!(service.stop(), Some(0));
    assert_eq!(service.log().matches("spans are not exported").count(), 1, "{}", service.log());
    assert!(collector.batches.try_recv().is_err());
}

#[test]
fn a_collector_that_never_answers_holds_up_neither_requests_nor_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let variables = [("OTEL_BSP_MAX_QUEUE_SIZE", "1"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")];
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let (mut service, _folder) = traced(&["--otlp-endpoint", &endpoint], &variables);
    // One span is being sent, one waits, the others are dropped.
    for id in ["t1", "t2", "t3", "t4", "t5", "t6"] {
        service.register(id);
    }
    service.logs("BatchSpanProcessor.SpanDroppingStarted");
    assert_eq!(service.stop(), Some(0));
    service.logs("ending without having sent all spans");
    assert_eq!(service.log().matches("SpanDroppingStarted").count(), 1, "{}", service.log());
}

#[test]
fn log_lines_are_what_they_are_without_spans() {
    let collector = Collector::new();
    let (service, _folder) = traced(&["--otlp-endpoint", &collector.endpoint()], &[]);
    service.get("/healthz").with(200);
    let line: Value = serde_json::from_str(&service.logs("tasklog::requests")).unwrap();
    let mut names: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["level", "message", "method", "ms", "route", "status", "target", "timestamp"]);

    for endpoint in [Some(collector.endpoint()), None] {
        let mut command = tasklog();
        clean(&mut command);
        command.env("TASKLOG_LOG", "trace").args(["--store", "memory:", "serve", "--listen", "127.0.0.1:0"]);
        command.args(endpoint.iter().flat_map(|endpoint| ["--otlp-endpoint", endpoint]));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let listening = lines.find(|line| line.contains("listening")).unwrap();
        let place = listening.split_once("http://").unwrap().1.to_owned();
        let mut stream = TcpStream::connect(place).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let line = lines.find(|line| line.contains("tasklog::requests")).unwrap();
        assert!(line.contains("DEBUG tasklog::requests: request method=GET route=\"/healthz\" status=200"), "{line}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn an_endpoint_that_is_none_is_refused() {
    let mut command = tasklog();
    clean(&mut command);
    let output = command.args(["--store", "memory:", "serve", "--otlp-endpoint", "localhost:4318"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("expected http://HOST:PORT or https://HOST:PORT"), "{said}");
}
