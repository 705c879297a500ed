//! The port between nodes and for `ctl`: the cookie is proved first, then HTTP for the operator.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cluster::handshake::{Acceptor, Cookie, Kind, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::host::{HostFace, ProcessHost, peer_routes};
use crate::http::{self, Who};

/// A handshake that is not done by then is broken off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts tools and nodes for as long as the process lives.
pub(crate) async fn accept(host: Arc<ProcessHost>, listener: TcpListener) {
    let stopped = management::host_router(Arc::new(HostFace(Arc::clone(&host))));
    let peers = peer_routes(Arc::clone(&host));
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (host, stopped, peers) = (Arc::clone(&host), stopped.clone(), peers.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let mut stream = stream;
            let (name, cookie) = (host.config.node_name.to_string(), host.cookie.clone());
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, shake_hands(&mut stream, &name, cookie)).await {
                Ok(Ok((peer, _))) if peer.kind == Kind::Control => {
                    // The application may start or stop while the tool is connected.
                    let choose = move |request: axum::extract::Request| {
                        let router = host.router().unwrap_or_else(|| stopped.clone());
                        router.oneshot(request)
                    };
                    http::serve(stream, peers.fallback(choose), Who::Operator).await;
                }
                Ok(Ok((peer, input))) => take_link(&host, &peer.name, stream, input).await,
                // A node that calls nobody knocks to learn whether somebody listens.
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    tracing::debug!("node port: {address} hung up during the handshake");
                }
                Ok(Err(error)) => tracing::warn!("node port: {address} was refused: {error}"),
                Err(_) => tracing::debug!("node port: {address} fell silent during the handshake"),
            }
        });
    }
}

/// A node wants a link: it has one with the node that runs or starts here.
async fn take_link(host: &ProcessHost, name: &str, stream: TcpStream, input: BytesMut) {
    let Some(node) = host.node() else {
        tracing::debug!("node port: {name} wants a link, but the application is stopped");
        return;
    };
    if let Err(error) = node.peers.accept(stream, input).await {
        tracing::info!("node port: no link with {name}: {error}");
    }
}

async fn shake_hands(stream: &mut TcpStream, name: &str, cookie: Cookie) -> std::io::Result<(Peer, BytesMut)> {
    let mut nonce = [0; cluster::handshake::NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
    let mut acceptor = Acceptor::new(name, cookie, nonce);
    let (mut input, mut output) = (BytesMut::with_capacity(512), Vec::new());
    loop {
        let step = acceptor.receive(&mut input, &mut output);
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        match step {
            Ok(Some(peer)) => return Ok((peer, input)),
            Ok(None) => {}
            Err(error) => return Err(std::io::Error::other(error)),
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
