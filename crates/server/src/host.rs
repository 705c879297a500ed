//! The process around the node: it starts and stops the broker application, and outlives it.
//!
//! ```text
//!             start_app            in service
//!   Stopped -----------> Starting -----------> Running <----> Paused
//!      ^                    |                     |
//!      +----- stop_app -----+------ stop_app -----+      Restart: stopped and started again
//! ```
//!
//! The node port stays open throughout: `ctl` and other nodes find the process whatever the application
//! does. Everything that changes the data folder (reset, join) happens while the application is stopped.

mod ask;
mod change;
mod discover;
mod facts;
pub(crate) mod forget;
mod peer_routes;
mod witness;

use std::sync::Arc;

use axum::Router;
use management::host::{AppState, HostFailure};
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Config, NodeName};
use crate::logging::Logs;
use crate::node::Node;
use crate::node_tls::NodeTls;

pub(crate) use discover::{Beginning, Stance, begin, candidates};
pub(crate) use facts::HostFace;
pub(crate) use peer_routes::{explain, peer_routes, refuse};
pub(crate) use witness::invite;

/// What the loop of the process is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Start the application; tells how that went.
    Start(oneshot::Sender<Result<(), String>>),
    /// Stop the application; tells when it is done.
    Stop(oneshot::Sender<()>),
    /// Stop the application and start it again, for this reason.
    Restart(String),
    /// End the process.
    Exit,
}

/// The way to the loop.
pub(crate) type Orders = mpsc::UnboundedSender<Order>;

/// See the file's head.
pub(crate) struct ProcessHost {
    pub config: Arc<Config>,
    pub cookie: cluster::handshake::Cookie,
    /// With other nodes; `None` is none.
    pub tls: Option<NodeTls>,
    pub logs: Logs,
    pub orders: Orders,
    pub state: watch::Sender<AppState>,
    /// The node that runs or starts, and what serves its management.
    pub app: RwLock<Option<App>>,
    /// What others are told that look for a cluster at the same time.
    stance: RwLock<Stance>,
    /// The member that this node asks to be taken back in.
    returns_to: RwLock<Option<String>>,
    /// Of a witness that is no member yet: whom it is asked to join.
    invitation: watch::Sender<Option<String>>,
    /// One change of the process's life at a time.
    changing: tokio::sync::Mutex<()>,
    started: std::time::Instant,
}

/// The broker application.
#[derive(Clone)]
pub(crate) struct App {
    pub node: Arc<Node>,
    /// `None` until it is in service.
    pub router: Option<Router>,
}

impl ProcessHost {
    pub(crate) fn new(
        config: Arc<Config>,
        cookie: cluster::handshake::Cookie,
        tls: Option<NodeTls>,
        logs: Logs,
    ) -> (Arc<ProcessHost>, mpsc::UnboundedReceiver<Order>) {
        let (orders, received) = mpsc::unbounded_channel();
        let host = ProcessHost {
            config,
            cookie,
            tls,
            logs,
            orders,
            state: watch::Sender::new(AppState::Starting { why: "the process starts".to_owned() }),
            app: RwLock::new(None),
            // Until it has looked.
            stance: RwLock::new(Stance::Begun),
            returns_to: RwLock::new(None),
            invitation: watch::Sender::new(None),
            changing: tokio::sync::Mutex::new(()),
            started: std::time::Instant::now(),
        };
        (Arc::new(host), received)
    }

    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.app.read().as_ref().map(|app| Arc::clone(&app.node))
    }

    pub(crate) fn router(&self) -> Option<Router> {
        self.app.read().as_ref().and_then(|app| app.router.clone())
    }

    pub(crate) fn set(&self, state: AppState) {
        tracing::debug!(?state, "application");
        self.state.send_replace(state);
    }

    /// Asks processes of other nodes in this node's name.
    pub(crate) fn asking<'a>(&'a self, own_name: &'a str, patience: std::time::Duration) -> ask::Ask<'a> {
        ask::Ask { own_name, cookie: &self.cookie, tls: self.tls.as_ref(), patience }
    }

    /// Says whom this node asks to be taken back in.
    pub(crate) fn return_to(&self, member: Option<&str>) {
        *self.returns_to.write() = member.map(str::to_owned);
    }

    pub(crate) fn tell_stance(&self, stance: Stance) {
        *self.stance.write() = stance;
    }

    /// Whom this witness is asked to join, if it was since it looked last.
    fn take_invitation(&self) -> Option<String> {
        let mut seed = None;
        self.invitation.send_if_modified(|invitation| {
            seed = invitation.take();
            false
        });
        seed
    }

    fn is_stopped(&self) -> bool {
        matches!(*self.state.borrow(), AppState::Stopped)
    }

    async fn order_stop(&self) -> Result<(), HostFailure> {
        let (done, wait) = oneshot::channel();
        let _ = self.orders.send(Order::Stop(done));
        wait.await.map_err(|_| HostFailure::Broken("the process is ending".to_owned()))
    }

    async fn order_start(&self) -> Result<(), HostFailure> {
        let (done, wait) = oneshot::channel();
        let _ = self.orders.send(Order::Start(done));
        match wait.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(HostFailure::Broken(why)),
            Err(_) => Err(HostFailure::Broken("the process is ending".to_owned())),
        }
    }
}

/// Where a node is reached.
pub(crate) fn address_of(name: &NodeName) -> String {
    let port = name.port().unwrap_or(25672);
    if name.host().contains(':') { format!("[{}]:{port}", name.host()) } else { format!("{}:{port}", name.host()) }
}
