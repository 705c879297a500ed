//! Who may import whom, and which outside crates the computing rows may use.
//!
//! The table is the architecture; ARCHITECTURE.md draws it. A new line here, or a longer one, is a
//! decision and deserves a page in `docs/decisions/`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A crate's place: what of ours it may import, and (for crates that only compute) what from outside.
pub(crate) struct Place {
    pub name: &'static str,
    pub ours: &'static [&'static str],
    /// `None`: whatever it needs.
    pub outside: Option<&'static [&'static str]>,
}

const ROWS: &[Place] = &[
    // Row 1
    Place { name: "stdx", ours: &[], outside: Some(&["foldhash", "hashbrown"]) },
    // Row 2: strangers to each other
    Place { name: "amqp", ours: &["stdx"], outside: Some(&["serde", "thiserror"]) },
    Place { name: "cluster", ours: &["stdx"], outside: Some(&["bytes", "hmac", "serde", "sha2", "thiserror"]) },
    Place { name: "store", ours: &["stdx"], outside: Some(&["bytes", "crc32fast", "thiserror"]) },
    // Row 3
    Place {
        name: "broker",
        ours: &["amqp", "cluster", "stdx", "store"],
        outside: Some(&[
            "base64", "bytes", "fancy-regex", "md-5", "postcard", "regex", "rpds", "serde", "sha2", "smallvec",
            "subtle", "thiserror", "triomphe",
        ]),
    },
    // Row 4: may wait, opens no socket
    Place { name: "consensus", ours: &["cluster", "stdx"], outside: None },
    Place { name: "management", ours: &["amqp", "broker"], outside: None },
    // Row 5: touches the world
    Place {
        name: "server",
        ours: &["amqp", "broker", "cluster", "consensus", "ctl", "management", "perf", "stdx", "store"],
        outside: None,
    },
    Place { name: "ctl", ours: &["cluster", "management"], outside: None },
    Place { name: "perf", ours: &["amqp", "stdx"], outside: None },
    Place { name: "simulator", ours: &["amqp", "broker", "cluster", "stdx", "store"], outside: None },
    // Beside the rows
    Place { name: "black-box", ours: &[], outside: None },
    Place { name: "xtask", ours: &[], outside: None },
];

/// Engines that one crate hides from all others.
const HIDDEN: &[(&str, &str)] = &[("openraft", "consensus"), ("redb", "consensus")];

/// A dependency as `cargo metadata` tells it.
pub(crate) struct Import<'a> {
    pub from: &'a str,
    pub name: &'a str,
    /// Tests and benches only.
    pub for_tests: bool,
}

pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn packages(metadata: &Value) -> Result<&Vec<Value>> {
    metadata["packages"].as_array().context("cargo metadata lists packages")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Complaints about imports the table does not allow, and crates it does not know.
pub(crate) fn check(metadata: &Value) -> Result<Vec<String>> {
    let packages = packages(metadata)?;
    let names: BTreeSet<&str> = packages.iter().map(|package| text(&package["name"])).collect();
    let mut complaints = Vec::new();
    for name in &names {
        if !ROWS.iter().any(|place| place.name == *name) {
            complaints.push(format!("{name}: has no place in the table of xtask/src/tidy/layers.rs"));
        }
    }
    for place in ROWS {
        if !names.contains(place.name) {
            complaints.push(format!("{}: stands in the table of xtask/src/tidy/layers.rs and does not exist", place.name));
        }
    }
    for package in packages {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let import = Import {
                from: text(&package["name"]),
                name: text(&dependency["name"]),
                for_tests: text(&dependency["kind"]) == "dev",
            };
            complaints.extend(judge(&import, names.contains(import.name)));
        }
    }
    Ok(complaints)
}

/// Why an import is not allowed, if it is not.
pub(crate) fn judge(import: &Import<'_>, is_ours: bool) -> Option<String> {
    let Import { from, name, for_tests } = *import;
    let place = ROWS.iter().find(|place| place.name == from)?;
    if let Some((engine, owner)) = HIDDEN.iter().find(|(engine, owner)| *engine == name && *owner != from) {
        return Some(format!("{from}: imports {engine}, which only {owner} may know"));
    }
    if is_ours {
        // Time and seeds are needed by any test of a machine.
        let tests_a_machine = for_tests && name == "stdx" && !place.ours.is_empty();
        return (!place.ours.contains(&name) && !tests_a_machine)
            .then(|| format!("{from}: may not import {name}; it may import {}", list(place.ours)));
    }
    let outside = place.outside?;
    (!for_tests && !outside.contains(&name))
        .then(|| format!("{from}: only computes, and {name} is not on its list: {}", list(outside)))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing of ours".to_owned() } else { names.join(", ") }
}

/// Complaints about crates that ARCHITECTURE.md does not name.
pub(crate) fn check_map(metadata: &Value, architecture: &str) -> Result<Vec<String>> {
    let is_named = |name: &str| architecture.contains(&format!("`{name}`"));
    Ok(packages(metadata)?
        .iter()
        .map(|package| text(&package["name"]))
        .filter(|name| !is_named(name))
        .map(|name| format!("ARCHITECTURE.md: does not name `{name}`"))
        .collect())
}
