//! Connections: accepted up to a bound, each with its own bounds of size and time.

use std::{convert::Infallible, future::poll_fn, io, sync::Arc, time::Duration};

use axum::{Router, response::Response};
use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::{state::App, timed::Timed, tls::Tls, unread::Unread};

/// How long accepting rests when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long a connection that is turned away has to take the answer.
const TURNED_AWAY_MAX: Duration = Duration::from_secs(1);
/// How long a client may go on sending what nobody reads, while it is told why.
const LINGER_MAX: Duration = Duration::from_millis(500);
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
    let unread = Unread::default();
    let service = PerConnection { router: TowerToHyperService::new(router), unread: unread.clone() };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_max)
        .max_buf_size(limits.header_bytes_max)
        .max_headers(HEADERS_MAX)
        // A client that has said all it had to say still gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(Timed::new(stream, limits.write_stall_max)), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        () = app.stopping() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
    close(connection.into_parts().io.into_inner(), unread.is_left()).await;
}

/// Closes a connection. If the client is still sending what nobody reads, closing at once would reset the connection, and the
/// client would lose the answer that says why: what it sends is thrown away for a moment.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, sending: bool) {
    // Whoever is gone needs no farewell.
    let _ = stream.shutdown().await;
    if !sending {
        return;
    }
    let mut thrown_away = [0; 8 << 10];
    let _ = timeout(LINGER_MAX, async { while let Ok(1..) = stream.read(&mut thrown_away).await {} }).await;
}

/// The router, told of the connection that a request came by.
struct PerConnection {
    router: TowerToHyperService<Router>,
    unread: Unread,
}

impl Service<Request<Incoming>> for PerConnection {
    type Response = Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.unread.clone());
        self.router.call(request)
    }
}
