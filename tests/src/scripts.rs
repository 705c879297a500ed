//! Scripts in other languages, with their client libraries installed below the target folder.
//!
//! The libraries come from PyPI and npm when first needed; later runs find them there. A script is
//! called with the name of one scenario, and says by its exit status whether the broker did as it
//! should.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::binary::scratch;
use crate::node::Node;
use crate::program::run;

const PYTHON_PACKAGES: &[&str] = &["pika==1.3.2"];
const NODE_PACKAGES: &[&str] = &["amqplib@0.10.9"];

const INSTALL: Duration = Duration::from_secs(300);
const SCENARIO: Duration = Duration::from_secs(120);

/// Runs a scenario of a Python script in `clients/python` against `node`.
#[track_caller]
pub fn python(script: &str, scenario: &str, node: &Node) {
    python_with(script, scenario, node, &[]);
}

/// As [`python`], with more variables in the script's environment.
#[track_caller]
pub fn python_with(script: &str, scenario: &str, node: &Node, variables: &[(&str, &str)]) {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let program = PYTHON.get_or_init(|| {
        let home = scratch().join("python");
        install(&home, PYTHON_PACKAGES, || {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home), INSTALL);
            let mut pip = Command::new(home.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON_PACKAGES);
            let _ = run(&mut pip, INSTALL).success();
        });
        home.join("bin/python")
    });
    let mut command = Command::new(program);
    command.env("PYTHONDONTWRITEBYTECODE", "1").envs(variables.iter().copied());
    call(&mut command, "python", script, scenario, node);
}

/// Runs a scenario of a JavaScript file in `clients/node` against `node`.
#[track_caller]
pub fn javascript(script: &str, scenario: &str, node: &Node) {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    let modules = MODULES.get_or_init(|| {
        let home = scratch().join("node");
        install(&home, NODE_PACKAGES, || {
            let mut npm = Command::new("npm");
            npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&home).args(NODE_PACKAGES);
            let _ = run(&mut npm, INSTALL).success();
        });
        home.join("node_modules")
    });
    call(Command::new("node").env("NODE_PATH", modules), "node", script, scenario, node);
}

#[track_caller]
fn call(command: &mut Command, language: &str, script: &str, scenario: &str, node: &Node) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(language).join(script);
    command.arg(path).arg(scenario);
    command.env("AMQP_HOST", node.amqp().ip().to_string()).env("AMQP_PORT", node.amqp().port().to_string());
    let _ = run(command, SCENARIO).success();
}

/// Installs once, whichever test process comes first; what is installed is written down last.
fn install(home: &Path, packages: &[&str], how: impl FnOnce()) {
    let list = packages.join(" ");
    let lock = File::create(home.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock is waited for");
    let marker = home.join("installed.txt");
    if std::fs::read_to_string(&marker).is_ok_and(|found| found == list) {
        return;
    }
    std::fs::create_dir_all(home).expect("a folder for the libraries");
    how();
    std::fs::write(marker, list).expect("the marker is written");
}
