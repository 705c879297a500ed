//! One node of the demo cluster: its process, its folder, its ports.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

const AMQP_PORT: u16 = 5672;
pub(super) const HTTP_PORT: u16 = 15672;
const NODE_PORT: u16 = 25672;
/// Of what a dead node has said, so many lines are shown.
const LAST_LINES: usize = 8;

/// Says plainly when a node could not listen on its address.
pub(super) fn check_ports(address: Ipv4Addr) -> Result<()> {
    for port in [AMQP_PORT, HTTP_PORT, NODE_PORT] {
        let Err(error) = TcpListener::bind((address, port)) else { continue };
        match error.kind() {
            ErrorKind::AddrInUse => {
                bail!("port {port} of {address} is taken: stop what uses it, or choose other addresses with --base")
            }
            ErrorKind::AddrNotAvailable => bail!(
                "{address} is no address of this machine; on macOS give it one with: sudo ifconfig lo0 alias {address}"
            ),
            _ => bail!("cannot listen on {address}:{port}: {error}"),
        }
    }
    Ok(())
}

/// This program, and the secret of the cluster.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) cookie: String,
}

impl Program {
    /// A call of this program that knows the cookie and nothing else of the environment.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("WARREN_") || text.starts_with("RABBITMQ_") {
                command.env_remove(&name);
            }
        }
        // A group of its own, so that Ctrl-C is this process's to pass on.
        command.env("WARREN_COOKIE", &self.cookie).stdin(Stdio::null()).process_group(0);
        command
    }

    pub(super) fn ctl(&self, node: &str, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command();
        command.args(["ctl", "--quiet", "--node", node]).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("cannot run warren ctl")
    }

    /// What starts a node again.
    pub(super) fn again(&self, node: &DemoNode) -> String {
        format!(
            "WARREN_COOKIE={} {} server --config-file {} --node-name {} --data-dir {}",
            self.cookie,
            self.path.display(),
            node.folder.join("warren.conf").display(),
            node.name,
            node.data_dir().display()
        )
    }
}

/// See the file's head.
pub(super) struct DemoNode {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    folder: PathBuf,
    process: Child,
    ended: Option<ExitStatus>,
    mourned: bool,
}

impl DemoNode {
    /// Starts a node on its address, with what its folder has.
    pub(super) fn start(program: &Program, address: Ipv4Addr, folder: &Path) -> Result<DemoNode> {
        let name = format!("warren@{address}");
        let folder = folder.join(&name);
        let prepared = prepare(&folder, address);
        let output = prepared.with_context(|| format!("cannot write into {}", folder.display()))?;
        let process = program
            .command()
            .arg("server")
            .arg("--config-file")
            .arg(folder.join("warren.conf"))
            .args(["--node-name", &name])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start a node")?;
        Ok(DemoNode { name, address, folder, process, ended: None, mourned: false })
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it ran when that was last looked at.
    pub(super) fn runs(&self) -> bool {
        self.ended.is_none()
    }

    pub(super) fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    pub(super) fn terminate(&mut self) {
        if self.is_running() {
            let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        }
    }

    pub(super) fn kill(&mut self) {
        if self.is_running() {
            let _ = self.process.kill();
        }
    }

    /// How the node died, told once.
    pub(super) fn obituary(&mut self) -> Option<String> {
        if self.mourned || self.is_running() {
            return None;
        }
        self.mourned = true;
        let status = self.ended?;
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}"),
            (None, Some(0)) => "has stopped".to_owned(),
            (None, code) => format!("has ended with exit code {}", code.unwrap_or(-1)),
        };
        let said = if status.code() == Some(0) || status.signal().is_some() { String::new() } else { self.last_words() };
        Some(format!("node {} {how}{said}", self.name))
    }

    /// A command that should have succeeded on the node has not.
    pub(super) fn complaint(&self, command: &str) -> String {
        format!("'{command}' takes too long on node {}{}", self.name, self.last_words())
    }

    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(self.folder.join("output")).unwrap_or_default();
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
        if last.is_empty() { String::new() } else { format!("; it said:\n  {last}") }
    }
}

impl Drop for DemoNode {
    fn drop(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

/// Makes the node's folder and configuration; where its output goes.
fn prepare(folder: &Path, address: Ipv4Addr) -> std::io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let configuration = format!(
        "listeners.tcp.1 = {address}:{AMQP_PORT}\n\
         management.tcp.ip = {address}\n\
         management.tcp.port = {HTTP_PORT}\n\
         distribution.listener.interface = {address}\n\
         disk_free_limit.absolute = 50MB\n"
    );
    std::fs::write(folder.join("warren.conf"), configuration)?;
    File::create(folder.join("output"))
}
