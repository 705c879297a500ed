//! Where log lines go, and which.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The least serious message that is still written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
    None,
}

impl LogLevel {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Notice => "notice",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
            LogLevel::Critical => "critical",
            LogLevel::Alert => "alert",
            LogLevel::Emergency => "emergency",
            LogLevel::None => "none",
        }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Plaintext,
    Json,
}

/// When a log file is set aside and a new one begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRotation {
    /// Zero never rotates by size.
    pub size: u64,
    /// How many old files are kept.
    pub count: u32,
}

/// The log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub enabled: bool,
    /// Within `Log::dir`, unless it is absolute.
    pub name: PathBuf,
    pub level: LogLevel,
    pub format: LogFormat,
    pub rotation: LogRotation,
}

/// The log on standard output or error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConsole {
    pub enabled: bool,
    pub level: LogLevel,
    pub format: LogFormat,
    /// Standard error, not output.
    pub stderr: bool,
}

/// The log as messages in the exchange `amq.rabbitmq.log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogExchange {
    pub enabled: bool,
    pub level: LogLevel,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub dir: PathBuf,
    pub file: LogFile,
    /// On by default, where RabbitMQ has it off: a server started by hand should say what it does.
    pub console: LogConsole,
    pub exchange: LogExchange,
    pub default_level: LogLevel,
    /// By category (`connection`, `queue` …), where it differs from `default_level`.
    pub category_levels: BTreeMap<String, LogLevel>,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            dir: PathBuf::new(),
            file: LogFile {
                enabled: true,
                name: PathBuf::new(),
                level: LogLevel::Info,
                format: LogFormat::Plaintext,
                rotation: LogRotation::default(),
            },
            console: LogConsole {
                enabled: true,
                level: LogLevel::Info,
                format: LogFormat::Plaintext,
                stderr: false,
            },
            exchange: LogExchange {
                enabled: false,
                level: LogLevel::Info,
            },
            default_level: LogLevel::Info,
            category_levels: BTreeMap::new(),
        }
    }
}
