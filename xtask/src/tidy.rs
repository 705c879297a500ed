//! What must hold in the tree and the compiler does not check.
//!
//! Each check returns complaints, one line each, that say where and what to do. They read the tree as
//! git would see it (tracked files and new ones that are not ignored), and change nothing.

mod files;
mod layers;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;

/// All complaints about the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let metadata = layers::metadata(root)?;
    let mut complaints = layers::check(&metadata)?;
    complaints.extend(files::check(root)?);
    complaints.extend(layers::check_map(&metadata, &std::fs::read_to_string(root.join("ARCHITECTURE.md"))?)?);
    Ok(complaints)
}
