//! Asking the process of another node, over its node port: it need not have an application, and this
//! node need not be in its cluster.

use std::time::Duration;

use axum::body::Body;
use cluster::handshake::{Cookie, Kind};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use management::host::HostFailure;
use serde_json::Value as Json;
use tokio::net::TcpStream;

use super::address_of;
use crate::config::{HostPort, NodeName};
use crate::node_tls::{NodeStream, NodeTls};
use crate::peers::shake_hands_as_caller;

/// See the file's head.
pub(crate) struct Ask<'a> {
    pub own_name: &'a str,
    pub cookie: &'a Cookie,
    pub tls: Option<&'a NodeTls>,
    pub patience: Duration,
}

impl Ask<'_> {
    /// Posts a question, and gives the answer's body.
    pub(crate) async fn post(&self, node: &str, path: &str, body: &Json) -> Result<Json, HostFailure> {
        self.post_as(node, Some(node), path, body).await
    }

    /// The same to whatever node is there.
    pub(crate) async fn post_to(&self, at: &HostPort, path: &str, body: &Json) -> Result<Json, HostFailure> {
        let HostPort { host, port } = at;
        let node = if host.contains(':') { format!("node@[{host}]:{port}") } else { format!("node@{host}:{port}") };
        self.post_as(&node, None, path, body).await
    }

    async fn post_as(
        &self,
        node: &str,
        expected: Option<&str>,
        path: &str,
        body: &Json,
    ) -> Result<Json, HostFailure> {
        let answer = tokio::time::timeout(self.patience, self.talk(node, expected, path, body)).await;
        let unreachable = |why: String| HostFailure::Unreachable { node: node.into(), why };
        let (ok, answer) = match answer {
            Ok(answer) => answer.map_err(|error| unreachable(format!("{error:#}")))?,
            Err(_) => return Err(unreachable("it does not answer".to_owned())),
        };
        if ok {
            return Ok(answer);
        }
        let reason = answer["reason"].as_str().unwrap_or("it refused without a reason");
        Err(HostFailure::Refused(reason.to_owned()))
    }

    async fn talk(
        &self,
        node: &str,
        expected: Option<&str>,
        path: &str,
        body: &Json,
    ) -> anyhow::Result<(bool, Json)> {
        let name: NodeName = node.parse().map_err(|error| anyhow::anyhow!("'{node}' {error}"))?;
        let stream = TcpStream::connect(address_of(&name)).await?;
        stream.set_nodelay(true)?;
        match self.tls {
            None => self.talk_over(stream, expected, path, body).await,
            Some(tls) => self.talk_over(tls.call(node, stream).await?, expected, path, body).await,
        }
    }

    async fn talk_over<S: NodeStream>(
        &self,
        mut stream: S,
        expected: Option<&str>,
        path: &str,
        body: &Json,
    ) -> anyhow::Result<(bool, Json)> {
        let own = format!("warrenctl-{}@{}", std::process::id(), self.own_name.split('@').nth(1).unwrap_or("here"));
        let rest = shake_hands_as_caller(&mut stream, &own, expected, self.cookie, Kind::Control).await?;
        anyhow::ensure!(rest.is_empty(), "it spoke out of turn");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let served = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", "node")
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))?;
        let answer = sender.send_request(request).await?;
        let ok = answer.status().is_success();
        let bytes = axum::body::to_bytes(Body::new(answer.into_body()), 16 << 20).await?;
        served.abort();
        let json = if bytes.is_empty() { Json::Null } else { serde_json::from_slice(&bytes)? };
        Ok((ok, json))
    }
}
