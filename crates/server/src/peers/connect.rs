//! Calling peers, knocking at those that call, and the two greetings of a connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cluster::handshake::{Cookie, Initiator, Kind, NONCE_BYTES};
use cluster::link::{Hello, Lane, Link, LinkLimits, Packet, agree};
use cluster::metadata_log::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Peer, PeerEvent, Peers};
use crate::node_tls::{NodeStream, explained};

/// A connection that is not greeted by then is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two calls that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// A link that ends before this age was cut short; after so many in a row pauses are longest.
const LASTING: Duration = Duration::from_secs(1);
const CUT_SHORT_MAX: u32 = 5;
/// Calls that fail are told once in so many, and not when a node has just come or is going.
const COMPLAIN_EVERY: u32 = 300;
const COMPLAIN_FROM: u32 = 30;

/// Keeps a connection to a peer, for as long as it is a member.
pub(super) async fn keep_in_touch(peers: Arc<Peers>, peer: Arc<Peer>) {
    let calls = peers.me() < peer.id;
    let (mut failures, mut cut_short) = (0_u32, 0_u32);
    let mut greeted: Option<tokio::time::Instant> = None;
    while !peer.is_dismissed.load(Ordering::Acquire) {
        if peer.life().is_some() {
            failures = 0;
            let _ = tokio::time::timeout(PAUSE, peer.dismissed.notified()).await;
            continue;
        }
        if let Some(at) = greeted.take() {
            // Who greets and hangs up, as at a node that it has forgotten, is called less and less often.
            cut_short = if at.elapsed() < LASTING { (cut_short + 1).min(CUT_SHORT_MAX) } else { 0 };
            if cut_short > 0 {
                let _ = tokio::time::timeout(PAUSE * (1 << cut_short), peer.dismissed.notified()).await;
            }
        }
        let address = peer.address.lock().clone();
        match tokio::time::timeout(PATIENCE, TcpStream::connect(address.as_str())).await {
            Ok(Ok(stream)) if calls => match greet(&peers, &peer, stream).await {
                Ok(()) => {
                    greeted = Some(tokio::time::Instant::now());
                    continue;
                }
                Err(error) if failures % COMPLAIN_EVERY == COMPLAIN_FROM => {
                    tracing::warn!("no link to node {} at {address}: {error}", peer.name);
                }
                Err(_) => {}
            },
            // It listens; it will call.
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                peers.tell(PeerEvent::Refused { peer: peer.id });
            }
            Ok(Err(_)) | Err(_) => {}
        }
        failures += 1;
        let _ = tokio::time::timeout(PAUSE, peer.dismissed.notified()).await;
    }
}

/// TLS, if it is configured, and both greetings, as the one who calls; then the connection is served.
async fn greet(peers: &Arc<Peers>, peer: &Arc<Peer>, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match &peers.tls {
        None => greet_over(peers, peer, stream).await,
        Some(tls) => greet_over(peers, peer, in_time(tls.call(&peer.name, stream)).await?).await,
    }
}

async fn greet_over<S: NodeStream>(peers: &Arc<Peers>, peer: &Arc<Peer>, mut stream: S) -> std::io::Result<()> {
    let (theirs, input) = in_time(async {
        let rest = shake_hands_as_caller(&mut stream, &peers.hello.name, Some(&peer.name), &peers.cookie, Kind::NodeLink).await?;
        exchange_hellos(&mut stream, rest, &peers.hello).await
    })
    .await?;
    peers.connected(theirs, stream, input)
}

async fn in_time<T>(work: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

/// Proves the cookie to a node and has it prove the same.
pub(crate) async fn shake_hands_as_caller<S: NodeStream>(
    stream: &mut S,
    own_name: &str,
    expected: Option<&str>,
    cookie: &Cookie,
    kind: Kind,
) -> std::io::Result<BytesMut> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
    let mut output = Vec::new();
    let mut initiator = Initiator::new(kind, own_name, expected, cookie.clone(), nonce, &mut output);
    let mut input = BytesMut::with_capacity(512);
    loop {
        if !output.is_empty() {
            stream.write_all(&output).await?;
            stream.flush().await?;
            output.clear();
        }
        match initiator.receive(&mut input, &mut output) {
            Ok(Some(_)) => return Ok(input),
            Ok(None) => {}
            Err(error) => return Err(std::io::Error::other(error)),
        }
        // With TLS 1.3 it is here that a caller hears that its certificate is not accepted.
        if output.is_empty() && stream.read_buf(&mut input).await.map_err(explained)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Each side says who it is before anything else.
pub(super) async fn exchange_hellos<S: NodeStream>(
    stream: &mut S,
    mut input: BytesMut,
    ours: &Hello,
) -> std::io::Result<(Hello, BytesMut)> {
    let mut link = Link::new(LinkLimits::default());
    link.send(Lane::Control, Packet::from(Bytes::from(ours.encode())));
    let mut output = Vec::new();
    link.fill(&mut output, usize::MAX);
    stream.write_all(&output).await?;
    stream.flush().await?;
    loop {
        if let Some((_, packet)) = link.receive(&mut input).map_err(std::io::Error::other)? {
            let theirs = Hello::decode(&packet).map_err(std::io::Error::other)?;
            agree(ours, &theirs).map_err(std::io::Error::other)?;
            return Ok((theirs, input));
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

impl Peers {
    /// Takes a connection from a node that has proved the cookie.
    pub(crate) async fn accept<S: NodeStream>(self: &Arc<Self>, mut stream: S, input: BytesMut) -> std::io::Result<()> {
        let (theirs, input) = in_time(exchange_hellos(&mut stream, input, &self.hello)).await?;
        self.connected(theirs, stream, input)
    }

    fn connected<S: NodeStream>(self: &Arc<Self>, theirs: Hello, stream: S, input: BytesMut) -> std::io::Result<()> {
        let id: NodeId = theirs.node;
        let peer = self.get(id).ok_or_else(|| {
            std::io::Error::other(format!("node {} with the number {id} is not a member of this cluster", theirs.name))
        })?;
        if *peer.name != *theirs.name {
            let text = format!("node {} claims the number of {}", theirs.name, peer.name);
            return Err(std::io::Error::other(text));
        }
        self.install(peer, theirs.incarnation.0, stream, input);
        Ok(())
    }
}
