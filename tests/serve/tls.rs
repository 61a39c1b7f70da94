//! TLS.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::{service::Service, support::program::run};

fn openssl(folder: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let ended = command.current_dir(folder).args(words.split(' ')).output().expect("openssl is installed");
    assert!(ended.status.success(), "openssl {words}");
}

/// A certificate for localhost, signed by itself.
fn certificate(folder: &Path, name: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(folder, &format!("req -x509 {key} -keyout {name}.key -out {name}.pem -subj /CN=localhost"));
}

/// One request by somebody who trusts `ca`; none if the handshake fails.
fn ask(folder: &Path, place: &str, ca: &str) -> Option<String> {
    let mut client = Command::new("openssl")
        .current_dir(folder)
        .args(["s_client", "-quiet", "-verify_return_error", "-CAfile", ca, "-connect", place])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It may have ended before, because it does not trust the other side.
    let _ = client.stdin.as_mut().unwrap().write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let text = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
    (!text.is_empty()).then_some(text)
}

#[test]
fn the_service_speaks_tls_and_reads_a_new_certificate_when_told() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "one");
    certificate(folder.path(), "two");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for kind in ["pem", "key"] {
        fs::copy(path(&format!("one.{kind}")), path(&format!("now.{kind}"))).unwrap();
    }
    let service = Service::new(&["--tls-cert", &path("now.pem"), "--tls-key", &path("now.key")]);
    assert!(service.base.starts_with("https://"));
    let answered = ask(folder.path(), service.place(), "one.pem").expect("an answer");
    assert!(answered.starts_with("HTTP/1.1 200") && answered.contains("\"ready\":true"), "{answered}");
    assert_eq!(ask(folder.path(), service.place(), "two.pem"), None);
    // Whoever speaks plain HTTP gets no plain answer.
    let mut plain = service.connect();
    plain.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");

    for kind in ["pem", "key"] {
        fs::copy(path(&format!("two.{kind}")), path(&format!("now.{kind}"))).unwrap();
    }
    service.signal("-HUP");
    service.logs("read the certificate anew");
    assert!(ask(folder.path(), service.place(), "two.pem").is_some());
    assert_eq!(ask(folder.path(), service.place(), "one.pem"), None);
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "one");
    certificate(folder.path(), "two");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let url = format!("sqlite:{}", path("t.db"));
    let refused = |cert: &str, key: &str| {
        run(Service::command(&url, &["--tls-cert", &path(cert), "--tls-key", &path(key)]), b"").with(2)
    };
    refused("nowhere.pem", "one.key").says(&["nowhere.pem"]);
    refused("one.pem", "nowhere.key").says(&["nowhere.key"]);
    refused("one.key", "one.key").says(&["one.key has no certificate"]);
    refused("one.pem", "two.key").says(&["one.pem", "two.key"]);
    run(Service::command(&url, &["--tls-cert", &path("one.pem")]), b"").with(2).says(&["--tls-key"]);
}
