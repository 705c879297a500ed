//! Where log lines go: a file and the console, each with its own level and form.
//!
//! A plain line is what scrapers of RabbitMQ's log match: time in UTC with microseconds, level in
//! lower case, the task in the place of the Erlang process, message. A message of several lines has
//! the head on each, so that nobody can forge an entry by naming a queue with a line break. Levels
//! change while the node runs; the file is opened again on request, after it was moved away.

mod file;
mod line;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc::{Receiver, Sender};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, Log, LogFormat, LogLevel};
use file::LogFile;

/// The levels that may be named, from the least serious to none at all.
const LEVELS: [LogLevel; 9] = [
    LogLevel::Debug,
    LogLevel::Info,
    LogLevel::Notice,
    LogLevel::Warning,
    LogLevel::Error,
    LogLevel::Critical,
    LogLevel::Alert,
    LogLevel::Emergency,
    LogLevel::None,
];

/// A place lines go to.
struct Target {
    level: AtomicU8,
    format: LogFormat,
    to: Mutex<Sink>,
}

enum Sink {
    File(LogFile),
    Stdout,
    Stderr,
    /// To be published (`log.exchange`).
    Exchange(Sender<Line>),
}

/// A line that is to be published.
#[derive(Debug)]
pub(crate) struct Line {
    pub level: &'static str,
    pub text: String,
}

/// Lines that wait to be published.
const LINES_MAX: usize = 4096;

impl Target {
    fn new(level: LogLevel, format: LogFormat, to: Sink) -> Target {
        Target { level: AtomicU8::new(level as u8), format, to: Mutex::new(to) }
    }

    fn takes(&self, level: LogLevel) -> bool {
        level as u8 >= self.level.load(Ordering::Relaxed)
    }

    /// A log that cannot be written is no reason to stop serving.
    fn write(&self, level: LogLevel, text: &str) {
        let _ = match &mut *self.to.lock() {
            Sink::File(file) => file.write(text),
            Sink::Stdout => std::io::stdout().write_all(text.as_bytes()),
            Sink::Stderr => std::io::stderr().write_all(text.as_bytes()),
            Sink::Exchange(lines) => {
                let _ = lines.try_send(Line { level: level.name(), text: text.to_owned() });
                Ok(())
            }
        };
    }
}

/// The log of this process.
#[derive(Clone)]
pub(crate) struct Logs(Arc<Inner>);

struct Inner {
    targets: Vec<Target>,
    /// What is asked of lines of a category beyond what the target asks.
    categories: RwLock<BTreeMap<String, LogLevel>>,
    /// What is to be published, until somebody takes it.
    lines: Mutex<Option<Receiver<Line>>>,
}

impl Logs {
    /// Opens the log file and takes all lines of the process from now on.
    pub(crate) fn install(config: &Config) -> Result<Logs> {
        let logs = Logs::open(&config.log, config.log_file().as_deref())?;
        tracing_subscriber::registry().with(logs.clone()).try_init().context("there is a log already")?;
        Ok(logs)
    }

    fn open(log: &Log, path: Option<&Path>) -> Result<Logs> {
        let mut targets = Vec::new();
        if let Some(path) = path {
            let file = LogFile::open(path, log.file.rotation.clone()).with_context(|| {
                format!(
                    "cannot write the log file {}; make its folder writable, name another one with log.dir, \
                     or do without with log.file = false",
                    path.display()
                )
            })?;
            targets.push(Target::new(log.file.level, log.file.format, Sink::File(file)));
        }
        if log.console.enabled {
            let to = if log.console.stderr { Sink::Stderr } else { Sink::Stdout };
            targets.push(Target::new(log.console.level, log.console.format, to));
        }
        let mut lines = None;
        if log.exchange.enabled {
            let (sender, receiver) = tokio::sync::mpsc::channel(LINES_MAX);
            targets.push(Target::new(log.exchange.level, LogFormat::Plaintext, Sink::Exchange(sender)));
            lines = Some(receiver);
        }
        let categories = RwLock::new(log.category_levels.clone());
        Ok(Logs(Arc::new(Inner { targets, categories, lines: Mutex::new(lines) })))
    }

    /// The lines that are to be published, for the first who asks.
    pub(crate) fn lines(&self) -> Option<Receiver<Line>> {
        self.0.lines.lock().take()
    }

    /// Sets the level of everything, whatever the configuration said.
    pub(crate) fn set_level(&self, name: &str) -> Result<(), String> {
        let Some(level) = LEVELS.into_iter().find(|level| level.name() == name) else {
            return Err(format!("unknown log level: {name}; one of {}", LEVELS.map(LogLevel::name).join(", ")));
        };
        self.0.categories.write().clear();
        for target in &self.0.targets {
            target.level.store(level as u8, Ordering::Relaxed);
        }
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Opens the file by its name again: whoever rotates logs has moved the old one away.
    pub(crate) fn reopen(&self) {
        for target in &self.0.targets {
            // Not logged while the lock is held: the line would wait for it.
            let failed = match &mut *target.to.lock() {
                Sink::File(file) => file.reopen().err().map(|error| (file.path().display().to_string(), error)),
                Sink::Stdout | Sink::Stderr | Sink::Exchange(_) => None,
            };
            if let Some((path, error)) = failed {
                tracing::error!("the log file {path} cannot be opened again, the old one is written on: {error}");
            }
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let level = level_of(metadata);
        if level < floor(metadata.target()) {
            return false;
        }
        let asked = category(metadata.target()).and_then(|category| self.0.categories.read().get(category).copied());
        asked.is_none_or(|asked| level >= asked) && self.0.targets.iter().any(|target| target.takes(level))
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && self.wants(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = level_of(event.metadata());
        let message = line::message(event);
        let micros = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_micros());
        let head = line::Head {
            unix_micros: u64::try_from(micros).unwrap_or(u64::MAX),
            level: level.name(),
            task: tokio::task::try_id().map(|id| id.to_string()),
        };
        for target in self.0.targets.iter().filter(|target| target.takes(level)) {
            let text = match target.format {
                LogFormat::Plaintext => line::plain(&head, &message),
                LogFormat::Json => line::json(&head, &message),
            };
            target.write(level, &text);
        }
    }
}

fn level_of(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        tracing::Level::ERROR => LogLevel::Error,
        tracing::Level::WARN => LogLevel::Warning,
        tracing::Level::INFO => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// Libraries are only heard where something is wrong. What the engine of the metadata log warns of (a member that is
/// away does not answer it) and takes for errors (it is asked while it ends) is told by us, in words of ours.
fn floor(target: &str) -> LogLevel {
    match target.split("::").next().unwrap_or(target) {
        "server" | "broker" | "management" | "consensus" | "store" | "cluster" | "amqp" | "warren" => LogLevel::Debug,
        "openraft" => LogLevel::Critical,
        _ => LogLevel::Warning,
    }
}

/// RabbitMQ's name for what a line is about.
fn category(target: &str) -> Option<&'static str> {
    match target.split("::").take(2).collect::<Vec<_>>().as_slice() {
        ["server", "connection_driver" | "listener" | "tls"] => Some("connection"),
        ["server", "queue_driver"] => Some("queue"),
        ["consensus", ..] => Some("ra"),
        _ => None,
    }
}

/// Where the log goes, for operators to see.
pub(crate) fn files(config: &Config) -> Vec<String> {
    config.log_file().map_or_else(|| vec!["stdout".to_owned()], |file| vec![file.display().to_string()])
}

#[cfg(test)]
mod tests;
