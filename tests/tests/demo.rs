//! `warren cluster`: a cluster in one command, and nothing of it left behind.

#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use black_box::{Wire, run, warren};
use rustix::process::{Pid, Signal, kill_process};

use crate::methods::{DECLARE_OK, DURABLE, PASSIVE, declare};

const PATIENCE: Duration = Duration::from_secs(120);

/// The demo listens on fixed ports, so each test process has a block of eight addresses.
fn base(place: u32) -> Ipv4Addr {
    Ipv4Addr::from((127 << 24) | (std::process::id() << 3) & 0xFF_FFFF | place << 2)
}

fn after(base: Ipv4Addr, count: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(base) + count)
}

/// The running command.
struct Demo {
    process: Child,
    lines: Receiver<String>,
    said: String,
}

impl Demo {
    fn start(base: Ipv4Addr) -> Demo {
        let mut command = Command::new(warren());
        command.args(["cluster", "--nodes", "3", "--base", &base.to_string()]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Demo { process, lines, said: String::new() }
    }

    /// Waits for a line that contains `part`, and gives what stands behind that.
    #[track_caller]
    fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.said += &line;
            self.said.push('\n');
            if let Some((_, rest)) = line.split_once(part) {
                return rest.trim().to_owned();
            }
        }
        panic!("it never said {part:?}; it said:\n{}", self.said);
    }

    /// Waits for its end; what it prints ends with it.
    fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        assert!(Instant::now() < deadline, "it does not end; it said:\n{}", self.said);
        self.process.wait().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Unlike a kill, this ends its nodes as well.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Command lines of all processes that speak of `part`.
fn processes_with(part: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
    let lines = processes.filter_map(|path| std::fs::read(path).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(part)).collect()
}

#[test]
fn three_nodes_are_one_broker_until_they_are_told_to_end() {
    let base = base(0);
    let mut demo = Demo::start(base);
    demo.wait_for("data folder");
    let mut nodes = Vec::new();
    let mut folders = Vec::new();
    for place in 1..=3 {
        let name = format!("warren@{}", after(base, place));
        let row = demo.wait_for(&name);
        let [amqp, http, folder] = row.split_whitespace().collect::<Vec<_>>()[..] else { panic!("no row: {row}") };
        assert_eq!(amqp, format!("amqp://guest:guest@{}", after(base, place)));
        assert_eq!(http, format!("http://{}:15672", after(base, place)));
        folders.push(folder.to_owned());
        nodes.push(name);
    }
    let cookie = demo.wait_for("WARREN_COOKIE=");
    let victim: i32 = demo.wait_for("kill -9 ").parse().unwrap();
    demo.wait_for("Ctrl-C");

    let at = |place: u32| SocketAddr::new(IpAddr::V4(after(base, place)), 5672);
    let mut first = Wire::open(at(1));
    first.method(1, &declare("shared", DURABLE, &[]));
    first.expect(DECLARE_OK);
    for place in [2, 3] {
        let mut other = Wire::open(at(place));
        other.method(1, &declare("shared", PASSIVE, &[]));
        other.expect(DECLARE_OK);
    }
    let mut ctl = Command::new(warren());
    ctl.args(["ctl", "-q", "-n", &nodes[1], "list_queues", "name"]).env("WARREN_COOKIE", cookie);
    assert!(run(&mut ctl, PATIENCE).success().contains("shared"));

    kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    demo.wait_for(&format!("{} was killed by signal 9", nodes[2]));
    demo.wait_for("2 of 3");
    drop(Wire::open(at(1)));

    kill_process(Pid::from_child(&demo.process), Signal::TERM).unwrap();
    drop(first);
    assert!(demo.end().success());
    for (place, folder) in folders.iter().enumerate() {
        assert_eq!(processes_with(folder), Vec::<String>::new());
        assert!(!std::path::Path::new(folder).exists(), "{folder} is left");
        assert!(std::net::TcpStream::connect(at(place as u32 + 1)).is_err());
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let base = base(1);
    let address = after(base, 2);
    let _taken = TcpListener::bind((address, 15672)).unwrap();
    let mut command = Command::new(warren());
    command.args(["cluster", "--base", &base.to_string()]);
    let output = run(&mut command, PATIENCE);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains(&format!("port 15672 of {address} is taken")), "{}", output.stderr);
}
