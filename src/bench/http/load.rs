use std::{
    io::Read,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tasklog_log::StoreError;
use tokio::{net::TcpStream, runtime::Builder};

use crate::{
    Error,
    bench::{
        Latencies, rate,
        workload::{ids, lines},
    },
};

/// What a loading process does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Lives, dealt out to connections that each wait for the answer to one command before they send the next.
    Commands {
        /// Connections at once.
        connections: usize,
        /// Lives of all of them together.
        lives: usize,
    },
    /// Live tails from the first event on; those of no event begin at the log's end, and only wait.
    Tails {
        /// Connections at once.
        tails: usize,
        /// Events that each of them reads.
        events: u64,
    },
}

fn failed<E: std::error::Error + Send + Sync + 'static>(doing: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError::unavailable_because(doing, error)
}

/// Puts load on a service, prints one line of JSON, and holds what it has open until its input ends.
pub(crate) fn load(address: &str, load: Load) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed("starting an async runtime"))?;
    runtime.block_on(async {
        match load {
            Load::Commands { connections, lives } => commands(address, connections, lives).await,
            Load::Tails { tails: count, events } => tails(address, count, events).await,
        }
    })
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(address: &str) -> Result<Sender, StoreError> {
    let stream = TcpStream::connect(address).await.map_err(failed("connecting to the service"))?;
    stream.set_nodelay(true).map_err(failed("setting up a connection"))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed("speaking HTTP"))?;
    // It ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}

async fn connect_all(address: &str, count: usize) -> Result<Vec<Sender>, StoreError> {
    let mut senders = Vec::with_capacity(count);
    for _ in 0..count {
        senders.push(connect(address).await?);
    }
    Ok(senders)
}

async fn commands(address: &str, connections: usize, lives: usize) -> Result<(), Error> {
    let senders = connect_all(address, connections).await?;
    let all = ids(lives);
    let bodies: Vec<Vec<Bytes>> = (0..connections)
        .map(|at| {
            let own = all.iter().zip(0..).skip(at).step_by(connections);
            own.flat_map(|(id, number)| lines(id, number)).map(Bytes::from).collect()
        })
        .collect();
    let count = (lives * 4) as u64;
    let began = Instant::now();
    let callers: Vec<_> = senders
        .into_iter()
        .zip(bodies)
        .map(|(sender, bodies)| tokio::spawn(caller(sender, address.to_owned(), bodies)))
        .collect();
    let mut latencies = Vec::with_capacity(lives * 4);
    for caller in callers {
        latencies.extend(caller.await.map_err(failed("a connection"))??);
    }
    let took = began.elapsed();
    let mut told = json!({ "commands_per_s": rate(count, took) });
    Latencies(latencies).figures("all", &mut |figure| {
        told[figure.name.trim_start_matches("all_")] = figure.value.into();
    });
    println!("{told}");
    Ok(())
}

async fn caller(mut sender: Sender, host: String, bodies: Vec<Bytes>) -> Result<Vec<Duration>, StoreError> {
    let mut latencies = Vec::with_capacity(bodies.len());
    for body in bodies {
        let request = Request::post("/v1/commands")
            .header(HOST, &host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(failed("making a request"))?;
        let began = Instant::now();
        let answer = send(&mut sender, request).await?;
        answer.into_body().collect().await.map_err(failed("reading an answer"))?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

async fn send(sender: &mut Sender, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, StoreError> {
    let answer = sender.send_request(request).await.map_err(failed("sending a request"))?;
    match answer.status() {
        status if status.is_success() => Ok(answer),
        status => Err(StoreError::unavailable(format!("the service answered {status}"))),
    }
}

async fn tails(address: &str, count: usize, events: u64) -> Result<(), Error> {
    let senders = connect_all(address, count).await?;
    let began = Instant::now();
    let tails: Vec<_> =
        senders.into_iter().map(|sender| tokio::spawn(tail(sender, address.to_owned(), events))).collect();
    let mut open = Vec::with_capacity(count);
    for tail in tails {
        open.push(tail.await.map_err(failed("a tail"))??);
    }
    println!("{}", json!({ "events_per_s": rate(events * count as u64, began.elapsed()) }));
    // Until whoever measures has seen enough.
    std::io::stdin().read_to_end(&mut Vec::new()).map_err(failed("reading the input"))?;
    drop(open);
    Ok(())
}

/// Reads `events` events of a tail, and answers what keeps it open.
async fn tail(mut sender: Sender, host: String, events: u64) -> Result<(Sender, Incoming), StoreError> {
    let mut request = Request::get("/v1/events").header(HOST, host).header(ACCEPT, "text/event-stream");
    if events > 0 {
        request = request.header("Last-Event-ID", "0");
    }
    let request = request.body(Full::default()).map_err(failed("making a request"))?;
    let mut body = send(&mut sender, request).await?.into_body();
    let (mut seen, mut line) = (0, Vec::new());
    while seen < events {
        let frame = body.frame().await.ok_or_else(|| StoreError::unavailable("the tail has ended"))?;
        let frame = frame.map_err(failed("reading a tail"))?;
        for byte in frame.data_ref().into_iter().flatten() {
            if *byte == b'\n' {
                seen += u64::from(line.starts_with(b"id:"));
                line.clear();
            } else {
                line.push(*byte);
            }
        }
    }
    Ok((sender, body))
}
