//! A broker process: started, killed, stopped and started again on the same data.
//!
//! Each test process uses a loopback address of its own and ports that the system hands out, so any
//! number of tests run at once and a restarted node finds its ports free. A node that goes out of
//! scope is killed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binary::warren;
use crate::disk::Disk;
use crate::http::http;

/// Its number on every Unix.
const SIGTERM: i32 = 15;

/// How long a node may take to start, to stop or to say what is waited for; far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node; see the file's head.
#[derive(Debug)]
pub struct Node {
    /// Of its own, for its data; before the folder, which can go only then.
    disk: Option<Disk>,
    folder: TempDir,
    amqp: SocketAddr,
    http: SocketAddr,
    distribution: u16,
    name: String,
    /// Of the network that it runs in; without one it is the test's.
    namespace: Option<String>,
    process: Option<Process>,
    /// What its processes have said, each in its turn.
    lives: Vec<Arc<Mutex<String>>>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    lines: Receiver<String>,
    said: Arc<Mutex<String>>,
}

impl Node {
    /// Starts a node with nothing but its ports configured.
    #[must_use]
    #[track_caller]
    pub fn start() -> Node {
        Node::configured("")
    }

    /// Starts a node with `settings` in addition, as they stand in `rabbitmq.conf`.
    ///
    /// # Panics
    /// If it does not come up; with what it said.
    #[must_use]
    #[track_caller]
    pub fn configured(settings: &str) -> Node {
        let mut node = Node::prepared(settings);
        node.resume();
        node
    }

    /// A node that has its folder, ports and configuration and does not run.
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn prepared(settings: &str) -> Node {
        Node::placed(address(), None, settings)
    }

    /// The same at an address, in a network namespace.
    pub(crate) fn placed(ip: IpAddr, namespace: Option<String>, settings: &str) -> Node {
        let folder = tempfile::Builder::new().prefix("warren-").tempdir().expect("a temporary folder");
        let (amqp, http, distribution) = (free_port(), free_port(), free_port());
        let mut conf = format!(
            "listeners.tcp.1 = {ip}:{amqp}\n\
             management.tcp.ip = {ip}\n\
             management.tcp.port = {http}\n\
             distribution.listener.interface = {ip}\n\
             disk_free_limit.absolute = 1MB\n"
        );
        conf.push_str(settings);
        std::fs::write(folder.path().join("warren.conf"), conf).expect("the configuration is written");
        Node {
            disk: None,
            amqp: SocketAddr::new(ip, amqp),
            http: SocketAddr::new(ip, http),
            distribution,
            name: format!("black{distribution}@{ip}:{distribution}"),
            namespace,
            folder,
            process: None,
            lives: Vec::new(),
        }
    }

    /// Gives it a disk of so many MiB for its data, before it has any.
    pub(crate) fn with_disk(mut self, mebibytes: u32) -> Node {
        self.disk = Some(Disk::mount(self.data(), mebibytes));
        self
    }

    /// Adds settings, to be read when the node starts next.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn configure(&self, settings: &str) {
        let path = self.folder.path().join("warren.conf");
        let conf = std::fs::read_to_string(&path).expect("the configuration is read");
        std::fs::write(path, conf + settings).expect("the configuration is written");
    }

    /// Starts the node on what it left behind, and waits until it serves.
    ///
    /// # Panics
    /// If it runs already, or does not come up.
    #[track_caller]
    pub fn resume(&mut self) {
        self.launch();
        self.wait_for_line("stop with");
    }

    /// Starts the node and does not wait for it.
    ///
    /// # Panics
    /// If it runs already.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the node runs");
        let mut child = self
            .command(&["server"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("warren starts");
        let (sender, lines) = channel();
        let said = Arc::new(Mutex::new(String::new()));
        follow(child.stdout.take().expect("piped"), &said, sender.clone());
        follow(child.stderr.take().expect("piped"), &said, sender);
        self.lives.push(Arc::clone(&said));
        self.process = Some(Process { child, lines, said });
    }

    /// Whether its process was started and not ended.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// A call of the binary with this node's configuration and environment.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(warren()),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(warren());
                command
            }
        };
        command
            .args(arguments)
            .env("WARREN_CONFIG_FILE", self.folder.path().join("warren.conf"))
            .env("WARREN_DATA_DIR", self.data())
            .env("WARREN_NODENAME", &self.name)
            .env("WARREN_DIST_PORT", self.distribution.to_string())
            .env("WARREN_COOKIE", "black-box")
            .env("HOME", self.folder.path());
        command
    }

    /// Waits until the node prints a line that contains `part`.
    ///
    /// # Panics
    /// If it ends first or stays silent.
    #[track_caller]
    pub fn wait_for_line(&mut self, part: &str) {
        let process = self.process.as_mut().expect("the node runs");
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = process.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(part) {
                return;
            }
        }
        panic!("the node never said {part:?}; it said:\n{}", self.said());
    }

    /// Everything the running node has printed.
    #[must_use]
    pub fn said(&self) -> String {
        let said = self.process.as_ref().map(|process| process.said.lock().expect("no reader panics").clone());
        said.unwrap_or_default()
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If the node does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the node runs");
        process.child.kill().expect("our own child");
        process.child.wait().expect("our own child");
    }

    /// Asks the node to stop and waits until it has.
    ///
    /// # Panics
    /// If it does not, or not well.
    #[track_caller]
    pub fn stop(&mut self) {
        self.terminate();
        // Who has only just been started may not listen to signals yet, and has nothing to end well.
        let has_begun = !self.said().is_empty();
        let status = self.wait_for_end();
        let cut_short = !has_begun && status.signal() == Some(SIGTERM);
        assert!(status.success() || cut_short, "the node ended with {status}");
    }

    /// Sends SIGTERM and does not wait.
    ///
    /// # Panics
    /// If the node does not run.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Stops the process where it stands, as a machine that sleeps does.
    ///
    /// # Panics
    /// If the node does not run.
    pub fn sleep(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a process that sleeps go on.
    ///
    /// # Panics
    /// If the node does not run.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the node runs");
        kill_process(Pid::from_child(&process.child), signal).expect("our own child");
    }

    /// Has the node's process stand still, or go on.
    ///
    /// # Panics
    /// If the node does not run.
    pub fn freeze(&self, frozen: bool) {
        let process = self.process.as_ref().expect("the node runs");
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&process.child), signal).expect("our own child");
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// If it goes on.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let process = self.process.as_mut().expect("the node runs");
        // The lines end when both of its streams are closed, that is when the process is gone.
        while process.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        assert!(Instant::now() < deadline, "the node does not stop; it said:\n{}", self.said());
        let mut process = self.process.take().expect("looked at above");
        process.child.wait().expect("our own child")
    }

    /// Waits until the node gives up; what it said.
    ///
    /// # Panics
    /// If it goes on, or ends well.
    #[track_caller]
    pub fn wait_for_failure(&mut self) -> String {
        let said = Arc::clone(&self.process.as_ref().expect("the node runs").said);
        let status = self.wait_for_end();
        let mut said = said.lock().expect("no reader panics").clone();
        assert!(!status.success(), "the node ended well; it said:\n{said}");
        let _ = writeln!(said, "(it ended with {status})");
        said
    }

    /// Whether its process, which was started, has ended by itself.
    ///
    /// # Panics
    /// If it was not started.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        let process = self.process.as_mut().expect("the node was started");
        process.child.try_wait().expect("our own child").is_some()
    }

    /// Starts the node if its process has ended by itself, as whatever watches over it would; what it had said.
    ///
    /// # Panics
    /// If it was not started, or ended well.
    #[track_caller]
    pub fn launch_if_ended(&mut self) -> Option<String> {
        if !self.has_ended() {
            return None;
        }
        let said = self.wait_for_failure();
        self.launch();
        Some(said)
    }

    /// The disk that its data has to itself.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    #[track_caller]
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a node with a disk of its own")
    }

    /// Where AMQP clients connect.
    #[must_use]
    pub fn amqp(&self) -> SocketAddr {
        self.amqp
    }

    /// Where the HTTP API answers.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Asks the HTTP API for a change.
    ///
    /// # Panics
    /// If it refuses.
    #[track_caller]
    pub fn put(&self, path: &str, body: &str) {
        let (status, answer) = http(self.http, "PUT", path, body);
        assert!((200..300).contains(&status), "PUT {path}: {status} {answer}");
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where other nodes and tools connect.
    #[must_use]
    pub fn node_port(&self) -> SocketAddr {
        SocketAddr::new(self.amqp.ip(), self.distribution)
    }

    /// The process id of the running node.
    ///
    /// # Panics
    /// If the node does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the node runs").child.id()
    }

    /// The folder with the node's data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder with everything of the node.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The default virtual host as its default user, with `query` as the URI's query.
    #[must_use]
    pub fn uri(&self, query: &str) -> String {
        let mut uri = format!("amqp://guest:guest@{}/%2f", self.amqp);
        if !query.is_empty() {
            let _ = write!(uri, "?{query}");
        }
        uri
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if let Some(mut process) = self.process.take() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        if failed {
            for said in &self.lives {
                let said = said.lock().map(|said| said.clone()).unwrap_or_default();
                eprintln!("--- the node said:\n{said}---");
            }
        }
    }
}

fn follow<R: Read + Send + 'static>(stream: R, said: &Arc<Mutex<String>>, sender: Sender<String>) {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Ok(mut said) = said.lock() {
                said.push_str(&line);
                said.push('\n');
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

/// The loopback address of this test process. Linux answers on all of 127.0.0.0/8, so each process
/// has one to itself and nobody else takes a port that a restarting node is about to bind again.
#[must_use]
pub fn address() -> IpAddr {
    if cfg!(target_os = "linux") {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, 64 | (high & 63), middle, low.max(1)))
    } else {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
}

/// A port that is free and was not handed out before.
///
/// # Panics
/// If the system has none.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind((address(), 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        if GIVEN.lock().expect("nobody panics here").insert(port) {
            return port;
        }
    }
}
