//! A stream of commands, one a line, answered line by line in order, both ways at once.
//!
//! One task reads lines and queues them; another one waits for their answers and writes them. Between the two only so many
//! are on their way: a client that does not read its answers is not read from either. The stream ends early when the
//! store fails, the service stops, or the body breaks a bound; then its last line is `{"ended":{…}}` and says why and after
//! which line, and every line up to there has been answered.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    answer::Answer, asked::Asked, body::Room, channel::Channel, commands::with_clock, problem::Problem, state::App,
};
use crate::{
    Error, Rejection, TaskStore,
    engine::{Request, Stream},
    store::QueuedAnswer,
    wire::{self, answer_line},
};

/// Lines on their way, each queued and not answered yet.
const IN_FLIGHT_MAX: usize = 512;
/// Chunks of answers on their way to the client.
const CHUNKS_MAX: usize = 8;
/// Bytes of one chunk of answers, unless a single one is longer.
const CHUNK_BYTES: usize = 16 << 10;

/// A line on its way.
struct Sent {
    number: u64,
    answer: Result<QueuedAnswer, Error>,
}

/// Why a stream ended early.
struct Ended {
    kind: &'static str,
    message: String,
    after_line: u64,
}

/// Begins to answer a stream.
pub(crate) async fn answer(asked: &Asked, mut body: Body) -> Result<Answer, Problem> {
    let app = &asked.app;
    let store = app.store()?;
    if let Some(why) = store.read_only() {
        return Err(Error::from(tasklog_log::StoreError::ReadOnly(why.to_owned())).into());
    }
    let max = app.settings.limits.stream_bytes_max;
    let said = asked.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|said| said > max) {
        return Err(Problem::too_large(format!("the stream: at most {max} bytes")));
    }
    let Ok(permit) = Arc::clone(&app.streams).try_acquire_owned() else {
        return Err(Problem::busy(format!("{} streams are open", app.settings.limits.streams_max)));
    };
    // A client that asks whether it may go on sends nothing until it is told, and that is told only before the answer.
    let buffer = match asked.headers.contains_key(header::EXPECT) {
        true => first_bytes(app, &mut body).await?,
        false => BytesMut::new(),
    };
    let (sent, answers) = mpsc::channel(IN_FLIGHT_MAX);
    let (chunks, receiver) = mpsc::channel(CHUNKS_MAX);
    let reader = Reader {
        app: app.clone(),
        body,
        bytes: buffer.len() as u64,
        buffer,
        number: 0,
        stream: Stream::default(),
        sent,
    };
    let reading = tokio::spawn(reader.run());
    tokio::spawn(write(app.clone(), answers, chunks, reading, permit));
    let body = Body::new(Channel(receiver));
    Ok(Answer::streaming("application/x-ndjson", body).going_on().at(app.seen()))
}

async fn first_bytes(app: &App, body: &mut Body) -> Result<BytesMut, Problem> {
    match tokio::time::timeout(app.settings.limits.stream_idle_max, body.frame()).await {
        Err(_) => Err(Problem::body_too_slow()),
        Ok(None) => Ok(BytesMut::new()),
        Ok(Some(Err(error))) => Err(Problem::malformed(format!("reading the body: {error}"))),
        Ok(Some(Ok(frame))) => Ok(frame.into_data().map(BytesMut::from).unwrap_or_default()),
    }
}

/// Reads lines and queues them.
struct Reader {
    app: App,
    body: Body,
    buffer: BytesMut,
    bytes: u64,
    number: u64,
    stream: Stream,
    sent: mpsc::Sender<Sent>,
}

/// What a reader met.
enum Met {
    Line(Bytes),
    TooLong,
    End,
}

impl Reader {
    async fn run(mut self) -> Option<Ended> {
        let app = self.app.clone();
        let store = app.store().ok()?;
        loop {
            let met = tokio::select! {
                met = self.line() => met,
                () = app.stopping() => return Some(self.ended("busy", "the service is stopping")),
            };
            let text = match met {
                Err(ended) => return Some(ended),
                Ok(Met::End) => return None,
                Ok(Met::TooLong) => {
                    let max = app.settings.limits.command_bytes_max;
                    Err(format!("column 1: the line is longer than {max} bytes"))
                }
                Ok(Met::Line(line)) if line.trim_ascii().is_empty() => {
                    self.number += 1;
                    continue;
                }
                Ok(Met::Line(line)) => match std::str::from_utf8(&line) {
                    Ok(text) => Ok(text.to_owned()),
                    Err(error) => Err(format!("column {}: not UTF-8", error.valid_up_to() + 1)),
                },
            };
            self.number += 1;
            let number = self.number;
            let answer = queue(store, &self.stream, number, text).await;
            // Nobody writes answers any more: the store failed, or the client is gone.
            if self.sent.send(Sent { number, answer }).await.is_err() {
                return None;
            }
        }
    }

    fn ended(&self, kind: &'static str, message: impl Into<String>) -> Ended {
        Ended { kind, message: message.into(), after_line: self.number }
    }

    /// The next line without its end. Can be dropped while it waits: what was read stays in the buffer.
    async fn line(&mut self) -> Result<Met, Ended> {
        let (line_max, stream_max, idle) = {
            let limits = &self.app.settings.limits;
            (limits.command_bytes_max, limits.stream_bytes_max, limits.stream_idle_max)
        };
        let mut room = Room::default();
        let mut looked_at = 0;
        let mut skipping = false;
        loop {
            if let Some(end) = self.buffer[looked_at..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(looked_at + end + 1).freeze();
                while matches!(line.last(), Some(b'\n' | b'\r')) {
                    line.truncate(line.len() - 1);
                }
                return Ok(if skipping || line.len() > line_max { Met::TooLong } else { Met::Line(line) });
            }
            if self.buffer.len() > line_max {
                skipping = true;
                self.buffer.clear();
            }
            looked_at = self.buffer.len();
            match self.more(idle).await? {
                Some(data) => {
                    self.bytes += data.len() as u64;
                    if self.bytes > stream_max {
                        let message = format!("the stream is longer than {stream_max} bytes; go on with another one");
                        return Err(self.ended("too_large", message));
                    }
                    if room.grow(&self.app, self.buffer.len() + data.len()).is_err() {
                        return Err(self.ended("busy", "too many large bodies are being read"));
                    }
                    self.buffer.extend_from_slice(&data);
                }
                None if skipping => return Ok(Met::TooLong),
                None if self.buffer.is_empty() => return Ok(Met::End),
                None => return Ok(Met::Line(self.buffer.split().freeze())),
            }
        }
    }

    async fn more(&mut self, idle: Duration) -> Result<Option<Bytes>, Ended> {
        loop {
            let frame = tokio::time::timeout(idle, self.body.frame()).await;
            match frame {
                Err(_) => {
                    let message = format!("nothing came for {} ms", idle.as_millis());
                    return Err(self.ended("timeout", message));
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.ended("malformed", format!("reading the body: {error}"))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

async fn queue(
    store: &TaskStore,
    stream: &Stream,
    number: u64,
    text: Result<String, String>,
) -> Result<QueuedAnswer, Error> {
    let parsed = text.map_err(Rejection::invalid).and_then(|text| wire::parse(&text));
    match parsed {
        Ok(parsed) => {
            let request = Request { stream: Some(stream.clone()), ..with_clock(store, parsed) };
            store.enqueue(request).await
        }
        Err(mut rejection) => {
            rejection.message = format!("line {number}: {}", rejection.message);
            Err(rejection.into())
        }
    }
}

/// Waits for answers in order, and writes them.
async fn write(
    app: App,
    mut answers: mpsc::Receiver<Sent>,
    chunks: mpsc::Sender<Bytes>,
    reading: tokio::task::JoinHandle<Option<Ended>>,
    _permit: OwnedSemaphorePermit,
) {
    let mut chunk = BytesMut::new();
    let mut failed = None;
    loop {
        let sent = match answers.try_recv() {
            Ok(sent) => sent,
            Err(_) => {
                // Nothing is waiting: whoever reads should not wait either.
                if flush(&chunks, &mut chunk).await.is_err() {
                    break;
                }
                let Some(sent) = answers.recv().await else { break };
                sent
            }
        };
        let Sent { number, answer } = sent;
        let answer = match answer {
            Ok(queued) => queued.answer().await,
            Err(error) => Err(error),
        };
        if let Ok(reply) = &answer {
            app.saw(reply.meta.position);
        }
        chunk.extend_from_slice(answer_line(number, &answer).as_bytes());
        chunk.extend_from_slice(b"\n");
        if let Err(error @ Error::Store(_)) = &answer {
            let message = "the store failed; of the lines after this one, those of its own group commit may have been done, and none behind them";
            failed = Some(Ended { kind: error.kind(), message: message.into(), after_line: number });
            break;
        }
        if chunk.len() >= CHUNK_BYTES && flush(&chunks, &mut chunk).await.is_err() {
            break;
        }
    }
    // The reader stops at the next line that it cannot hand over.
    drop(answers);
    let ended = match failed {
        None => reading.await.ok().flatten(),
        failed => {
            reading.abort();
            failed
        }
    };
    if let Some(Ended { kind, message, after_line }) = ended {
        let line = json!({ "ended": { "kind": kind, "message": message, "after_line": after_line } });
        chunk.extend_from_slice(format!("{line}\n").as_bytes());
    }
    // Whoever is gone has read enough.
    let _ = flush(&chunks, &mut chunk).await;
}

async fn flush(chunks: &mpsc::Sender<Bytes>, chunk: &mut BytesMut) -> Result<(), mpsc::error::SendError<Bytes>> {
    if chunk.is_empty() {
        return Ok(());
    }
    chunks.send(chunk.split().freeze()).await
}
