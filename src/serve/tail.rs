//! Live tails: events as they are committed, as server-sent events whose ids are positions.
//!
//! Each tail has a task that reads on and a bounded queue to its connection. A reader that takes nothing for a while is cut
//! off; it loses nothing, because it comes back with the id of the last event that it has.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use serde_json::json;
use tasklog_log::Position;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{answer::Answer, asked::Asked, events::Filter, problem::Problem, state::App};

/// Chunks on their way to one reader.
const CHUNKS_MAX: usize = 8;
/// Bytes of one chunk, unless a single event is longer.
const CHUNK_BYTES: usize = 64 << 10;
/// How long a tail leaves a store alone that did not answer.
const FAILED_PAUSE: Duration = Duration::from_millis(250);
/// What a reader should wait before it comes back.
const RETRY_MS: u32 = 1_000;

/// Begins a tail after a position.
pub(crate) async fn answer(asked: &Asked, filter: Filter, after: Position) -> Result<Answer, Problem> {
    let app = &asked.app;
    let Ok(permit) = Arc::clone(&app.tails).try_acquire_owned() else {
        return Err(Problem::busy(format!("{} tails are open", app.settings.limits.tails_max)));
    };
    // A position that the log does not have yet is reached, or told to be missing: nobody waits for it in silence.
    app.reach_after(after).await?;
    let head = app.blocking(crate::TaskStore::head).await?;
    let (chunks, receiver) = mpsc::channel(CHUNKS_MAX);
    let end = Arc::new(OnceLock::new());
    let tail = Tail { app: app.clone(), filter, sees_sensitive: asked.caller.sees_sensitive, chunks, at: after };
    let body = Chunks { receiver, end: Arc::clone(&end), _permit: permit };
    // The end of the chunks stands behind the reason.
    let open = tail.chunks.clone();
    tokio::spawn(async move {
        let reason = tail.run(head).await;
        tracing::debug!(reason = reason.0, "a tail ended: {}", reason.1);
        let data = json!({ "reason": reason.0, "detail": reason.1 });
        // Set once, here.
        let _ = end.set(Bytes::from(format!("event: end\ndata: {data}\n\n")));
        drop(open);
    });
    Ok(Answer::streaming("text/event-stream", Body::new(body)).at(head))
}

/// Why a tail ended.
type Reason = (&'static str, String);

struct Tail {
    app: App,
    filter: Filter,
    sees_sensitive: bool,
    chunks: mpsc::Sender<Bytes>,
    at: Position,
}

impl Tail {
    async fn run(mut self, head: Position) -> Reason {
        let app = self.app.clone();
        let hello = format!("retry: {RETRY_MS}\n: after event {}, the log is at event {head}\n\n", self.at);
        tokio::select! {
            reason = self.go_on(hello.into()) => reason,
            () = app.stopping() => ("stopping", "the service is stopping; come back with Last-Event-ID".into()),
        }
    }

    /// Sends on until that is not possible any more.
    async fn go_on(&mut self, hello: Bytes) -> Reason {
        let app = self.app.clone();
        let heartbeat = app.settings.limits.heartbeat;
        if let Err(reason) = self.send(hello).await {
            return reason;
        }
        let mut waiting = app.feed.wait(&app);
        loop {
            let page = match app.feed.page(&app, self.at).await {
                Ok(page) => page,
                Err(_) => {
                    // The store is away; whoever reads is kept informed that this end is alive.
                    tokio::time::sleep(FAILED_PAUSE.min(heartbeat)).await;
                    if let Err(reason) = self.send(Bytes::from_static(b": the store does not answer\n\n")).await {
                        return reason;
                    }
                    continue;
                }
            };
            let Some(last) = page.last() else {
                if let Err(reason) = self.idle(&mut waiting, heartbeat).await {
                    return reason;
                }
                continue;
            };
            let mut chunk = BytesMut::new();
            for told in page.events.iter().filter(|told| self.filter.wants(told.commit(), told.event())) {
                chunk.extend_from_slice(&told.sse(self.sees_sensitive));
                if chunk.len() >= CHUNK_BYTES
                    && let Err(reason) = self.send(chunk.split().freeze()).await
                {
                    return reason;
                }
            }
            if !chunk.is_empty()
                && let Err(reason) = self.send(chunk.freeze()).await
            {
                return reason;
            }
            self.at = last;
        }
    }

    /// Waits for more, and says now and then that it does.
    async fn idle(&mut self, waiting: &mut super::feed::Waiting, heartbeat: Duration) -> Result<(), Reason> {
        if tokio::time::timeout(heartbeat, waiting.beyond(self.at)).await.is_err() {
            // A reader that filters learns how far the log is: it may come back after that.
            self.send(format!(": at event {}\n\n", self.at).into()).await?;
        }
        Ok(())
    }

    async fn send(&self, chunk: Bytes) -> Result<(), Reason> {
        let stall = self.app.settings.limits.tail_stall_max;
        match tokio::time::timeout(stall, self.chunks.send(chunk)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(("gone", "the reader is gone".into())),
            Err(_) => {
                let detail = format!("nothing was read for {} ms; come back with Last-Event-ID", stall.as_millis());
                Err(("slow", detail))
            }
        }
    }
}

/// What goes to the connection: chunks, and at their end the reason.
struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    end: Arc<OnceLock<Bytes>>,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(chunk) = self.receiver.poll_recv(cx) else { return Poll::Pending };
        // Taken out, so that it is told once.
        let chunk = chunk.or_else(|| std::mem::take(&mut self.end).get().cloned());
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
