//! The command line: RabbitMQ PerfTest's option names, short and long, and a few of our own.
//!
//! PerfTest has short names of several letters with one dash (`-ad`, `-qp`); they are turned into
//! their long names before parsing. An option that PerfTest has and we do not is refused, never
//! ignored.
//!
//! Invariant: [`Options::parse`] gives options that fit together; nothing later checks them again.

use std::ffi::OsString;
use std::time::Duration;

use amqp::{ShortStr, Table, Value};
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::uri::Uri;

/// The smallest body that has room for a sequence number and a time.
pub const STAMP_BYTES: usize = 12;

/// A message flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flag {
    /// Survives a restart of the broker; queues are then durable.
    Persistent,
    /// Comes back if no queue takes it.
    Mandatory,
}

/// What to run and what to report.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "warren perf",
    version,
    // What clap makes up names the option that has a default.
    override_usage = "warren perf [OPTIONS]",
    about = "Load generator for AMQP 0-9-1 brokers, with the options of RabbitMQ PerfTest",
    disable_help_flag = true,
    disable_version_flag = true,
    max_term_width = 100
)]
pub struct Options {
    /// Show this text
    #[arg(short = '?', long, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// Show the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,

    /// Name of the run, in front of every line; generated if missing
    #[arg(short = 'd', long)]
    pub id: Option<String>,
    /// Broker to connect to
    #[arg(short = 'h', long, default_value = "amqp://localhost")]
    uri: Uri,
    /// Brokers to spread the connections over, in turn; separated by commas
    #[arg(short = 'H', long, value_delimiter = ',', conflicts_with = "uri")]
    uris: Vec<Uri>,

    /// Producers, each with its own connection
    #[arg(short = 'x', long, default_value_t = 1)]
    pub producers: usize,
    /// Consumers, each with its own connection
    #[arg(short = 'y', long, default_value_t = 1)]
    pub consumers: usize,
    /// Channels of each producer
    #[arg(short = 'X', long, default_value_t = 1, value_parser = channel_count)]
    pub producer_channel_count: u16,
    /// Channels of each consumer
    #[arg(short = 'Y', long, default_value_t = 1, value_parser = channel_count)]
    pub consumer_channel_count: u16,

    /// Body size in bytes; bodies under 12 bytes carry no time and give no latency
    #[arg(short = 's', long, default_value_t = STAMP_BYTES)]
    pub size: usize,
    /// Messages that each producer publishes before it stops; 0 is no limit
    #[arg(short = 'C', long, default_value_t = 0)]
    pub pmessages: u64,
    /// Messages that each consumer receives before it stops; 0 is no limit
    #[arg(short = 'D', long, default_value_t = 0)]
    pub cmessages: u64,
    /// Publishes that may be unconfirmed; -1 is no confirms, 0 is confirms without limit
    #[arg(short = 'c', long, default_value_t = -1, allow_negative_numbers = true)]
    confirm: i64,
    /// Seconds to wait for a confirm before giving up
    #[arg(long, default_value_t = 30)]
    confirm_timeout: u64,
    /// Deliveries that each consumer may hold unacknowledged; 0 is no limit
    #[arg(short = 'q', long, default_value_t = 0)]
    pub qos: u16,
    /// The same for each channel as a whole
    #[arg(short = 'Q', long, default_value_t = 0)]
    pub global_qos: u16,
    /// Acknowledge only every so many deliveries, all at once; 0 is each on its own
    #[arg(short = 'A', long, default_value_t = 0)]
    pub multi_ack_every: u64,
    /// Deliveries count as acknowledged
    #[arg(short = 'a', long)]
    pub autoack: bool,
    /// Message flags
    #[arg(short = 'f', long, num_args = 1..)]
    flag: Vec<Flag>,
    /// Messages per second and producer channel; -1 is no limit
    #[arg(short = 'r', long, default_value_t = -1.0, allow_negative_numbers = true)]
    rate: f64,
    /// Messages per second and consumer channel; -1 is no limit
    #[arg(short = 'R', long, default_value_t = -1.0, allow_negative_numbers = true)]
    consumer_rate: f64,
    /// Seconds to run; 0 is until interrupted
    #[arg(short = 'z', long, default_value_t = 0)]
    time: u64,

    /// Use queues and exchange that are there, declare only what is missing
    #[arg(short = 'p', long)]
    pub predeclared: bool,
    /// Queues, separated by commas; without any, each consumer has one named by the broker
    #[arg(short = 'u', long, value_delimiter = ',')]
    pub queue: Vec<String>,
    /// Exchange; its type if missing, amq.default for the default exchange
    #[arg(short = 'e', long, num_args = 0..=1)]
    exchange: Option<Option<String>>,
    /// Type of the exchange
    #[arg(short = 't', long = "type", default_value = "direct")]
    pub kind: String,
    /// Routing key; generated if missing, with a pattern the name of the queue
    #[arg(short = 'k', long)]
    pub routing_key: Option<String>,
    /// Do not bind the queues to the exchange (-sb)
    #[arg(long)]
    pub skip_binding_queues: bool,
    /// Queues go with their last consumer (-ad)
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub auto_delete: bool,
    /// Queue arguments, such as x-max-length=10; separated by commas (-qa)
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "NAME=VALUE")]
    queue_args: Vec<String>,
    /// Names of a sequence of queues, such as perf-%d; producers and consumers take them in turn (-qp)
    #[arg(long, requires = "queue_pattern_from", conflicts_with = "queue")]
    queue_pattern: Option<String>,
    /// First number of the pattern (-qpf)
    #[arg(long, requires = "queue_pattern_to")]
    queue_pattern_from: Option<u32>,
    /// Last number of the pattern (-qpt)
    #[arg(long, requires = "queue_pattern")]
    queue_pattern_to: Option<u32>,

    /// Seconds between progress lines
    #[arg(short = 'i', long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Largest frame to ask for; 0 is what the broker offers
    #[arg(short = 'M', long, default_value_t = 0)]
    pub framemax: u32,
    /// Heartbeat to ask for in seconds; 0 is what the broker offers
    #[arg(short = 'b', long, default_value_t = 0)]
    pub heartbeat: u16,
    /// Send buffer of each socket in bytes; 0 is what the system gives (-tsbs)
    #[arg(long, default_value_t = 0)]
    pub tcp_send_buffer_size: usize,
    /// Seconds to wait for an orderly end (-st)
    #[arg(long, default_value_t = 5)]
    shutdown_timeout: u64,

    /// Print one JSON object at the end; everything else goes to standard error
    #[arg(long)]
    pub json: bool,
    /// Print latencies only, no rates
    #[arg(long)]
    pub latency_only: bool,
    /// Seconds at the beginning that count for nothing but the progress lines
    #[arg(long, default_value_t = 0)]
    warmup: u64,
    /// Threads for the producers, and as many for the consumers; 0 is half the processors each
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Processes of the broker, separated by commas: report the processor time that they and their
    /// children use per message, and their memory
    #[arg(long, value_delimiter = ',')]
    pub broker_pid: Vec<u32>,
}

/// PerfTest's short names of more than one letter.
const LONG_NAMES: [(&str, &str); 9] = [
    ("-ad", "--auto-delete"),
    ("-ct", "--confirm-timeout"),
    ("-qa", "--queue-args"),
    ("-qp", "--queue-pattern"),
    ("-qpf", "--queue-pattern-from"),
    ("-qpt", "--queue-pattern-to"),
    ("-sb", "--skip-binding-queues"),
    ("-st", "--shutdown-timeout"),
    ("-tsbs", "--tcp-send-buffer-size"),
];

/// The highest rate: a message each 10 ns.
const RATE_MAX: f64 = 1e8;
/// The widest number that a queue pattern may ask for; a name has no room for more.
const PATTERN_WIDTH_MAX: usize = 100;

impl Options {
    /// Reads the arguments behind the name of the command.
    ///
    /// # Errors
    /// Whatever the user has to be told, the help text included; `exit_code` of the error says
    /// whether that is a failure.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Options, clap::Error> {
        let arguments = arguments.map(|argument| {
            let long = LONG_NAMES.iter().find(|(short, _)| argument == *short);
            long.map_or(argument, |(_, long)| OsString::from(long))
        });
        let name = OsString::from("warren perf");
        let mut command = Options::command();
        let matches = command.try_get_matches_from_mut(std::iter::once(name).chain(arguments))?;
        let options = Options::from_arg_matches(&matches)?;
        match options.check() {
            Ok(()) => Ok(options),
            Err(text) => Err(command.error(ErrorKind::ValueValidation, text)),
        }
    }

    /// Says what does not fit together.
    fn check(&self) -> Result<(), String> {
        if self.multi_ack_every > u64::from(self.qos) && self.multi_ack_every > 0 && self.qos > 0 {
            return Err("--multi-ack-every must not be over --qos".to_owned());
        }
        for (name, rate) in [("rate", self.rate), ("consumer-rate", self.consumer_rate)] {
            let sane = rate > 0.0 && rate <= RATE_MAX;
            if !(sane || rate == -1.0) {
                return Err(format!(
                    "--{name} must be over 0 and at most 1e8, or -1 for no limit: {rate}"
                ));
            }
        }
        if self.producers == 0 && self.consumers == 0 {
            return Err("there are neither producers nor consumers".to_owned());
        }
        let queues = self.queues_of_pattern()?;
        if self.predeclared && self.consumers > 0 && queues.is_empty() && self.queue.is_empty() {
            return Err("--predeclared needs the names of the queues: --queue".to_owned());
        }
        self.queue_arguments()?;
        for name in self
            .queue
            .iter()
            .chain(&queues)
            .chain([&self.exchange(), &self.kind])
        {
            ShortStr::try_from(name.as_str()).map_err(|error| error.to_string())?;
        }
        ShortStr::try_from(self.routing_key.as_deref().unwrap_or(""))
            .map_err(|error| error.to_string())?;
        Ok(())
    }

    /// The brokers, at least one.
    #[must_use]
    pub fn uris(&self) -> &[Uri] {
        if self.uris.is_empty() {
            std::slice::from_ref(&self.uri)
        } else {
            &self.uris
        }
    }

    /// The exchange; empty for the default one.
    #[must_use]
    pub fn exchange(&self) -> String {
        match self.exchange.as_ref().and_then(Option::as_ref) {
            Some(name) if name == "amq.default" => String::new(),
            Some(name) => name.clone(),
            None => self.kind.clone(),
        }
    }

    /// The queues of the pattern; none without one.
    ///
    /// # Errors
    /// A text for the user if the pattern has not one place for a number.
    pub fn queues_of_pattern(&self) -> Result<Vec<String>, String> {
        let (Some(pattern), Some(from), Some(to)) = (
            &self.queue_pattern,
            self.queue_pattern_from,
            self.queue_pattern_to,
        ) else {
            return Ok(Vec::new());
        };
        if from > to {
            return Err("--queue-pattern-to is under --queue-pattern-from".to_owned());
        }
        let wrong =
            || format!("a queue pattern has one %d, such as perf-%d or perf-%03d: {pattern}");
        let (front, rest) = pattern.split_once('%').ok_or_else(wrong)?;
        let (width, back) = rest.split_once('d').ok_or_else(wrong)?;
        let zeros = width.starts_with('0');
        let width: usize = match width {
            "" => 0,
            digits => digits.parse().map_err(|_| wrong())?,
        };
        if back.contains('%') || width > PATTERN_WIDTH_MAX {
            return Err(wrong());
        }
        let name = |number| match zeros {
            true => format!("{front}{number:0width$}{back}"),
            false => format!("{front}{number:width$}{back}"),
        };
        Ok((from..=to).map(name).collect())
    }

    /// The queue arguments, typed as PerfTest types them: numbers, booleans, otherwise text.
    ///
    /// # Errors
    /// A text for the user if a name is missing or too long.
    pub fn queue_arguments(&self) -> Result<Table, String> {
        let mut table = Table::new();
        for argument in &self.queue_args {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            if name.is_empty() {
                return Err(format!("a queue argument needs a name: {argument}"));
            }
            let value = match (value, value.parse::<i64>()) {
                ("true", _) => Value::Bool(true),
                ("false", _) => Value::Bool(false),
                (_, Ok(number)) => Value::I64(number),
                (text, _) => Value::LongStr(text.as_bytes().to_vec()),
            };
            let name = ShortStr::try_from(name).map_err(|error| error.to_string())?;
            table.insert(name, value);
        }
        Ok(table)
    }

    /// Whether messages are to survive a restart, and queues with them.
    #[must_use]
    pub fn persistent(&self) -> bool {
        self.flag.contains(&Flag::Persistent)
    }

    /// Whether unroutable messages are to come back.
    #[must_use]
    pub fn mandatory(&self) -> bool {
        self.flag.contains(&Flag::Mandatory)
    }

    /// How many publishes of a channel may be unconfirmed: none at all without confirms,
    /// `u64::MAX` for confirms without limit.
    #[must_use]
    pub fn confirm_window(&self) -> Option<u64> {
        match self.confirm {
            0 => Some(u64::MAX),
            window => u64::try_from(window).ok(),
        }
    }

    /// How long the oldest publish may wait for its confirm.
    #[must_use]
    pub fn confirm_timeout(&self) -> Duration {
        Duration::from_secs(self.confirm_timeout)
    }

    /// Messages per second and producer channel.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        (self.rate > 0.0).then_some(self.rate)
    }

    /// Messages per second and consumer channel.
    #[must_use]
    pub fn consumer_rate(&self) -> Option<f64> {
        (self.consumer_rate > 0.0).then_some(self.consumer_rate)
    }

    /// How long to run, the warm-up not counted.
    #[must_use]
    pub fn run_time(&self) -> Option<Duration> {
        (self.time > 0).then(|| Duration::from_secs(self.time))
    }

    /// How long nothing counts.
    #[must_use]
    pub fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    /// Time between progress lines.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }

    /// How long to wait for an orderly end.
    #[must_use]
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout)
    }
}

fn channel_count(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests;
