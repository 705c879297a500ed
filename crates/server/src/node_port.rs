//! The port between nodes and for `ctl`: the cookie is proved first, then HTTP for the operator.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::BytesMut;
use cluster::handshake::{Acceptor, Cookie, Kind, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http::{self, Who};
use crate::node::Node;

/// A handshake that is not done by then is broken off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts tools and nodes until the node stops.
pub(crate) async fn accept(node: Arc<Node>, listener: TcpListener, cookie: Cookie, router: Router) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = node.stopping.notified() => return,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (cookie, router, name) = (cookie.clone(), router.clone(), Arc::clone(&node.name));
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let mut stream = stream;
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, shake_hands(&mut stream, &name, cookie)).await {
                Ok(Ok(peer)) if peer.kind == Kind::Control => http::serve(stream, router, Who::Operator).await,
                Ok(Ok(peer)) => tracing::warn!("node {} at {address} wants a link, but this node forms no cluster", peer.name),
                Ok(Err(error)) => tracing::warn!("node port: {address} was refused: {error}"),
                Err(_) => tracing::debug!("node port: {address} fell silent during the handshake"),
            }
        });
    }
}

async fn shake_hands(stream: &mut TcpStream, name: &str, cookie: Cookie) -> std::io::Result<Peer> {
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
            Ok(Some(peer)) => return Ok(peer),
            Ok(None) => {}
            Err(error) => return Err(std::io::Error::other(error)),
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
