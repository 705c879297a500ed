//! What processes of other nodes ask of this one, with the cookie, on the node port alone.
//!
//! | route | body | answer |
//! |---|---|---|
//! | `POST /api/peer/admit` | name, address, disk, kind | cluster, generation, node, members |
//! | `POST /api/peer/leave` | name | |
//! | `POST /api/peer/witness` | a member for a witness to join | |
//! | `POST /api/peer/who` | | name, cluster, members, state of the application, stance |

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use broker::metadata::{Command, NodeKind, Outcome, Refusal};
use management::host::AppState;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ProcessHost, Stance};
use crate::identity::Contact;
use crate::returning::Held;
use crate::node::ProposeFailure;

/// A node that wants to be a member.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub name: String,
    pub address: String,
    pub disk: u64,
    pub ram: bool,
    #[serde(default)]
    pub witness: bool,
    /// The generation that it comes back from; 0 when it comes from none of this cluster.
    pub generation: u64,
}

/// What a new member must know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Admission {
    pub cluster: u64,
    pub generation: u64,
    pub node: u64,
    pub members: Vec<Contact>,
    /// What the answering node held when its side of a partition went on by itself: for each queue and
    /// level, the sequence after the last.
    #[serde(default)]
    pub held: Held,
    #[serde(default)]
    pub cluster_name: String,
    #[serde(default)]
    pub ram_nodes: Vec<String>,
    #[serde(default)]
    pub witness_nodes: Vec<String>,
}

/// The routes, to be served to who has proved the cookie.
pub(crate) fn peer_routes(host: Arc<ProcessHost>) -> Router {
    Router::new()
        .route("/api/peer/admit", post(admit))
        .route("/api/peer/leave", post(leave))
        .route("/api/peer/witness", post(witness))
        .route("/api/peer/who", post(who))
        .with_state(host)
}

/// The answer to a question that is not served, and why.
pub(crate) fn refuse(reason: &str) -> Response {
    (StatusCode::CONFLICT, Json(json!({"error": "refused", "reason": reason}))).into_response()
}

async fn admit(State(host): State<Arc<ProcessHost>>, Json(candidate): Json<Candidate>) -> Response {
    // A node that has sent its clients away may be waiting for just this one.
    let is_in_service = matches!(*host.state.borrow(), AppState::Running | AppState::Paused { .. });
    let Some(node) = host.node().filter(|_| is_in_service) else {
        return refuse("the node that was asked does not run its application");
    };
    let kind = NodeKind::of(candidate.ram, candidate.witness);
    let command = Command::RegisterNode {
        name: candidate.name.as_str().into(),
        address: candidate.address.clone(),
        kind,
        disk: candidate.disk,
    };
    // What it numbered in its generation is not numbered so again.
    let tables = node.tables.load_full();
    if candidate.generation > tables.cluster.generation {
        let found = Command::FoundCluster { id: tables.cluster.id, generation: candidate.generation };
        if let Err(error) = node.propose(found).await {
            return refuse(&format!("the cluster cannot take a member back now: {error}"));
        }
    }
    // What it held of this log is gone, so it does not go on from there.
    let returns = tables.nodes.named(&candidate.name).filter(|_| candidate.generation > 0);
    if let (Some(member), Some(log)) = (returns, node.consensus())
        && let Err(error) = log.begin_again(member.id).await
    {
        return refuse(&format!("the cluster cannot take a member back now: {error}"));
    }
    match node.propose(command).await {
        Ok(Outcome::Registered { id }) => {
            let tables = node.tables.load_full();
            let members = tables.nodes.iter().map(|member| Contact {
                node: member.id.0,
                name: member.name.to_string(),
                address: member.address.clone(),
            });
            let of_kind = |kind| -> Vec<String> {
                let members = tables.nodes.iter().filter(|member| member.kind == kind);
                members.map(|member| member.name.to_string()).collect()
            };
            let admission = Admission {
                cluster: tables.cluster.id,
                generation: node.generation.load(std::sync::atomic::Ordering::Acquire),
                node: id.0,
                members: members.collect(),
                held: crate::returning::held_at_fork(&node, candidate.generation),
                cluster_name: tables.cluster_name().unwrap_or_default().to_owned(),
                ram_nodes: of_kind(NodeKind::Ram),
                witness_nodes: of_kind(NodeKind::Witness),
            };
            Json(admission).into_response()
        }
        Ok(_) => refuse("the cluster did not answer the question it was asked"),
        Err(error) => fail(&error),
    }
}

fn fail(error: &ProposeFailure) -> Response {
    match error {
        ProposeFailure::Refused(refusal) => refuse(&explain(refusal)),
        ProposeFailure::Unavailable(why) => refuse(&format!("the cluster cannot change its members now: {why}")),
    }
}

/// Why the cluster refuses to change its members, for people.
pub(crate) fn explain(refusal: &Refusal) -> String {
    match refusal {
        Refusal::InconsistentCluster(text) | Refusal::LimitReached(text) | Refusal::Invalid(text) => text.clone(),
        Refusal::OnlyDiscNode(name) => format!("node '{name}' is the only disc node of the cluster"),
        Refusal::NodeIsUp(name) => format!("node '{name}' is running: it must be stopped before it can be removed"),
        Refusal::LastCopies { queues, total } => {
            let more = total.saturating_sub(queues.len() as u64);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let queues = queues.join(", ");
            format!("the node holds the last copy in sync of {queues}{more}: it is forgotten only by force")
        }
        other => format!("{other:?}"),
    }
}

/// A member that stops being one: it is down, and forgotten.
async fn leave(State(host): State<Arc<ProcessHost>>, Json(body): Json<serde_json::Value>) -> Response {
    let Some(node) = host.node() else { return refuse("the node that was asked does not run its application") };
    let name = body["name"].as_str().unwrap_or_default();
    let force = body["force"].as_bool().unwrap_or(false);
    let tables = node.tables.load_full();
    let Some(member) = tables.nodes.named(name) else { return Json(json!({})).into_response() };
    if member.is_up() {
        let down = Command::NodeDown { node: member.id, incarnation: member.incarnation, clean: true };
        if let Err(error) = node.propose(down).await {
            return fail(&error);
        }
    }
    match node.propose(Command::ForgetNode { node: member.id, force }).await {
        Ok(_) => Json(json!({})).into_response(),
        Err(error) => fail(&error),
    }
}

/// A cluster that has no witness wants this node as one. It joins as soon as it looks for one.
async fn witness(State(host): State<Arc<ProcessHost>>, Json(body): Json<serde_json::Value>) -> Response {
    if !host.config.is_witness() {
        return refuse("metadata_witness does not name this node in its own configuration");
    }
    if *host.stance.read() != Stance::Blank {
        return refuse("it has been in a cluster already, or has just joined one");
    }
    host.invitation.send_replace(body["join"].as_str().map(str::to_owned));
    Json(json!({})).into_response()
}

async fn who(State(host): State<Arc<ProcessHost>>) -> Response {
    let node = host.node();
    let members: Vec<String> = node.as_ref().map_or_else(Vec::new, |node| {
        node.tables.load().nodes.iter().map(|member| member.name.to_string()).collect()
    });
    let state = host.state.borrow().name();
    let started = u64::try_from(host.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Json(json!({
        "name": host.config.node_name.to_string(),
        "members": members,
        "cluster": node.as_ref().map_or(0, |node| node.tables.load().cluster.id),
        "generation": node.as_ref().map_or(0, |node| node.generation.load(std::sync::atomic::Ordering::Acquire)),
        "app": state,
        "stance": *host.stance.read(),
        "witness": host.config.is_witness(),
        "returns_to": *host.returns_to.read(),
        "uptime_millis": started,
    }))
    .into_response()
}
