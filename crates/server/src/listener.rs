//! Listening sockets for AMQP clients, and the accept loops.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::connection::Peer;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::config::{Listener, TcpOptions};
use crate::connection_driver;
use crate::node::Node;

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

/// Accepts AMQP clients until the node stops.
pub(crate) async fn accept_amqp(node: Arc<Node>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = node.stopping.notified() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let node = Arc::clone(&node);
                tokio::spawn(async move {
                    if let Some(peer) = prepare(&stream, &node) {
                        let id = node.next_connection();
                        connection_driver::serve(node, id, stream, peer).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream, node: &Node) -> Option<Peer> {
    let options = &node.config.network.tcp_listen_options;
    let _ = stream.set_nodelay(options.nodelay);
    if options.keepalive == Some(true) {
        let _ = socket2::SockRef::from(stream).set_keepalive(true);
    }
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let address = plain(stream.peer_addr().ok()?);
    let host = plain(stream.local_addr().ok()?);
    Some(Peer { address, host, tls: None, certificate_name: None })
}
