//! Listening sockets for AMQP clients, and the accept loops.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::connection::Peer;
use broker::status::TlsStatus;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::{Listener, TcpOptions};
use crate::connection_driver;
use crate::node::{Node, Shut};
use crate::proxy_protocol;
use crate::tls::Tls;

/// Binds a listener; without an address it takes IPv6 and IPv4, or IPv4 alone where there is no IPv6.
pub(crate) fn bind(listener: Listener, options: &TcpOptions) -> Result<TcpListener> {
    let address = SocketAddr::new(listener.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), listener.port);
    match bind_to(address, options) {
        Err(_) if listener.ip.is_none() => {
            bind_to(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), listener.port), options)
        }
        other => other,
    }
    .with_context(|| format!("cannot listen on {listener}: is another broker running, or the port reserved?"))
}

fn bind_to(address: SocketAddr, options: &TcpOptions) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog.max(1024)).unwrap_or(1024))?;
    Ok(TcpListener::from_std(socket.into())?)
}

/// Accepts AMQP clients until the node stops. While the node is shut the port is closed.
pub(crate) async fn accept_amqp(node: Arc<Node>, listener: TcpListener, tls: Option<Arc<Tls>>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut shut = node.shut.subscribe();
    let mut listener = Some(listener);
    loop {
        listener = match listener {
            Some(open) => accept_on(&node, open, tls.as_ref(), &mut shut).await,
            None => open_again(&node, address, &mut shut).await,
        };
        if node.is_stopping() {
            return;
        }
    }
}

/// Accepts clients; gives the listener back, or closes it when the node is shut.
async fn accept_on(
    node: &Arc<Node>,
    listener: TcpListener,
    tls: Option<&Arc<Tls>>,
    shut: &mut watch::Receiver<Shut>,
) -> Option<TcpListener> {
    let accepted = tokio::select! {
        accepted = listener.accept() => accepted,
        _ = shut.wait_for(|shut| shut.is_shut()) => return None,
        () = node.stopped() => return Some(listener),
    };
    match accepted {
        Ok(_) if node.is_stopping() => {}
        Ok((stream, _)) => match (prepare(&stream, node), tls) {
            (None, _) => {}
            (Some(peer), tls) if node.config.network.proxy_protocol => {
                drop(tokio::spawn(serve_behind_proxy(Arc::clone(node), stream, peer, tls.cloned())));
            }
            (Some(peer), None) => drop(tokio::spawn(serve_plain(Arc::clone(node), stream, peer))),
            (Some(peer), Some(tls)) => {
                drop(tokio::spawn(serve_tls(Arc::clone(node), stream, peer, Arc::clone(tls))));
            }
        },
        Err(error) => {
            tracing::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Some(listener)
}

/// Waits until clients are let in again, and opens the port.
async fn open_again(
    node: &Arc<Node>,
    address: SocketAddr,
    shut: &mut watch::Receiver<Shut>,
) -> Option<TcpListener> {
    tokio::select! {
        _ = shut.wait_for(|shut| !shut.is_shut()) => {}
        () = node.stopped() => return None,
    }
    match bind_to(address, &node.config.network.tcp_listen_options) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!("cannot listen on {address} again: {error:#}");
            tokio::time::sleep(Duration::from_millis(500)).await;
            None
        }
    }
}

/// A proxy speaks first, and says for whom.
async fn serve_behind_proxy(node: Arc<Node>, mut stream: TcpStream, mut peer: Peer, tls: Option<Arc<Tls>>) {
    let patience = node.config.network.handshake_timeout.unwrap_or(Duration::MAX);
    match tokio::time::timeout(patience, proxy_protocol::read(&mut stream)).await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some((client, server)))) => (peer.address, peer.host) = (canonical(client), canonical(server)),
        Ok(Err(error)) => {
            tracing::info!("closing connection of {}: {error}", peer.address);
            return;
        }
        Err(_) => {
            tracing::info!("closing connection of {}: no PROXY header came in time", peer.address);
            return;
        }
    }
    match tls {
        None => serve_plain(node, stream, peer).await,
        Some(tls) => serve_tls(node, stream, peer, tls).await,
    }
}

async fn serve_plain(node: Arc<Node>, stream: TcpStream, peer: Peer) {
    let id = node.next_connection();
    connection_driver::serve(node, id, stream, peer).await;
}

async fn serve_tls(node: Arc<Node>, stream: TcpStream, mut peer: Peer, tls: Arc<Tls>) {
    let patience = node.config.network.ssl_handshake_timeout;
    let stream = match tokio::time::timeout(patience, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!("TLS with {} failed: {error}", peer.address);
            return;
        }
        Err(_) => {
            tracing::info!("TLS with {} took longer than {} ms", peer.address, patience.as_millis());
            return;
        }
    };
    let (_, session) = stream.get_ref();
    peer.certificate_name = tls.login_name(session, node.config.access.ssl_cert_login);
    let seen = tls.session(session);
    let of_peer = |part: fn(&crate::tls::PeerCertificate) -> &String| seen.peer.as_ref().map(|p| part(p).clone());
    peer.tls = Some(Arc::new(TlsStatus {
        peer_cert_subject: of_peer(|p| &p.subject),
        peer_cert_issuer: of_peer(|p| &p.issuer),
        peer_cert_validity: of_peer(|p| &p.validity),
        protocol: seen.protocol,
        key_exchange: seen.key_exchange,
        cipher: seen.cipher,
        hash: seen.hash,
    }));
    let id = node.next_connection();
    connection_driver::serve(node, id, stream, peer).await;
}

fn prepare(stream: &TcpStream, node: &Node) -> Option<Peer> {
    let options = &node.config.network.tcp_listen_options;
    let _ = stream.set_nodelay(options.nodelay);
    if options.keepalive == Some(true) {
        let _ = socket2::SockRef::from(stream).set_keepalive(true);
    }
    let address = canonical(stream.peer_addr().ok()?);
    let host = canonical(stream.local_addr().ok()?);
    Some(Peer { address, host, tls: None, certificate_name: None })
}

/// An IPv4 address as such, also where it came by an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
