//! `definitions.skip_if_unchanged`: definition files that were imported before are left alone.
//!
//! Their fingerprint is kept as a global parameter, so that it outlives restarts and all nodes know it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use amqp::Value;
use anyhow::{Context as _, Result, anyhow};
use broker::metadata::Command;
use sha2::{Digest, Sha256};

use crate::node::Node;

/// As RabbitMQ calls it.
const PARAMETER: &str = "imported_definition_hash_value";

/// The SHA-256 of all files, one after the other.
pub(crate) fn fingerprint(files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read the definitions in {}", file.display()))?;
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(&bytes);
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        write!(text, "{byte:02x}").context("a text has room")?;
    }
    Ok(text)
}

/// Whether files with this fingerprint were the last to be imported.
pub(crate) fn is_imported(node: &Node, fingerprint: &str) -> bool {
    node.tables.load().global_parameters.get(PARAMETER).and_then(Value::as_str) == Some(fingerprint)
}

/// Remembers what was imported.
pub(crate) async fn remember(node: &Arc<Node>, fingerprint: &str) -> Result<()> {
    let value = Value::LongStr(fingerprint.as_bytes().to_vec());
    let command = Command::SetGlobalParameter { name: PARAMETER.into(), value };
    node.propose(command).await.map_err(|error| anyhow!("the node cannot write its metadata: {error:?}"))?;
    Ok(())
}
