//! A run from the first connection to the summary.
//!
//! Queues, consumers and producers are set up one after another; what is measured begins when all
//! are there and the first message is due, or when the warm-up is over. It ends at the limit of
//! time, when every channel with a limit of messages has reached it, when a connection fails, or
//! when the user interrupts.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::clock;
use crate::connection::{Connection, Note};
use crate::meter::{Meter, Tally};
use crate::options::Options;
use crate::report::{Measured, Output, Report};
use crate::schedule::Nanos;
use crate::setup::Setup;
use crate::topology::Topology;
use crate::usage::Look;
use crate::worker::{Shared, Worker};

/// Runs the load and prints what there is to print. A connection that fails while messages flow
/// ends the run; the report says so.
///
/// # Errors
/// If the run could not be started.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let id = options.id.clone().unwrap_or_else(|| name(since_epoch));
    let output = Output { options, id: &id };
    let key = format!("perf-{:x}", since_epoch.as_nanos());
    let topology = Topology::new(options, &key);
    let (sender, notes) = unbounded_channel();
    let stop = Arc::new(AtomicBool::new(false));
    let mut run = Run {
        setup: Setup {
            options,
            topology: &topology,
            id: &id,
        },
        output,
        shared: Shared {
            stop: Arc::clone(&stop),
            notes: sender,
            confirm_timeout: options.confirm_timeout(),
            shutdown_timeout: options.shutdown_timeout(),
        },
        notes,
        meters: Vec::new(),
        threads: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(run.drive());
    stop.store(true, Ordering::Relaxed);
    for thread in run.threads.drain(..) {
        match thread.join() {
            Ok(worked) => worked.context("a worker failed")?,
            Err(_) => return Err(anyhow!("a worker has panicked")),
        }
    }
    let report = result?;
    output.summary(&report);
    Ok(report)
}

/// A name as PerfTest gives it: the time of day, here in UTC, and milliseconds.
fn name(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs() % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let millis = since_epoch.subsec_millis();
    format!("test-{hours:02}{minutes:02}{seconds:02}-{millis:03}")
}

struct Run<'a> {
    setup: Setup<'a>,
    output: Output<'a>,
    shared: Shared,
    notes: UnboundedReceiver<Note>,
    meters: Vec<Arc<Meter>>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

/// Why a run has ended.
struct End {
    reason: String,
    error: Option<String>,
}

/// Where what is measured begins.
struct Begin {
    time: Nanos,
    process_time: Nanos,
    broker: Look,
}

impl Begin {
    fn now(options: &Options) -> Result<Begin> {
        Ok(Begin {
            broker: Look::at(&options.broker_pid)?,
            process_time: clock::process_time(),
            time: clock::now(),
        })
    }
}

/// What a note means for the run.
enum Event {
    Nothing,
    ConsumerStarted,
    ChannelDone(&'static str),
    Failed(String),
}

impl Run<'_> {
    async fn drive(&mut self) -> Result<Report> {
        let options = self.setup.options;
        // Ask now, so that a wrong number is found before anything is declared.
        Look::at(&options.broker_pid)?;
        self.setup.declare()?;
        self.start_consumers().await?;
        let mut producers = Vec::new();
        for index in 0..options.producers {
            let producer = self.setup.producer(index);
            producers.push(producer.with_context(|| format!("producer #{index}"))?);
            self.output
                .line_of_run(&format!("starting producer #{index}"));
        }
        let mut begin = Begin::now(options)?;
        let start = begin.time;
        self.spawn("producers", producers, start)?;
        let mut total = Tally::default();
        let mut resident_max = begin.broker.resident_bytes();
        let end = self
            .watch(&mut begin, &mut total, &mut resident_max)
            .await?;
        total.add(self.take());
        let elapsed = clock::now() - begin.time;
        let process_time = clock::process_time() - begin.process_time;
        self.shared.stop.store(true, Ordering::Relaxed);
        let broker = match options.broker_pid.is_empty() {
            true => None,
            // If the broker has died, its failure is already known.
            false => Look::at(&options.broker_pid).ok().map(|look| {
                let resident = look.resident_bytes();
                (
                    look.since(&begin.broker),
                    resident,
                    resident_max.max(resident),
                )
            }),
        };
        let measured = Measured {
            elapsed,
            process_time,
            broker,
        };
        let mut report = Report::new(&self.output, &total, &measured);
        (report.stop_reason, report.error) = (end.reason, end.error);
        Ok(report)
    }

    /// Sets the consumers up and waits until all of them consume.
    async fn start_consumers(&mut self) -> Result<()> {
        let options = self.setup.options;
        let mut consumers = Vec::new();
        for index in 0..options.consumers {
            let consumer = self.setup.consumer(index);
            consumers.push(consumer.with_context(|| format!("consumer #{index}"))?);
            self.output
                .line_of_run(&format!("starting consumer #{index}"));
        }
        self.spawn("consumers", consumers, clock::now())?;
        let mut missing = options.consumers * usize::from(options.consumer_channel_count);
        let mut interrupt = signal(SignalKind::interrupt())?;
        while missing > 0 {
            let note = tokio::select! {
                note = self.notes.recv() => note.context("the workers have gone")?,
                _ = interrupt.recv() => return Err(anyhow!("interrupted")),
            };
            match self.note(note) {
                Event::ConsumerStarted => missing -= 1,
                Event::Failed(error) => return Err(anyhow!(error)),
                Event::Nothing | Event::ChannelDone(_) => {}
            }
        }
        Ok(())
    }

    /// Spreads connections over threads.
    fn spawn(&mut self, name: &str, connections: Vec<Connection>, start: Nanos) -> Result<()> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = match self.setup.options.threads {
            0 => (processors / 2).max(1),
            threads => threads,
        };
        let mut shares: Vec<Vec<Connection>> = Vec::new();
        shares.resize_with(threads.min(connections.len()), Vec::new);
        let count = shares.len();
        for (index, connection) in connections.into_iter().enumerate() {
            shares[index % count].push(connection);
        }
        for share in shares {
            let meter = Arc::new(Meter::default());
            self.meters.push(Arc::clone(&meter));
            let worker = Worker::new(self.shared.clone(), meter, share);
            let thread = thread::Builder::new().name(name.to_owned());
            self.threads.push(thread.spawn(move || worker.run(start))?);
        }
        Ok(())
    }

    /// Prints progress until the run ends.
    async fn watch(
        &mut self,
        begin: &mut Begin,
        total: &mut Tally,
        resident_max: &mut u64,
    ) -> Result<End> {
        let options = self.setup.options;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let now = Instant::now();
        let mut ticks = interval_at(now + options.interval(), options.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut warm = options.warmup().is_zero();
        let mut warmed = pin!(sleep_until(now + options.warmup()));
        let time_limit = options.run_time().map(|time| now + options.warmup() + time);
        let mut over = pin!(sleep_until(time_limit.unwrap_or(now)));
        let (start, mut last) = (begin.time, begin.time);
        let mut interval = Tally::default();
        let mut unfinished = channels_with_limit(options);
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(End::orderly("Interrupted")),
                _ = terminate.recv() => return Ok(End::orderly("Terminated")),
                () = &mut warmed, if !warm => {
                    warm = true;
                    interval.add(self.take());
                    *begin = Begin::now(options)?;
                }
                () = &mut over, if time_limit.is_some() => {
                    return Ok(End::orderly("Reached time limit"));
                }
                note = self.notes.recv() => match self.note(note.context("the workers have gone")?) {
                    Event::ChannelDone(reason) => {
                        unfinished = unfinished.map(|count| count - 1);
                        if unfinished == Some(0) {
                            return Ok(End::orderly(reason));
                        }
                    }
                    Event::Failed(error) => {
                        let reason = "Connection failed".to_owned();
                        return Ok(End { reason, error: Some(error) });
                    }
                    Event::Nothing | Event::ConsumerStarted => {}
                },
                _ = ticks.tick() => {
                    let taken = self.take();
                    let now = clock::now();
                    if warm {
                        total.add(taken.clone());
                    }
                    interval.add(taken);
                    self.output.progress(now - start, now - last, &interval);
                    (interval, last) = (Tally::default(), now);
                    if let Ok(look) = Look::at(&options.broker_pid) {
                        *resident_max = look.resident_bytes().max(*resident_max);
                    }
                }
            }
        }
    }

    /// Takes what all workers have counted since the last time.
    fn take(&self) -> Tally {
        let mut all = Tally::default();
        for meter in &self.meters {
            all.add(meter.take());
        }
        all
    }

    /// Prints a note and says what it means.
    fn note(&self, note: Note) -> Event {
        match note {
            Note::ConsumerStarted => Event::ConsumerStarted,
            Note::ProducerDone => Event::ChannelDone("Producer reached message limit"),
            Note::ConsumerDone => Event::ChannelDone("Consumer reached message limit"),
            Note::Blocked { connection, reason } => {
                let text = format!("{connection} is blocked by the broker: {reason}");
                self.output.line_of_run(&text);
                Event::Nothing
            }
            Note::Unblocked { connection } => {
                let text = format!("{connection} is no longer blocked");
                self.output.line_of_run(&text);
                Event::Nothing
            }
            Note::Failed {
                connection,
                failure,
            } => Event::Failed(format!("{connection}: {failure}")),
        }
    }
}

impl End {
    fn orderly(reason: &str) -> End {
        End {
            reason: reason.to_owned(),
            error: None,
        }
    }
}

/// How many channels have a limit of messages, if any.
fn channels_with_limit(options: &Options) -> Option<usize> {
    let mut count = 0;
    if options.pmessages > 0 {
        count += options.producers * usize::from(options.producer_channel_count);
    }
    if options.cmessages > 0 {
        count += options.consumers * usize::from(options.consumer_channel_count);
    }
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests;
