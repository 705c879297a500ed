//! HTTP on a socket: the management router behind its listener, and behind the node port for `ctl`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use management::{Identity, Peer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::node::Node;
use crate::tls::Tls;

/// How long a client may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Accepts HTTP clients until the node stops.
pub(crate) async fn accept(node: Arc<Node>, listener: TcpListener, router: Router, tls: Option<Arc<Tls>>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = node.stopped() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let tls = tls.clone();
        node.run(async move {
            match tls {
                None => serve(stream, router, Who::Peer(peer)).await,
                Some(tls) => {
                    if let Ok(stream) = tls.acceptor().accept(stream).await {
                        serve(stream, router, Who::Peer(peer)).await;
                    }
                }
            }
        });
    }
}

/// Who is at the other end.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Peer(SocketAddr),
    /// Proved the cookie.
    Operator,
}

/// Serves one connection.
pub(crate) async fn serve<S>(stream: S, router: Router, who: Who)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: hyper::Request<Incoming>| {
        match who {
            Who::Peer(address) => {
                request.extensions_mut().insert(Peer(address.ip().to_canonical()));
            }
            Who::Operator => {
                request.extensions_mut().insert(Identity::Operator);
            }
        }
        request
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // A client that breaks off is no event worth a line.
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
}
