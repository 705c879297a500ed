//! Links to the other nodes: one TCP connection for each pair, and what comes and goes on it.
//!
//! The node with the lower number calls; the other one only knocks, to learn whether a node that is gone
//! refuses or is silent. A connection has a *life*, a number of its own. When it ends, everybody who
//! used it hears so before a packet of the next one is read:
//!
//! ```text
//! call/accept -> TLS, if it is configured -> handshake (cookie) -> hello -> connected(life) -> packets ... -> lost(life) -> call again
//! ```
//!
//! Sending never waits: who sends bounds what it sends (windows of agents, credit of consumers), and
//! looks at [`Peer::is_crowded`] where it cannot. A peer that takes nothing is found dead by membership.

mod calls;
mod connect;
mod serve;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use broker::Name;
use cluster::link::{ClusterId, Generation, Hello, Incarnation, Lane, Link, LinkLimits, Packet, Versions};
use cluster::metadata_log::NodeId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};

pub(crate) use connect::shake_hands_as_caller;
pub(crate) use serve::EVENTS;

use crate::identity::Identity;
use crate::node::Node;
use crate::node_tls::NodeTls;

/// Above this many bytes waiting for one peer, agents of its queues take no more.
const CROWDED_BYTES: usize = 64 << 20;

/// What membership hears of links.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    Connected { peer: NodeId, incarnation: u64 },
    /// `refused`: nobody listens there any more.
    Lost { peer: NodeId, refused: bool },
    Refused { peer: NodeId },
    Heartbeat { peer: NodeId, body: bytes::Bytes },
    /// Who should be there may have changed.
    Members,
}

/// See the file's head.
pub(crate) struct Peers {
    node: OnceLock<Weak<Node>>,
    hello: Hello,
    cookie: cluster::handshake::Cookie,
    tls: Option<NodeTls>,
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    events: mpsc::UnboundedSender<PeerEvent>,
    lives: AtomicU64,
    calls: calls::Calls,
}

/// Another node of the cluster.
pub(crate) struct Peer {
    pub id: NodeId,
    pub name: Name,
    address: Mutex<String>,
    /// The present connection, or none.
    line: Mutex<Option<Arc<Line>>>,
    /// Held while a packet is taken and while a connection goes: nothing that came over one is taken after
    /// everybody has heard that it is lost.
    turn: Mutex<()>,
    /// Of the present connection; 0 is none.
    life: AtomicU64,
    /// Gone from the cluster: no more calls.
    dismissed: Notify,
    is_dismissed: std::sync::atomic::AtomicBool,
}

/// One connection.
struct Line {
    life: u64,
    incarnation: u64,
    outgoing: Mutex<Link>,
    queued: AtomicUsize,
    wake: Notify,
    room: Notify,
    end: Notify,
    ended: std::sync::atomic::AtomicBool,
    remote: Mutex<Option<std::net::SocketAddr>>,
    local: Mutex<Option<std::net::SocketAddr>>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Line {
    fn new(life: u64, incarnation: u64) -> Line {
        Line {
            life,
            incarnation,
            outgoing: Mutex::new(Link::new(LinkLimits::default())),
            queued: AtomicUsize::new(0),
            wake: Notify::new(),
            room: Notify::new(),
            end: Notify::new(),
            ended: std::sync::atomic::AtomicBool::new(false),
            remote: Mutex::new(None),
            local: Mutex::new(None),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    fn hang_up(&self) {
        self.ended.store(true, Ordering::Release);
        self.end.notify_one();
        self.wake.notify_one();
        self.room.notify_waiters();
    }
}

impl Peer {
    /// The number of the present connection; `None` when there is none.
    pub(crate) fn life(&self) -> Option<u64> {
        match self.life.load(Ordering::Acquire) {
            0 => None,
            life => Some(life),
        }
    }

    /// Whether this is the present connection.
    fn has(&self, line: &Arc<Line>) -> bool {
        self.line.lock().as_ref().is_some_and(|present| Arc::ptr_eq(present, line))
    }

    /// Sends a packet, if there is a connection.
    pub(crate) fn send(&self, lane: Lane, packet: Vec<u8>) -> bool {
        let line = self.line.lock().as_ref().map(Arc::clone);
        let Some(line) = line else { return false };
        let mut link = line.outgoing.lock();
        link.send(lane, Packet::from(packet));
        line.queued.store(link.queued_bytes(), Ordering::Relaxed);
        drop(link);
        line.wake.notify_one();
        true
    }

    /// Whether so much waits for this peer that nobody should add to it.
    pub(crate) fn is_crowded(&self) -> bool {
        self.line.lock().as_ref().is_some_and(|line| line.queued.load(Ordering::Relaxed) > CROWDED_BYTES)
    }

    /// Waits until the peer has taken some, or is gone.
    pub(crate) async fn room(&self) {
        loop {
            let line = self.line.lock().as_ref().map(Arc::clone);
            let Some(line) = line else { return };
            let room = line.room.notified();
            if line.queued.load(Ordering::Relaxed) <= CROWDED_BYTES || line.ended.load(Ordering::Acquire) {
                return;
            }
            room.await;
        }
    }

    /// Ends the present connection; it is made anew.
    pub(crate) fn hang_up(&self) {
        if let Some(line) = &*self.line.lock() {
            line.hang_up();
        }
    }

    /// Ends the present connection if it is with this life of the peer, or an earlier one.
    pub(crate) fn hang_up_on(&self, life: u64) {
        if let Some(line) = self.line.lock().as_ref().filter(|line| line.incarnation <= life) {
            line.hang_up();
        }
    }

    /// What an operator may see.
    pub(crate) fn status(&self) -> Option<management::node::Link> {
        let line = self.line.lock().as_ref().map(Arc::clone)?;
        let (remote, local) = ((*line.remote.lock())?, (*line.local.lock())?);
        Some(management::node::Link {
            peer: Arc::clone(&self.name),
            peer_address: remote.ip().to_string(),
            peer_port: remote.port(),
            own_address: local.ip().to_string(),
            own_port: local.port(),
            received_bytes: line.received_bytes.load(Ordering::Relaxed),
            sent_bytes: line.sent_bytes.load(Ordering::Relaxed),
        })
    }
}

impl Peers {
    pub(crate) fn new(
        identity: &Identity,
        cookie: cluster::handshake::Cookie,
        tls: Option<NodeTls>,
    ) -> (Arc<Peers>, mpsc::UnboundedReceiver<PeerEvent>) {
        let hello = Hello {
            versions: Versions::OURS,
            node: identity.id(),
            name: identity.name.clone(),
            incarnation: Incarnation(identity.incarnation),
            cluster: ClusterId(identity.cluster),
            generation: Generation(identity.generation),
        };
        let (events, heard) = mpsc::unbounded_channel();
        let peers = Peers {
            node: OnceLock::new(),
            hello,
            cookie,
            tls,
            peers: RwLock::new(BTreeMap::new()),
            events,
            lives: AtomicU64::new(1),
            calls: calls::Calls::default(),
        };
        (Arc::new(peers), heard)
    }

    /// The node behind; packets of before are not served.
    pub(crate) fn serve(&self, node: &Arc<Node>) {
        let _ = self.node.set(Arc::downgrade(node));
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.node.get()?.upgrade()
    }

    pub(crate) fn me(&self) -> NodeId {
        self.hello.node
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().get(&id).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.read().values().map(Arc::clone).collect()
    }

    /// A number that no connection and no queue driver of this process has had.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, event: PeerEvent) {
        let _ = self.events.send(event);
    }

    /// Who the other members are, and where. Those that are new are called; those that are missing are
    /// left alone.
    pub(crate) fn arrange(self: &Arc<Self>, members: &[(NodeId, Name, String)]) {
        let mut peers = self.peers.write();
        peers.retain(|id, peer| {
            let stays = members.iter().any(|(member, ..)| member == id);
            if !stays {
                peer.is_dismissed.store(true, Ordering::Release);
                peer.dismissed.notify_waiters();
                peer.hang_up();
            }
            stays
        });
        for (id, name, address) in members.iter().filter(|(id, ..)| *id != self.me()) {
            match peers.get(id) {
                Some(peer) => peer.address.lock().clone_from(address),
                None => {
                    let peer = Arc::new(Peer {
                        id: *id,
                        name: Arc::clone(name),
                        address: Mutex::new(address.clone()),
                        line: Mutex::new(None),
                        turn: Mutex::new(()),
                        life: AtomicU64::new(0),
                        dismissed: Notify::new(),
                        is_dismissed: std::sync::atomic::AtomicBool::new(false),
                    });
                    peers.insert(*id, Arc::clone(&peer));
                    tokio::spawn(connect::keep_in_touch(Arc::clone(self), peer));
                }
            }
        }
        drop(peers);
        self.tell(PeerEvent::Members);
    }

    /// The node stops: all connections end, none is made.
    pub(crate) fn close(&self) {
        for peer in std::mem::take(&mut *self.peers.write()).into_values() {
            peer.is_dismissed.store(true, Ordering::Release);
            peer.dismissed.notify_waiters();
            peer.hang_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What a peer sends first.
    fn heartbeat(body: &[u8]) -> BytesMut {
        let mut link = Link::new(LinkLimits::default());
        link.send(Lane::Control, Packet::from(crate::wire::heartbeat(body)));
        let mut bytes = Vec::new();
        link.fill(&mut bytes, usize::MAX);
        BytesMut::from(&bytes[..])
    }

    /// An end of a connection, and the other one.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
        (here.expect("it connects"), there.expect("it is accepted").0)
    }

    #[tokio::test]
    async fn nothing_is_taken_from_a_connection_after_another_has_its_place() {
        let cookie = cluster::handshake::Cookie::new(b"a secret of sixteen").expect("it is a cookie");
        let (peers, mut heard) = Peers::new(&Identity::founder("a@here", || 1), cookie, None);
        peers.arrange(&[(NodeId(9), "b@there".into(), "127.0.0.1:1".to_owned())]);
        let peer = peers.get(NodeId(9)).expect("it is a member");
        let ((first, _first_end), (second, _second_end)) = (connection().await, connection().await);
        // What the first has brought is not read yet when the second comes.
        peers.install(Arc::clone(&peer), 1, first, heartbeat(b"first"));
        peers.install(peer, 1, second, heartbeat(b"second"));
        let body = loop {
            if let PeerEvent::Heartbeat { body, .. } = heard.recv().await.expect("something is heard") {
                break body;
            }
        };
        assert_eq!(&body[..], b"second");
    }
}
