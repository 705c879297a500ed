//! Who this node is: written once, and counted up at every start.
//!
//! The file `node.json` in the data folder names the cluster the node belongs to, its number there, its
//! disk and how often it has started. A folder without the file is a new node. It is replaced in one
//! step and synced, so that no two lives of a node have the same incarnation.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use broker::metadata::NodeKind;
use cluster::metadata_log::NodeId;
use serde::{Deserialize, Serialize};

const FILE: &str = "node.json";

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Of this file.
    pub version: u32,
    /// The node's name; a folder keeps to it.
    pub name: String,
    /// 0 while the node belongs to no cluster.
    pub cluster: u64,
    pub generation: u64,
    /// Its number in the metadata log.
    pub node: u64,
    /// Another for each folder that was ever made.
    pub disk: u64,
    /// How many times it has started.
    pub incarnation: u64,
    /// Founded the cluster, as opposed to having joined it.
    pub founder: bool,
    pub ram: bool,
    /// It votes on metadata, and holds no queues.
    #[serde(default)]
    pub witness: bool,
    /// Where members of the cluster were reached when it joined: until its own tables say.
    #[serde(default)]
    pub contacts: Vec<Contact>,
}

/// A member of the cluster that a node joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub node: u64,
    pub name: String,
    pub address: String,
}

impl Identity {
    pub(crate) fn kind(&self) -> NodeKind {
        NodeKind::of(self.ram, self.witness)
    }

    /// A node that founds a cluster of its own.
    pub(crate) fn founder(name: &str, random: impl Fn() -> u64) -> Identity {
        // Numbers that JSON readers of any language can hold.
        let id = || (random() >> 12) | 1;
        Identity {
            version: 1,
            name: name.to_owned(),
            cluster: id(),
            generation: 1,
            node: 1,
            disk: id(),
            incarnation: 0,
            founder: true,
            ram: false,
            witness: false,
            contacts: Vec::new(),
        }
    }

    /// Reads who the folder's node is; `None` for a new folder.
    pub(crate) fn load(data_dir: &Path) -> Result<Option<Identity>> {
        let path = data_dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let identity: Identity =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        ensure!(identity.version == 1, "{} is of a later version of Warren: {}", path.display(), identity.version);
        Ok(Some(identity))
    }

    /// Writes it down so that it survives whatever comes.
    pub(crate) fn save(&self, data_dir: &Path) -> Result<()> {
        crate::data_folder::replace(data_dir, FILE, self)
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId(self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn a_folder_remembers_its_node() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(Identity::load(dir.path()).expect("reads"), None);
        let mut identity = Identity::founder("warren@a", || 0xFFFF_FFFF_FFFF_FFFF);
        identity.incarnation += 1;
        identity.save(dir.path()).expect("writes");
        assert_eq!(Identity::load(dir.path()).expect("reads"), Some(identity));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("node.json"), "{").expect("writes");
        let error = Identity::load(dir.path()).expect_err("it is cut");
        assert!(format!("{error:#}").contains("node.json is damaged"), "{error:#}");
    }
}
