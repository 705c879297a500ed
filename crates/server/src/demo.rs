//! `warren cluster`: a cluster on this machine, for trying things out.
//!
//! Each node is a process of its own, this program again as `warren server`, on a loopback address of its
//! own with the usual ports. They share a cookie and are joined to the first. A node that dies is spoken
//! of and the others go on, so that somebody can kill one and look.
//!
//! Invariant: on Ctrl-C, SIGTERM, SIGHUP or a failed start all nodes are ended before this process is.

mod nodes;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use nodes::{DemoNode, Program};

/// How long all nodes together may take to be one cluster.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long a node may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(50);

/// What somebody asks for.
#[derive(Debug)]
pub struct Wish {
    pub nodes: u8,
    /// The address before that of the first node.
    pub base: Ipv4Addr,
    /// Where the nodes keep their data, for good; `None` is a temporary folder.
    pub data_dir: Option<PathBuf>,
    /// The temporary folder stays.
    pub keep: bool,
}

/// Runs the cluster until it is told to stop.
#[must_use]
pub fn run(wish: &Wish) -> ExitCode {
    match run_all(wish) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo cluster ends: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(wish: &Wish) -> Result<()> {
    let ends = watch_signals()?;
    let addresses = addresses(wish.base, wish.nodes)?;
    for address in &addresses {
        nodes::check_ports(*address)?;
    }
    let folder = Folder::make(wish)?;
    let program = Program { path: std::env::current_exe()?, cookie: cookie(&folder.path)? };
    let mut demo = Demo { nodes: Vec::new(), program, ends };
    let served = demo.start(&addresses, &folder.path).and_then(|started| match started {
        Awaited::Done => {
            introduce(&demo.program, &demo.nodes, &folder);
            demo.watch()
        }
        Awaited::Ended => Ok(()),
    });
    demo.end();
    served
}

/// The addresses after `base`, which must be this machine's own.
fn addresses(base: Ipv4Addr, count: u8) -> Result<Vec<Ipv4Addr>> {
    let all = (1..=u32::from(count)).map(|n| Ipv4Addr::from(u32::from(base).saturating_add(n)));
    let all: Vec<Ipv4Addr> = all.collect();
    let outside = all.iter().find(|address| !address.is_loopback());
    ensure!(outside.is_none(), "--base {base} gives addresses outside 127.0.0.0/8; the demo stays on this machine");
    Ok(all)
}

/// Where everything is kept while the cluster runs, or for longer.
struct Folder {
    path: PathBuf,
    stays: bool,
}

impl Folder {
    fn make(wish: &Wish) -> Result<Folder> {
        let temporary = || std::env::temp_dir().join(format!("warren-demo-{}", std::process::id()));
        let path = wish.data_dir.clone().unwrap_or_else(temporary);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        let path = path.canonicalize()?;
        Ok(Folder { path, stays: wish.keep || wish.data_dir.is_some() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.stays {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The secret of this cluster: a fresh one, or that of the folder.
fn cookie(folder: &Path) -> Result<String> {
    let path = folder.join("cookie");
    if let Ok(cookie) = std::fs::read_to_string(&path) {
        return Ok(cookie.trim().to_owned());
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let cookie: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.write(true).create_new(true).open(&path).and_then(|mut file| file.write_all(cookie.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(cookie)
}

/// Each signal that ends a program is one message.
fn watch_signals() -> Result<Receiver<()>> {
    let (ends, ended) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]
    };
    std::thread::spawn(move || runtime.block_on(forward(signals, ends)));
    Ok(ended)
}

async fn forward(signals: [tokio::signal::unix::Signal; 3], ends: Sender<()>) {
    let [mut interrupt, mut terminate, mut hangup] = signals;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        if ends.send(()).is_err() {
            return;
        }
    }
}

/// How waiting ended.
enum Awaited {
    Done,
    /// Somebody wants all this to end.
    Ended,
}

struct Demo {
    nodes: Vec<DemoNode>,
    program: Program,
    ends: Receiver<()>,
}

impl Demo {
    /// Starts all nodes and makes them one cluster.
    fn start(&mut self, addresses: &[Ipv4Addr], folder: &Path) -> Result<Awaited> {
        let deadline = Instant::now() + START_PATIENCE;
        for address in addresses {
            println!("starting warren@{address}");
            self.nodes.push(DemoNode::start(&self.program, *address, folder)?);
        }
        let first = self.nodes[0].name.clone();
        let count = self.nodes.len().to_string();
        for place in 0..self.nodes.len() {
            // Its port may not be open yet.
            if let Awaited::Ended = self.tell(place, &["await_startup"], deadline)? {
                return Ok(Awaited::Ended);
            }
            if place > 0
                && let Awaited::Ended = self.tell(place, &["join_cluster", &first], deadline)?
            {
                return Ok(Awaited::Ended);
            }
        }
        self.tell(0, &["await_online_nodes", &count], deadline)
    }

    /// Runs a command of `warren ctl` on a node, until it succeeds.
    fn tell(&mut self, place: usize, command: &[&str], deadline: Instant) -> Result<Awaited> {
        loop {
            let mut process = self.program.ctl(&self.nodes[place].name, command)?;
            let status = loop {
                let gone = self.nodes.iter_mut().find_map(DemoNode::obituary);
                let late = Instant::now() >= deadline;
                if gone.is_some() || late || self.ends.recv_timeout(PAUSE).is_ok() {
                    let _ = process.kill();
                    let _ = process.wait();
                    match gone {
                        Some(obituary) => bail!("{obituary}"),
                        None if late => bail!("{}", self.nodes[place].complaint(&command.join(" "))),
                        None => return Ok(Awaited::Ended),
                    }
                }
                if let Some(status) = process.try_wait()? {
                    break status;
                }
            };
            if status.success() {
                return Ok(Awaited::Done);
            }
        }
    }

    /// Speaks of nodes that die, until all should end.
    fn watch(&mut self) -> Result<()> {
        while self.ends.recv_timeout(PAUSE).is_err() {
            for place in 0..self.nodes.len() {
                if let Some(obituary) = self.nodes[place].obituary() {
                    let left = self.nodes.iter().filter(|node| node.runs()).count();
                    println!("{obituary}");
                    ensure!(left > 0, "no node is left");
                    println!("the cluster goes on with {left} of {}; start the node again with:", self.nodes.len());
                    println!("  {}\n", self.program.again(&self.nodes[place]));
                }
            }
        }
        Ok(())
    }

    /// Stops all nodes; a second signal, or too much time, kills them.
    fn end(&mut self) {
        println!("stopping {} nodes", self.nodes.iter().filter(|node| node.runs()).count());
        for node in &mut self.nodes {
            node.terminate();
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.nodes.iter_mut().any(DemoNode::is_running) {
            if self.ends.recv_timeout(PAUSE).is_ok() || Instant::now() >= deadline {
                for node in &mut self.nodes {
                    node.kill();
                }
            }
        }
    }
}

/// The table of nodes, and commands to begin with.
fn introduce(program: &Program, nodes: &[DemoNode], folder: &Folder) {
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else { return };
    let name = std::env::args().next().unwrap_or_else(|| "warren".to_owned());
    let width = nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
    println!("\n  {:width$}  {:33}  {:28}  data folder", "node", "AMQP", "HTTP API");
    for node in nodes {
        let amqp = format!("amqp://guest:guest@{}", node.address);
        let http = format!("http://{}:{}", node.address, nodes::HTTP_PORT);
        println!("  {:width$}  {amqp:33}  {http:28}  {}", node.name, node.data_dir().display());
    }
    println!("\n  The cookie is {}. Ask a node:", program.cookie);
    println!("    export WARREN_COOKIE={}", program.cookie);
    println!("    {name} ctl -n {} cluster_status", first.name);
    let policy = r#"'{"ha-mode":"all","ha-sync-mode":"automatic"}'"#;
    println!("    {name} ctl -n {} set_policy ha-all . {policy}", first.name);
    println!("  From Python, through any node:");
    println!("    pika.BlockingConnection(pika.URLParameters(\"amqp://guest:guest@{}\"))", last.address);
    println!("  Kill one and look:");
    println!("    kill -9 {}", last.process_id());
    if folder.stays {
        println!("  Everything stays in {}.", folder.path.display());
    } else {
        println!("  Everything is deleted at the end; --data-dir or --keep keeps it.");
    }
    println!("  Stop all with Ctrl-C.\n");
}
