//! The process of a node in memory: notes what it is asked to do, and answers as the test wants it.

use std::time::Duration;

use async_trait::async_trait;
use broker::Name;

use super::{Fake, NODE};
use crate::host::{AppState, Host, HostFailure, Joined, LastKnown, NodeKind, ProcessFacts};

#[async_trait]
impl Host for Fake {
    fn name(&self) -> Name {
        NODE.into()
    }

    fn app(&self) -> AppState {
        self.state().app.clone().unwrap_or(AppState::Running)
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts {
            os_pid: 29_290,
            uptime: Duration::from_secs(76),
            version: "0.1.0".to_owned(),
            data_dir: "/var/lib/warren/warren@here".to_owned(),
            ..ProcessFacts::default()
        }
    }

    fn last_known(&self) -> LastKnown {
        self.state().last_known.clone()
    }

    async fn start_app(&self) -> Result<(), HostFailure> {
        self.change("start app".to_owned())
    }

    async fn stop_app(&self) -> Result<(), HostFailure> {
        self.change("stop app".to_owned())
    }

    async fn reset(&self, force: bool) -> Result<(), HostFailure> {
        self.change(format!("reset {force}"))
    }

    async fn join(&self, seed: Name, kind: NodeKind) -> Result<Joined, HostFailure> {
        self.change::<HostFailure>(format!("join {seed} {}", kind.name()))?;
        Ok(Joined {
            already: &*seed == "known@here",
        })
    }

    async fn change_kind(&self, kind: NodeKind) -> Result<bool, HostFailure> {
        self.change::<HostFailure>(format!("kind {}", kind.name()))?;
        Ok(kind == NodeKind::Ram)
    }

    async fn force_boot(&self) -> Result<(), HostFailure> {
        self.change("force boot".to_owned())
    }

    async fn forget_offline(&self, node: Name) -> Result<(), HostFailure> {
        self.change(format!("forget offline {node}"))
    }

    async fn leave(&self, drain: bool, force: bool) -> Result<(), HostFailure> {
        self.change(format!("leave {drain} {force}"))
    }

    fn stop(&self) {
        self.state().log.push("stop".to_owned());
    }

    fn os_env(&self) -> Vec<(String, String)> {
        vec![("WARREN_NODENAME".to_owned(), NODE.to_owned())]
    }

    fn arguments(&self) -> Vec<String> {
        vec!["warren".to_owned(), "server".to_owned()]
    }
}
