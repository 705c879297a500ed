//! Nodes that have applied the same entries of the metadata log have the same views.

use std::collections::BTreeMap;

use broker::QueueId;
use broker::metadata::{Tables, View};

/// The views after so many entries, as the first node found them.
#[derive(Debug, Default)]
pub(super) struct MetadataAgrees(BTreeMap<usize, BTreeMap<QueueId, View>>);

impl MetadataAgrees {
    pub(super) fn agree(&mut self, applied: usize, tables: &Tables) -> Result<(), String> {
        let views = tables.queues.values().map(|record| (record.id, record.view.clone())).collect();
        let first = self.0.entry(applied).or_insert_with(|| BTreeMap::clone(&views));
        if *first == views {
            return Ok(());
        }
        Err(format!("metadata agrees: after {applied} entries {views:?} here and {first:?} elsewhere"))
    }
}
