//! Connections: accepted up to a bound, each with its own bounds of size and time.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::{state::App, timed::Timed, tls::Tls};

/// How long accepting rests when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long a connection that is turned away has to take the answer.
const TURNED_AWAY_MAX: Duration = Duration::from_secs(1);
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// What a connection beyond the bound is told.
const NO_ROOM: &str = r#"{"type":"urn:tasklog:problem:busy","title":"Not now","status":503,"detail":"there are too many connections","kind":"busy"}"#;

/// Accepts connections until the process stops. `alive` is held by every connection: when all are gone, its receiver ends.
pub(crate) async fn accept(
    app: App,
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
    room: Arc<Semaphore>,
    alive: mpsc::Sender<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.stopping() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !is_of_one_connection(&error) {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            if tls.is_none() {
                tokio::spawn(turn_away(stream));
            }
            continue;
        };
        // Answers are small; whoever waits for one should not wait for the next.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let (app, router, alive) = (app.clone(), router.clone(), alive.clone());
        let acceptor = tls.as_ref().map(|tls| tls.acceptor());
        tokio::spawn(async move {
            match acceptor {
                None => serve(&app, stream, router).await,
                Some(acceptor) => match timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => serve(&app, stream, router).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                },
            }
            drop((permit, alive));
        });
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn turn_away(mut stream: TcpStream) {
    // It came uninvited; whether it hears why makes no difference here.
    let _ = timeout(TURNED_AWAY_MAX, async {
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            NO_ROOM.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(NO_ROOM.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

async fn serve<S>(app: &App, stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &app.settings.limits;
    let stream = TokioIo::new(Timed::new(stream, limits.write_stall_max));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_max)
        .max_buf_size(limits.header_bytes_max)
        .max_headers(HEADERS_MAX)
        // A client that has said all it had to say still gets its answer.
        .half_close(true)
        .serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
