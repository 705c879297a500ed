//! Sizes of files, words that must not stay, paths of one machine, and Rust files that say nothing of
//! themselves.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const LINES_MAX: usize = 1000;

/// Words that are for the time before a change lands. Written apart here, since this file is read too.
const REFUSED: &[(&str, &str)] = &[
    (concat!("FIX", "ME"), "repair it, or write a TODO that names the page where it is kept"),
    (concat!("dbg", "!("), "take it out"),
    (concat!("#[ig", "nore"), "a test runs, or it goes"),
];

/// How the path of a home or a checkout may begin.
const MACHINES: &[&str] = &[concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Generated, or data, or text that quotes other programs.
fn is_exempt(path: &str) -> bool {
    path.ends_with("Cargo.lock") || path.starts_with("fuzz/seeds/") || path.contains("/testdata/")
}

/// Complaints about all files of the tree at `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in tracked(root)? {
        // A file may be deleted and not yet committed; one that is no text is none of our business.
        if let Ok(text) = std::fs::read_to_string(root.join(&path)) {
            complaints.extend(judge(&path, &text));
        }
    }
    Ok(complaints)
}

/// Tracked files, and new ones that are not ignored.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["-c", "core.quotepath=off", "ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut paths: Vec<String> = text.lines().map(str::to_owned).collect();
    paths.dedup();
    Ok(paths)
}

/// Complaints about one file.
pub(crate) fn judge(path: &str, text: &str) -> Vec<String> {
    if is_exempt(path) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    let is_rust = path.ends_with(".rs");
    let lines = text.lines().count();
    if is_rust && lines > LINES_MAX {
        complaints.push(format!("{path}: {lines} lines; split it below {LINES_MAX}"));
    }
    if is_rust && !text.starts_with("//!") && !path.contains("tests") && !path.contains("fuzz/") {
        complaints.push(format!("{path}: does not open by saying what it promises (//!)"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        for (word, remedy) in REFUSED {
            if is_rust && line.contains(word) {
                complaints.push(format!("{path}:{number}: {word}: {remedy}"));
            }
        }
        if let Some(start) = MACHINES.iter().find(|start| line.contains(**start)) {
            complaints.push(format!("{path}:{number}: {start} is a path of one machine"));
        }
    }
    complaints
}
