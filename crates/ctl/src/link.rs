//! The process and the network: the [`Outside`] of the real tool.
//!
//! One connection to the node port is made when the first question is asked and kept. It begins
//! with the handshake of `cluster::handshake`, in which the node proves itself too; then it carries
//! HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use cluster::handshake::{Initiator, Kind};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::call::own_name;
use crate::cookie::{Found, NoCookie};
use crate::outside::{Answer, Method, Outside, Request, Trouble};
use crate::target::Target;
use crate::{ForgetOffline, Refused};

/// A node that is alive answers its port sooner.
const CONNECT: Duration = Duration::from_secs(10);

/// This process.
pub(crate) struct Process {
    variables: BTreeMap<String, String>,
    forget_offline: ForgetOffline,
    runtime: Runtime,
    connection: Option<http1::SendRequest<Full<Bytes>>>,
    began: Instant,
}

impl Process {
    pub(crate) fn new(
        variables: BTreeMap<String, String>,
        forget_offline: ForgetOffline,
    ) -> std::io::Result<Process> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Process {
            variables,
            forget_offline,
            runtime,
            connection: None,
            began: Instant::now(),
        })
    }
}

impl Outside for Process {
    fn connect(
        &mut self,
        target: &Target,
        cookie: Result<Found, NoCookie>,
        limit: Option<Duration>,
    ) -> Result<(), Trouble> {
        if self
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.is_closed())
        {
            return Ok(());
        }
        let (own_name, own_host) = (own_name(self), self.host_name());
        let cookie = cookie.map_err(Trouble::NoCookie)?;
        let connection = connect(target, &own_host, &own_name, cookie);
        self.connection = Some(self.runtime.block_on(within(limit, connection))?);
        Ok(())
    }

    fn ask(&mut self, request: &Request, limit: Option<Duration>) -> Result<Answer, Trouble> {
        let closed = || Trouble::Broken("not connected".to_owned());
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        self.runtime
            .block_on(within(limit, exchange(connection, request)))
    }

    fn print(&mut self, text: &str) {
        // Whoever closes the pipe early has read enough.
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn complain(&mut self, text: &str) {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(count) if count > 0 => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            _ => None,
        }
    }

    fn read_all(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    fn host_name(&self) -> String {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        let given = || {
            self.variables
                .get("HOSTNAME")
                .cloned()
                .unwrap_or_else(|| "localhost".to_owned())
        };
        if name.is_empty() {
            given()
        } else {
            name.to_owned()
        }
    }

    fn process(&self) -> u32 {
        std::process::id()
    }

    fn is_running(&self, process: u32) -> bool {
        // A process that has ended but was not waited for is as good as gone.
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let state = status.lines().find_map(|line| line.strip_prefix("State:"));
        state.is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
    }

    fn can_connect(&mut self, host: &str, port: u16, limit: Duration) -> bool {
        let connect = async { timeout(limit, TcpStream::connect((host, port))).await };
        matches!(self.runtime.block_on(connect), Ok(Ok(_)))
    }

    fn resolve(&mut self, host: &str) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in (host, 0).to_socket_addrs().into_iter().flatten() {
            if !addresses.contains(&address.ip()) {
                addresses.push(address.ip());
            }
        }
        addresses
    }

    fn forget_offline(&mut self, own: &str, other: &str) -> Result<(), Refused> {
        (self.forget_offline)(own, other)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&mut self, span: Duration) {
        std::thread::sleep(span);
    }
}

/// Waits no longer than that.
async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    match limit {
        Some(limit) => timeout(limit, work).await.unwrap_or(Err(Trouble::TimedOut)),
        None => work.await,
    }
}

async fn connect(
    target: &Target,
    own_host: &str,
    own_name: &str,
    cookie: Found,
) -> Result<http1::SendRequest<Full<Bytes>>, Trouble> {
    let socket = timeout(CONNECT, dial(target, own_host));
    let mut socket = socket
        .await
        .unwrap_or_else(|_| Err(Trouble::Unreachable("timed out".to_owned())))?;
    let _ = socket.set_nodelay(true);
    timeout(
        CONNECT,
        introduce(&mut socket, own_name, &target.node, cookie),
    )
    .await
    .unwrap_or(Err(Trouble::Silent))?;
    let broken = |error: hyper::Error| Trouble::Broken(error.to_string());
    let (sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(broken)?;
    // Ends with the connection; what went wrong is told to the request that waits.
    tokio::spawn(connection);
    Ok(sender)
}

async fn dial(target: &Target, own_host: &str) -> Result<TcpStream, Trouble> {
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(addresses) => addresses.collect(),
        // A machine need not know its own name.
        Err(_) if is_own(&target.host, own_host) => {
            vec![SocketAddr::from(([127, 0, 0, 1], target.port))]
        }
        Err(error) => return Err(Trouble::Unresolved(error.to_string())),
    };
    let connected = TcpStream::connect(addresses.as_slice()).await;
    connected.map_err(|error| Trouble::Unreachable(error.to_string()))
}

fn is_own(host: &str, own_host: &str) -> bool {
    host == own_host || own_host.split('.').next() == Some(host)
}

/// The handshake of the node port, until the node has proved itself.
async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    own_name: &str,
    node: &str,
    cookie: Found,
) -> Result<(), Trouble> {
    let broken = |error: std::io::Error| Trouble::Broken(error.to_string());
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| Trouble::Broken(error.to_string()))?;
    let (mut input, mut output) = (BytesMut::new(), Vec::new());
    let mut handshake = Initiator::new(
        Kind::Control,
        own_name,
        Some(node),
        cookie.cookie,
        nonce,
        &mut output,
    );
    loop {
        socket.write_all(&output).await.map_err(broken)?;
        output.clear();
        if socket.read_buf(&mut input).await.map_err(broken)? == 0 {
            return Err(Trouble::Broken("closed during the handshake".to_owned()));
        }
        match handshake.receive(&mut input, &mut output) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(error) => return Err(Trouble::Handshake(error)),
        }
    }
}

async fn exchange(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: &Request,
) -> Result<Answer, Trouble> {
    let broken = |error: hyper::Error| Trouble::Broken(error.to_string());
    let method = match request.method {
        Method::Get => hyper::Method::GET,
        Method::Put => hyper::Method::PUT,
        Method::Post => hyper::Method::POST,
        Method::Delete => hyper::Method::DELETE,
    };
    let mut builder = hyper::Request::builder()
        .method(method)
        .uri(&request.path)
        .header("host", "node");
    if let Some(reason) = &request.reason {
        // A header holds visible ASCII.
        let reason: String = reason
            .chars()
            .map(|c| if (' '..='~').contains(&c) { c } else { '?' })
            .collect();
        builder = builder.header("x-reason", reason);
    }
    let body = match &request.body {
        Some(body) => {
            builder = builder.header("content-type", "application/json");
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    let request = builder
        .body(Full::new(body))
        .map_err(|error| Trouble::Broken(error.to_string()))?;
    sender.ready().await.map_err(broken)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Json::Null);
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests;
