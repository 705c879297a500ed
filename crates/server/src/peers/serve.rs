//! One connection to a peer while it lasts: a task that reads and one that writes.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::QueueId;
use bytes::{Bytes, BytesMut};
use cluster::link::{Lane, Link, LinkLimits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Line, Peer, PeerEvent, Peers};
use crate::node_tls::NodeStream;
use crate::wire::{self, Packet, Service};

/// Handed to the socket at once: so much of data may be ahead of a heartbeat.
const WRITE_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 256 << 10;
/// How long a socket may refuse to take a farewell.
const FAREWELL: Duration = Duration::from_millis(200);

impl Peers {
    /// Makes a greeted connection the peer's own; one that was there before is over.
    pub(super) fn install<S: NodeStream>(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        incarnation: u64,
        stream: S,
        input: BytesMut,
    ) {
        let line = Arc::new(Line::new(self.next_life(), incarnation));
        *line.remote.lock() = stream.socket().peer_addr().ok();
        *line.local.lock() = stream.socket().local_addr().ok();
        let (read, write) = stream.halves();
        let before = peer.line.lock().as_ref().map(Arc::clone);
        if let Some(before) = before {
            before.hang_up();
            self.lost(&peer, &before, false);
        }
        *peer.line.lock() = Some(Arc::clone(&line));
        peer.life.store(line.life, Ordering::Release);
        tracing::info!("linked with node {}", peer.name);
        self.tell(PeerEvent::Connected { peer: peer.id, incarnation });
        if let Some(node) = self.node() {
            node.link_changed(peer.id);
        }
        tokio::spawn(write_on(Arc::clone(&line), write));
        let peers = Arc::clone(self);
        tokio::spawn(async move {
            let error = peers.read_on(&peer, &line, read, input).await;
            line.hang_up();
            if peers.lost(&peer, &line, true) {
                tracing::info!("the link with node {} is lost: {error}", peer.name);
            }
        });
    }

    /// A connection is over. Everybody hears it, once.
    fn lost(&self, peer: &Peer, line: &Arc<Line>, tell: bool) -> bool {
        let _turn = peer.turn.lock();
        if !peer.has(line) {
            return false;
        }
        *peer.line.lock() = None;
        peer.life.store(0, Ordering::Release);
        self.calls.lost(peer.id);
        if let Some(node) = self.node() {
            node.link_lost(peer.id);
        }
        if tell {
            self.tell(PeerEvent::Lost { peer: peer.id, refused: false });
        }
        true
    }

    async fn read_on(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        line: &Arc<Line>,
        mut read: impl AsyncRead + Unpin,
        mut input: BytesMut,
    ) -> String {
        let mut link = Link::new(LinkLimits::default());
        loop {
            loop {
                match link.receive(&mut input) {
                    Ok(Some((_, packet))) => {
                        let _turn = peer.turn.lock();
                        if !peer.has(line) {
                            return "another one took its place".to_owned();
                        }
                        if let Err(error) = self.take(peer, packet) {
                            return error;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error.to_string(),
                }
            }
            input.reserve(READ_BYTES);
            let got = tokio::select! {
                got = read.read_buf(&mut input) => got,
                () = line.end.notified() => return "it was ended here".to_owned(),
            };
            match got {
                Ok(0) => return "the other side hung up".to_owned(),
                Ok(count) => drop(line.received_bytes.fetch_add(count as u64, Ordering::Relaxed)),
                // TLS that ends without a farewell, as when a process dies.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return "the other side hung up".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Hands a packet to whom it concerns.
    fn take(self: &Arc<Self>, peer: &Arc<Peer>, packet: Bytes) -> Result<(), String> {
        let packet = wire::open(packet).ok_or("a packet of an unknown kind")?;
        match packet {
            Packet::Heartbeat(body) => self.tell(PeerEvent::Heartbeat { peer: peer.id, body }),
            Packet::Reply { call, body } => self.calls.answered(call, body),
            Packet::Call { call, service, body } => {
                let (peers, peer) = (Arc::clone(self), Arc::clone(peer));
                tokio::spawn(async move {
                    let Some(node) = peers.node() else { return };
                    let answer = match service {
                        Service::Metadata => match node.consensus() {
                            Some(consensus) => consensus.receive(&body).await,
                            None => return,
                        },
                        Service::Listing => crate::listing::answer(&node, &body).await,
                        Service::Seen => crate::seen::answer(&node, &body).await,
                    };
                    peer.send(service.lane(), wire::reply(call, &answer));
                });
            }
            Packet::Standing(standing) => {
                if let Some(node) = self.node() {
                    crate::partition::hear(&node, peer.id, standing);
                }
            }
            Packet::GiveWay { generation } => {
                if let Some(node) = self.node() {
                    node.give_way_to.store(generation, Ordering::Release);
                }
            }
            Packet::Broker(bytes) => {
                let Some(node) = self.node() else { return Ok(()) };
                let packet = broker::packet::Packet::decode(&bytes).map_err(|error| error.to_string())?;
                node.take_packet(peer, packet);
            }
            Packet::Replica { queue, body } => {
                if let Some(node) = self.node() {
                    crate::mirrors::take(&node, peer.id, QueueId(queue), body)?;
                }
            }
        }
        Ok(())
    }
}

async fn write_on(line: Arc<Line>, mut write: impl AsyncWrite + Unpin) {
    let mut out = Vec::with_capacity(WRITE_BYTES);
    loop {
        let wake = line.wake.notified();
        if line.ended.load(Ordering::Acquire) {
            break;
        }
        {
            let mut link = line.outgoing.lock();
            link.fill(&mut out, WRITE_BYTES);
            line.queued.store(link.queued_bytes(), Ordering::Relaxed);
        }
        if out.is_empty() {
            wake.await;
            continue;
        }
        // In this order: mostly the socket takes everything at once, and then no timer is set.
        let ended = tokio::select! {
            biased;
            written = write_out(&mut write, &out) => written.is_err(),
            () = until_ended(&line) => true,
        };
        if ended {
            break;
        }
        line.sent_bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        out.clear();
        line.room.notify_waiters();
    }
    line.hang_up();
    // Says farewell, where TLS has one.
    let _ = tokio::time::timeout(FAREWELL, write.shutdown()).await;
}

/// What TLS keeps back until it is flushed is on its way too.
async fn write_out(write: &mut (impl AsyncWrite + Unpin), out: &[u8]) -> std::io::Result<()> {
    write.write_all(out).await?;
    write.flush().await
}

/// The writer may be stuck in a socket that takes nothing: it is looked after now and then.
async fn until_ended(line: &Line) {
    while !line.ended.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Which lane events of queues and channels take.
pub(crate) const EVENTS: Lane = Lane::Data;
