//! The port between nodes and for `ctl`: the cookie is proved first, inside TLS where nodes have it, then HTTP for the
//! operator.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::BytesMut;
use cluster::handshake::{Acceptor, Kind, Peer, Refusal};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::host::{HostFace, ProcessHost, peer_routes, refuse};
use crate::http::{self, Who};
use crate::node_tls::{Admitted, NodeStream, begins_with_tls, no_tls_here, no_tls_there};

/// A handshake that is not done by then is broken off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same refusal of the same host is not told again before.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// So many refusals are remembered.
const TOLD_MAX: usize = 1000;

struct NodePort {
    host: Arc<ProcessHost>,
    /// Serves tools while the application is stopped.
    stopped: Router,
    /// Serves other nodes.
    peers: Router,
    /// Refusals that were told, and when. Nodes that are set up wrongly call again and again.
    told: Mutex<HashMap<(IpAddr, String), Instant>>,
}

/// Accepts tools and nodes for as long as the process lives.
pub(crate) async fn accept(host: Arc<ProcessHost>, listener: TcpListener) {
    let stopped = management::host_router(Arc::new(HostFace(Arc::clone(&host))));
    let peers = peer_routes(Arc::clone(&host));
    let port = Arc::new(NodePort { host, stopped, peers, told: Mutex::default() });
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let port = Arc::clone(&port);
        tokio::spawn(async move {
            match port.meet(stream, address).await {
                Ok(()) => {}
                // A node that calls nobody knocks to learn whether somebody listens.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    tracing::debug!("node port: {address} hung up during the handshake");
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    tracing::debug!("node port: {address} fell silent during the handshake");
                }
                Err(error) => port.tell_refusal(address, &error.to_string()),
            }
        });
    }
}

impl NodePort {
    /// Serves one connection to its end. The error is of the handshakes.
    async fn meet(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) -> io::Result<()> {
        let _ = stream.set_nodelay(true);
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let by_tls = by(deadline, begins_with_tls(&stream)).await?;
        match (by_tls, &self.host.tls) {
            (true, Some(tls)) => {
                let stream = by(deadline, tls.answer(stream)).await?;
                self.talk(stream, address, Admitted::Everything, deadline).await
            }
            (true, None) => Err(no_tls_here()),
            (false, None) => self.talk(stream, address, Admitted::Everything, deadline).await,
            (false, Some(_)) => {
                let admitted = Admitted::without_tls(address, stream.local_addr()?);
                self.talk(stream, address, admitted, deadline).await
            }
        }
    }

    async fn talk<S: NodeStream>(
        self: &Arc<Self>,
        mut stream: S,
        address: SocketAddr,
        admitted: Admitted,
        deadline: Instant,
    ) -> io::Result<()> {
        let (peer, input) = by(deadline, self.shake_hands(&mut stream, admitted)).await?;
        if peer.kind == Kind::NodeLink {
            self.take_link(&peer.name, stream, input).await;
            return Ok(());
        }
        let peers = match admitted {
            Admitted::Everything => self.peers.clone(),
            Admitted::Tools | Admitted::Nothing => self.no_peers(address),
        };
        let (host, stopped) = (Arc::clone(&self.host), self.stopped.clone());
        // The application may start or stop while the tool is connected.
        let choose = move |request: Request| {
            let router = host.router().unwrap_or_else(|| stopped.clone());
            router.oneshot(request)
        };
        http::serve(stream, peers.fallback(choose), Who::Operator).await;
        Ok(())
    }

    async fn shake_hands<S: NodeStream>(&self, stream: &mut S, admitted: Admitted) -> io::Result<(Peer, BytesMut)> {
        let mut nonce = [0; cluster::handshake::NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let name = self.host.config.node_name.to_string();
        let mut acceptor = Acceptor::new(&name, self.host.cookie.clone(), nonce).taking(admitted.kinds());
        let (mut input, mut output) = (BytesMut::with_capacity(512), Vec::new());
        loop {
            let step = acceptor.receive(&mut input, &mut output);
            if !output.is_empty() {
                stream.write_all(&output).await?;
                stream.flush().await?;
                output.clear();
            }
            match step {
                Ok(Some(peer)) => return Ok((peer, input)),
                Ok(None) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A node wants a link: it has one with the node that runs or starts here.
    async fn take_link<S: NodeStream>(&self, name: &str, stream: S, input: BytesMut) {
        let Some(node) = self.host.node() else {
            tracing::debug!("node port: {name} wants a link, but the application is stopped");
            return;
        };
        if let Err(error) = node.peers.accept(stream, input).await {
            tracing::info!("node port: no link with {name}: {error}");
        }
    }

    /// Instead of the routes for other nodes, for one of this host that comes without TLS where nodes have it.
    fn no_peers(self: &Arc<Self>, address: SocketAddr) -> Router {
        Router::new().route("/api/peer/{question}", post(turn_away)).with_state((Arc::clone(self), address))
    }

    /// Logs why somebody was sent away, unless that was done a moment ago.
    fn tell_refusal(&self, address: SocketAddr, why: &str) {
        let now = Instant::now();
        let mut told = self.told.lock();
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        let before = told.insert((address.ip(), why.to_owned()), now);
        if before.is_some_and(|before| now < before + TELL_EVERY) {
            tracing::debug!("node port: {address} was refused: {why}");
        } else {
            tracing::warn!("node port: {address} was refused: {why}");
        }
    }
}

async fn turn_away(State((port, address)): State<(Arc<NodePort>, SocketAddr)>) -> Response {
    port.tell_refusal(address, &format!("it asks as nodes do, but {}", no_tls_there()));
    refuse(&format!("node {}: {}", port.host.config.node_name, Refusal::WantsTls))
}

/// Waits no longer than that.
async fn by<T>(deadline: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
