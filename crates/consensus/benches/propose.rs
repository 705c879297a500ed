//! What a commit of metadata costs, beside one fdatasync on the same disk: latency alone and under
//! load, throughput, starts, rest; the same on three nodes and two nodes of one process. `cargo bench -p consensus`; run as a test it does a little of
//! each. The folder is made where `TMPDIR` points.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::metadata_log::{PendingSnapshot, RestoreError, StateMachine};
use consensus::{Alone, Consensus, Member, Network, NodeId, Options, Role, UnreachableError};

const COMMAND_BYTES: usize = 200;

/// Keeps every command, as metadata would.
#[derive(Default)]
struct Table(Vec<Bytes>);

impl StateMachine for Table {
    fn apply(&mut self, _index: u64, commands: &[Bytes]) -> Vec<Bytes> {
        self.0.extend_from_slice(commands);
        vec![Bytes::new(); commands.len()]
    }

    fn snapshot(&self) -> PendingSnapshot {
        let commands = self.0.clone();
        Box::new(move || commands.concat().into())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.0 = snapshot
            .chunks(COMMAND_BYTES)
            .map(Bytes::copy_from_slice)
            .collect();
        Ok(())
    }
}

struct Sizes {
    samples: usize,
    load: Duration,
    queues: usize,
    rest: Duration,
}

#[tokio::main]
async fn main() {
    let sizes = if std::env::args().any(|argument| argument == "--bench") {
        let (load, rest) = (Duration::from_secs(3), Duration::from_secs(10));
        Sizes {
            samples: 3000,
            load,
            queues: 100_000,
            rest,
        }
    } else {
        let (load, rest) = (Duration::from_millis(20), Duration::from_millis(20));
        Sizes {
            samples: 20,
            load,
            queues: 100,
            rest,
        }
    };
    let folder = tempfile::tempdir().expect("a scratch folder");
    let rss = resident_bytes();
    let sync = fdatasync(folder.path(), sizes.samples);
    let consensus = first_start(&folder.path().join("first"), rss).await;
    sequential(&consensus, sizes.samples, sync).await;
    for concurrency in [1, 64, 1024] {
        closed_loop(&consensus, concurrency, sizes.load).await;
    }
    paced(&consensus, 1000, sizes.load, sync).await;
    at_rest(sizes.rest).await;
    consensus.shutdown().await;
    restart(folder.path(), sizes.queues).await;
    three_nodes(&folder.path().join("three"), &sizes, sync).await;
    two_nodes(&folder.path().join("two"), &sizes, sync).await;
}

/// Nodes of this process by number; a request is a call of a function.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<BTreeMap<u64, Consensus>>>);

impl Network for Wire {
    async fn call(&self, peer: &Member, request: Bytes) -> Result<Bytes, UnreachableError> {
        let nodes = self.0.lock().expect("no panic").clone();
        match nodes.get(&peer.id.0) {
            Some(node) => Ok(node.receive(&request).await),
            None => Err(UnreachableError("not started".to_owned())),
        }
    }
}

/// Starts `count` nodes; the first leads, and is a voter with the first `voters`.
async fn cluster(folder: &Path, count: u64, voters: u64) -> Vec<Consensus> {
    let wire = Wire::default();
    let (mut nodes, mut seats) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let options = Options {
            found_cluster: number == 1,
            ..Options::new(folder.join(number.to_string()), NodeId(number), "bench")
        };
        let node = consensus::start(options, Table::default(), wire.clone());
        let node = node.await.expect("the log starts");
        let mut started = wire.0.lock().expect("no panic");
        started.insert(number, node.clone());
        nodes.push(node);
        let (id, address) = (NodeId(number), "bench".to_owned());
        let votes = number <= voters;
        let role = if votes { Role::Voter } else { Role::Learner };
        seats.push((Member { id, address }, role));
    }
    nodes[0].arrange(seats).await.expect("all join");
    nodes
}

async fn three_nodes(folder: &Path, sizes: &Sizes, sync: Duration) {
    let nodes = cluster(folder, 3, 3).await;
    for (name, leads) in [("the leader", true), ("a follower", false)] {
        println!("three nodes of one process, from {name}");
        // A busy machine may move the lead.
        let node = nodes.iter().find(|node| node.is_leader() == leads);
        let node = node.expect("one leads, and not all");
        sequential(node, sizes.samples, sync).await;
        closed_loop(node, 64, sizes.load).await;
        let mut times = Vec::with_capacity(sizes.samples);
        for _ in 0..sizes.samples {
            let started = Instant::now();
            node.read_barrier().await.expect("a leader");
            times.push(started.elapsed());
        }
        report("read barrier               ", times, None);
        assert_eq!(
            node.is_leader(),
            leads,
            "the lead has moved; run this again"
        );
    }
    let before = cpu();
    tokio::time::sleep(sizes.rest).await;
    println!(
        "at rest, all three: {:?} CPU in {:?}",
        cpu_since(&before),
        sizes.rest
    );
    for node in nodes {
        node.shutdown().await;
    }
}

async fn two_nodes(folder: &Path, sizes: &Sizes, sync: Duration) {
    println!("a voter and its synchronous learner");
    let nodes = cluster(folder, 2, 1).await;
    nodes[0].set_synchronous(Some(NodeId(2)));
    sequential(&nodes[0], sizes.samples, sync).await;
    closed_loop(&nodes[0], 64, sizes.load).await;
    let mut times = Vec::new();
    for turn in 0..sizes.samples.min(100) {
        let (from, to) = (&nodes[turn % 2], NodeId(2 - turn as u64 % 2));
        nodes.iter().for_each(|node| node.set_synchronous(None));
        let started = Instant::now();
        from.hand_over(to).await.expect("the other takes over");
        times.push(started.elapsed());
    }
    report("hand over", times, None);
    for node in nodes {
        node.shutdown().await;
    }
}

async fn start(folder: &Path) -> Consensus {
    let options = Options::new(folder, NodeId(1), "warren@bench");
    consensus::start(options, Table::default(), Alone)
        .await
        .expect("the log starts")
}

fn command(number: usize) -> Bytes {
    let mut command = vec![0x5a; COMMAND_BYTES];
    command[..8].copy_from_slice(&(number as u64).to_le_bytes());
    command.into()
}

/// Prints a line of percentiles; returns the median.
fn report(name: &str, mut times: Vec<Duration>, sync: Option<Duration>) -> Duration {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let ratio = sync.map_or_else(String::new, |sync| {
        format!(
            ", p50 is {:.2} fdatasync",
            at(50).as_secs_f64() / sync.as_secs_f64()
        )
    });
    println!(
        "{name}: p10 {:?} p50 {:?} p99 {:?}{ratio}",
        at(10),
        at(50),
        at(99)
    );
    at(50)
}

/// One write of 4 KiB and its sync: growing a file, then over written blocks. The second is the
/// unit, being the least a durable write costs.
fn fdatasync(folder: &Path, samples: usize) -> Duration {
    let mut file = fs::File::create(folder.join("plain")).expect("a file");
    let page = [7u8; 4096];
    let mut pass = || {
        (0..samples)
            .map(|_| {
                let started = Instant::now();
                file.write_all(&page)
                    .and_then(|()| file.sync_data())
                    .expect("a synced write");
                started.elapsed()
            })
            .collect::<Vec<_>>()
    };
    let growing = pass();
    file.rewind().expect("a file can be rewound");
    let mut pass = || {
        (0..samples)
            .map(|_| {
                let started = Instant::now();
                file.write_all(&page)
                    .and_then(|()| file.sync_data())
                    .expect("a synced write");
                started.elapsed()
            })
            .collect::<Vec<_>>()
    };
    report("4 KiB append + fdatasync   ", growing, None);
    report("4 KiB overwrite + fdatasync", pass(), None)
}

async fn first_start(folder: &Path, rss: u64) -> Consensus {
    let started = Instant::now();
    let consensus = start(folder).await;
    let up = started.elapsed();
    consensus.propose(command(0)).await.expect("an answer");
    println!(
        "start on an empty folder {up:?}, with a first answer {:?}",
        started.elapsed()
    );
    println!(
        "resident memory added {} KiB",
        (resident_bytes().saturating_sub(rss)) / 1024
    );
    consensus
}

async fn sequential(consensus: &Consensus, samples: usize, sync: Duration) {
    let mut times = Vec::with_capacity(samples);
    for number in 0..samples {
        let started = Instant::now();
        consensus.propose(command(number)).await.expect("an answer");
        times.push(started.elapsed());
    }
    report("one proposal after another ", times, Some(sync));
}

/// `concurrency` proposers, each with one proposal under way.
async fn closed_loop(consensus: &Consensus, concurrency: usize, load: Duration) {
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let before = cpu();
    let mut proposers = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let (consensus, done) = (consensus.clone(), done.clone());
        proposers.spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < load {
                let proposed = Instant::now();
                let number = done.fetch_add(1, Ordering::Relaxed) as usize;
                consensus.propose(command(number)).await.expect("an answer");
                times.push(proposed.elapsed());
            }
            times
        });
    }
    let times: Vec<Duration> = proposers.join_all().await.concat();
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    let each = cpu_since(&before) / times.len() as u32;
    report(
        &format!("{concurrency:4} at once: {rate:6.0}/s, {each:?} CPU each"),
        times,
        None,
    );
}

/// Proposals at a steady rate, whatever their latency.
async fn paced(consensus: &Consensus, rate: u32, load: Duration, sync: Duration) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut proposals = tokio::task::JoinSet::new();
    for number in 0..(load.as_millis() as u32 * rate / 1000) {
        ticks.tick().await;
        let consensus = consensus.clone();
        proposals.spawn(async move {
            let started = Instant::now();
            consensus
                .propose(command(number as usize))
                .await
                .expect("an answer");
            started.elapsed()
        });
    }
    report(
        &format!("{rate} proposals per second   "),
        proposals.join_all().await,
        Some(sync),
    );
}

async fn at_rest(rest: Duration) {
    let before = cpu();
    tokio::time::sleep(rest).await;
    println!("at rest: {:?} CPU in {rest:?}", cpu_since(&before));
}

/// Starts over many commands: after an orderly stop, and from a copy of the files in use.
async fn restart(folder: &Path, queues: usize) {
    let (home, copy) = (folder.join("home"), folder.join("copy"));
    let consensus = start(&home).await;
    let started = Instant::now();
    let mut proposals = tokio::task::JoinSet::new();
    for number in 0..queues {
        let consensus = consensus.clone();
        proposals.spawn(async move { consensus.propose(command(number)).await.map(drop) });
        if proposals.len() >= 1024 {
            proposals
                .join_next()
                .await
                .expect("one is there")
                .expect("no panic")
                .expect("answer");
        }
    }
    proposals.join_all().await;
    let took = started.elapsed();
    let status = consensus.metrics();
    println!(
        "{queues} commands in {took:?}, snapshot at {} of {}",
        status.snapshot, status.applied
    );
    fs::create_dir(&copy).expect("a folder");
    for entry in fs::read_dir(&home).expect("a folder").flatten() {
        fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        println!("  {} {} KiB", entry.file_name().display(), bytes / 1024);
    }
    consensus.shutdown().await;
    for (name, folder) in [("an orderly stop", home), ("a crash", copy)] {
        let started = Instant::now();
        let consensus = start(&folder).await;
        println!(
            "start over {queues} commands after {name}: {:?}",
            started.elapsed()
        );
        assert_eq!(consensus.metrics().voters.len(), 1);
        consensus.shutdown().await;
    }
}

/// Memory in use that is no file's.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU time of each thread so far.
fn cpu() -> BTreeMap<OsString, u64> {
    let threads = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let nanos = threads.map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let nanos = text
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse().ok())
            .unwrap_or(0);
        (thread.file_name(), nanos)
    });
    nanos.collect()
}

/// CPU time since, of the threads that still run.
fn cpu_since(before: &BTreeMap<OsString, u64>) -> Duration {
    let spent = |(thread, nanos)| nanos - before.get(&thread).copied().unwrap_or(0);
    Duration::from_nanos(cpu().into_iter().map(spent).sum())
}
