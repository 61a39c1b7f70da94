//! Where the server of a log is: a node of a cluster, behind sentinels, behind TLS, a replica, one of several hosts.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tasklog_log::{
    Log, StoreErrorKind,
    redis::{Connector, Link, Part, Parts, RedisLog, Time, Wire},
};
use tasklog_testing::{RedisCluster, RedisSentinel, RedisServer, free_port};

/// Far longer than anything here takes, and short enough that a hanging test ends.
const PATIENCE: Duration = Duration::from_secs(60);

fn connector(url: &str) -> Connector {
    Connector::new(url.parse().unwrap())
}

fn open(url: &str) -> RedisLog {
    RedisLog::open(Arc::new(Link::new(connector(url))), Time::Server).unwrap()
}

#[test]
fn a_prefix_in_braces_lives_on_the_cluster_node_that_owns_its_slot() {
    let cluster = RedisCluster::start();
    for prefix in ["{one}", "{two}", "{three}", "a{four}b"] {
        for node in cluster.nodes() {
            let log = open(&format!("redis://127.0.0.1:{}?prefix={prefix}", node.port()));
            assert_eq!(log.head().unwrap().position.0, 0);
        }
        let owner = cluster.owner(&format!("{prefix}:log"));
        assert_eq!(owner.run::<String>(&["TYPE", &format!("{prefix}:log")]), "stream");
    }
    for prefix in ["plain", "{}", "}a{"] {
        let url = format!("redis://127.0.0.1:{}?prefix={prefix}", cluster.nodes()[0].port());
        let error = connector(&url).connect().err().unwrap();
        assert!(error.to_string().contains("expected a prefix in braces"), "{error}");
    }
}

#[test]
fn sentinels_are_asked_for_the_master_before_and_after_a_promotion() {
    let mut master = RedisServer::start();
    let replica = RedisServer::start_with(&[("replicaof", &format!("127.0.0.1 {}", master.port()))]);
    let began = Instant::now();
    while !replica.run::<String>(&["INFO", "replication"]).contains("master_link_status:up") {
        assert!(began.elapsed() < PATIENCE, "{}", replica.log());
        thread::sleep(Duration::from_millis(20));
    }
    let sentinel = RedisSentinel::start("main", &master);
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), sentinel.port());

    let error = connector(&format!("redis://{hosts}?sentinel=other")).connect().err().unwrap();
    assert!(error.to_string().contains("knows no master called other"), "{error}");

    let log = open(&format!("redis://{hosts}?sentinel=main"));
    let info = log.info().unwrap();
    let generation = log.link().generation();
    let began = Instant::now();
    while replica.run::<u64>(&["EXISTS", "miroir:_log"]) == 0 {
        assert!(began.elapsed() < PATIENCE, "{}", replica.log());
        thread::sleep(Duration::from_millis(20));
    }
    // A sentinel looks for replicas every ten seconds; one it has not seen it cannot promote.
    let asked = RedisServerAt(sentinel.port());
    while asked.replicas("main") == 0 {
        assert!(began.elapsed() < PATIENCE, "the sentinel sees no replica");
        thread::sleep(Duration::from_millis(50));
    }
    master.kill();
    while log.info().is_err() {
        assert!(began.elapsed() < 2 * PATIENCE, "no master was found again: {}", log.info().unwrap_err().full());
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(log.info().unwrap(), info);
    assert!(log.link().generation() > generation);
}

/// A sentinel as its port.
struct RedisServerAt(u16);

impl RedisServerAt {
    fn replicas(&self, name: &str) -> usize {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.0)).unwrap();
        let mut conn = client.get_connection().unwrap();
        let replicas: Vec<redis::Value> = redis::cmd("SENTINEL").arg("REPLICAS").arg(name).query(&mut conn).unwrap();
        replicas.len()
    }
}

#[test]
fn a_replica_is_refused_and_the_next_host_is_tried() {
    let master = RedisServer::start();
    let replica = RedisServer::start_with(&[("replicaof", &format!("127.0.0.1 {}", master.port()))]);
    let error = connector(&replica.url()).connect().err().unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("it is a replica"), "{error}");

    let hosts = format!("127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}", free_port(), replica.port(), master.port());
    let log = open(&format!("redis://{hosts}"));
    assert_eq!(master.run::<String>(&["HGET", "miroir:_log", "id"]), log.info().unwrap().id.to_string());
}

fn openssl(folder: &Path, words: &str) {
    let status = Command::new("openssl")
        .current_dir(folder)
        .args(words.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(status.success(), "openssl {words}");
}

#[test]
fn tls_trusts_the_named_authority_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for ca in ["ca", "other"] {
        openssl(folder.path(), &format!("req -x509 {key} -keyout {ca}.key -out {ca}.pem -subj /CN={ca}"));
    }
    openssl(folder.path(), &format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=localhost"));
    std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out leaf.pem";
    openssl(folder.path(), sign);

    let path = |name: &str| folder.path().join(name).display().to_string();
    let port = free_port().to_string();
    let _server = RedisServer::start_with(&[
        ("tls-port", &port),
        ("tls-cert-file", &path("leaf.pem")),
        ("tls-key-file", &path("leaf.key")),
        ("tls-ca-cert-file", &path("ca.pem")),
        ("tls-auth-clients", "no"),
    ]);
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("rediss://{host}:{port}?tls_ca={}", path("ca.pem"));
        let log = open(&url);
        assert_eq!(log.head().unwrap().position.0, 0);
        let mut wire = connector(&url).wire().unwrap();
        let mut packed = Vec::new();
        Wire::pack(&mut packed, &[b"HGET", b"miroir:_log", b"id"]);
        Wire::pack(&mut packed, &[b"GET", b"miroir:_log"]);
        wire.send(&packed).unwrap();
        let id = log.info().unwrap().id.to_string();
        assert_eq!(Parts::of(wire.answer().unwrap()).collect::<Vec<_>>(), [Part::Bytes(id.as_bytes())]);
        let wrong = Parts::of(wire.answer().unwrap()).next();
        assert!(matches!(wrong, Some(Part::Error(why)) if why.starts_with(b"WRONGTYPE ")), "{wrong:?}");
    }
    for option in [String::new(), format!("?tls_ca={}", path("other.pem")), format!("?tls_ca={}", path("none.pem"))] {
        let connector = connector(&format!("rediss://127.0.0.1:{port}{option}"));
        for error in [connector.connect().err().unwrap(), connector.wire().err().unwrap()] {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{option}: {error}");
        }
    }
}
