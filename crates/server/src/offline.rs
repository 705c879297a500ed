//! What `warren ctl` does to a node of which no process runs: as that node, in its data folder.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use ctl::Refused;
use management::host::AppState;

use crate::config::{Arguments, Config, Cookie, Environment};
use crate::data_folder::DataFolder;
use crate::host::ProcessHost;
use crate::identity::Identity;
use crate::logging::Logs;
use crate::node_tls::NodeTls;

/// As in `sysexits.h`: the node cannot be found here, or there is something to put right.
const EXIT_UNAVAILABLE: u8 = 69;

/// Removes `other` from the cluster as node `own` knows it (`forget_cluster_node --offline`).
///
/// # Errors
/// As the node itself would refuse; or its data folder is not here, or is in use.
pub fn forget(own: &str, other: &str) -> Result<(), Refused> {
    let opened = open(own).map_err(|error| Refused { exit_code: EXIT_UNAVAILABLE, text: format!("{error:#}") });
    let (host, _folder) = opened?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Refused { exit_code: EXIT_UNAVAILABLE, text: error.to_string() })?;
    let forgotten = runtime.block_on(host.forget_offline(other));
    forgotten.map_err(|failure| Refused { exit_code: failure.exit_code(), text: failure.to_string() })
}

/// The node as it is while its application is stopped.
fn open(own: &str) -> Result<(Arc<ProcessHost>, DataFolder)> {
    let arguments = Arguments { node_name: Some(own.to_owned()), ..Arguments::default() };
    let environment = Environment::of_process(arguments);
    let (mut config, _) = Config::load(&environment)?;
    let folder = config.data_dir.clone();
    // Looked at before anything is made there.
    let identity = Identity::load(&folder)?;
    let here = identity.is_some_and(|identity| identity.name == config.node_name.to_string());
    ensure!(
        here,
        "node {own} does not run, and its data is not in {}: run this on its host, as its user and with its environment",
        folder.display()
    );
    let folder = DataFolder::claim(&folder)?;
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh)?;
    let cookie = Cookie::load(&environment, &config.data_dir, fresh)?;
    let cookie = cluster::handshake::Cookie::new(cookie.as_bytes()).context("the cookie is empty")?;
    let tls = NodeTls::load(&config)?;
    // The tool says what there is to say.
    config.log.console.enabled = false;
    let logs = Logs::install(&config)?;
    let (host, _) = ProcessHost::new(Arc::new(config), cookie, tls, logs);
    host.set(AppState::Stopped);
    Ok((host, folder))
}
