//! Connections that do not behave.

use std::io::{Read, Write};

use crate::service::{Service, register};

fn read_all(stream: &mut std::net::TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is cut while it is read has said what it said.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn what_is_no_http_is_told_so_and_hurts_nobody() {
    let service = Service::new(&[]);
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GARBAGE\r\n\r\n", b"GET /healthz HTTP/9.9\r\n\r\n"]
    {
        let mut stream = service.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answered = read_all(&mut stream);
        assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 400"), "{answered}");
    }
    let mut stream = service.connect();
    stream.write_all(b"GET /v1/tables/tasks/\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let answered = read_all(&mut stream);
    assert!(answered.starts_with("HTTP/1.1 400"), "{answered}");
    let bad_chunk = "POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                     transfer-encoding: chunked\r\n\r\nzz\r\n";
    let mut stream = service.connect();
    stream.write_all(bad_chunk.as_bytes()).unwrap();
    let answered = read_all(&mut stream);
    assert!(answered.starts_with("HTTP/1.1 400"), "{answered}");
    service.register("t1");
}

#[test]
fn headers_that_are_too_long_or_too_many_are_refused() {
    let service = Service::new(&["--header-bytes-max", "8192"]);
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(10_000));
    let many: String = (0..200).map(|at| format!("x{at}: 1\r\n")).collect();
    for head in [long, format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n")] {
        let mut stream = service.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let answered = read_all(&mut stream);
        assert!(answered.starts_with("HTTP/1.1 431"), "{answered}");
    }
}

#[test]
fn a_client_that_has_closed_its_half_still_gets_its_answer() {
    let service = Service::new(&[]);
    let body = register("t1");
    let length = body.len();
    let head =
        format!("POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}");
    let mut stream = service.connect();
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answered = read_all(&mut stream);
    assert!(answered.starts_with("HTTP/1.1 200") && answered.contains("\"changed\":true"), "{answered}");
    // One that closes in the middle of its body has not asked for anything.
    let mut stream = service.connect();
    let body = register("t2");
    stream.write_all(format!("{head}0\r\n\r\n{body}").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    read_all(&mut stream);
    service.get("/v1/tables/tasks/t2").problem(404, "not_found");
}

#[test]
fn headers_that_never_end_are_not_waited_for() {
    let service = Service::new(&["--idle-ms", "300"]);
    let mut slow = service.connect();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ").unwrap();
    let mut silent = service.connect();
    let mut kept_alive = service.connect();
    kept_alive.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    // Each ends by itself; nothing is sent any more.
    let slow = read_all(&mut slow);
    assert!(!slow.contains("200"), "{slow}");
    assert_eq!(read_all(&mut silent), "");
    assert!(read_all(&mut kept_alive).starts_with("HTTP/1.1 200"));
    service.register("t1");
}

#[test]
fn connections_beyond_the_bound_are_told_when_to_come_back() {
    let service = Service::new(&["--connections-max", "3"]);
    let held: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = service.connect();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let refused = service.get("/healthz");
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.problem(503, "busy");
    drop(held);
    // The places come back as the service notices that they are free.
    while service.get("/healthz").status != 200 {
        std::thread::yield_now();
    }
}

#[test]
fn a_body_that_nobody_reads_closes_the_connection_and_says_so() {
    let service = Service::new(&[]);
    for path in ["/readyz", "/nowhere", "/v1/commands"] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n");
        let mut stream = service.connect();
        stream.write_all(head.as_bytes()).unwrap();
        // It is closed from the other side, although its body has not come.
        let answered = read_all(&mut stream);
        assert!(answered.starts_with("HTTP/1.1 ") && answered.contains("connection: close"), "{answered}");
    }
}
