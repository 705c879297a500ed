//! Why a configuration is refused, and what is said about one that is not.
//!
//! A refusal lists everything that is wrong, not only the first thing, and each line of it says where the fault is
//! and what would be right. Values of secret settings never appear in it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File {
        path: Arc<PathBuf>,
        line: usize,
    },
    Variable(String),
    /// An argument of the command line.
    Argument(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line } => write!(f, "{}:{line}", path.display()),
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Argument(name) => write!(f, "argument {name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A file that should be there cannot be read.
    Unreadable { path: PathBuf, reason: String },
    /// A line is neither a setting nor a comment.
    Syntax { place: Place, text: String },
    /// Nobody has this key.
    UnknownKey {
        place: Place,
        key: String,
        nearest: Option<String>,
        /// Keys that begin alike.
        siblings: Vec<String>,
    },
    /// The key is known, and this is no value for it.
    BadValue {
        place: Place,
        key: String,
        value: String,
        allowed: String,
    },
    /// Settings that contradict or need each other.
    Conflict {
        place: Option<Place>,
        key: String,
        text: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unreadable { path, reason } => {
                write!(f, "{}: cannot be read: {reason}", path.display())
            }
            Problem::Syntax { place, text } => write!(f, "{place}: {text}"),
            Problem::UnknownKey {
                place,
                key,
                nearest,
                siblings,
            } => {
                write!(f, "{place}: there is no setting {key:?}")?;
                if let Some(nearest) = nearest {
                    write!(f, ", did you mean {nearest:?}?")?;
                }
                if !siblings.is_empty() {
                    write!(f, " (allowed here: {})", siblings.join(", "))?;
                }
                Ok(())
            }
            Problem::BadValue {
                place,
                key,
                value,
                allowed,
            } => {
                write!(f, "{place}: {key} must be {allowed}, not {value:?}")
            }
            Problem::Conflict {
                place: Some(place),
                key,
                text,
            } => write!(f, "{place}: {key}: {text}"),
            Problem::Conflict {
                place: None,
                key,
                text,
            } => write!(f, "{key}: {text}"),
        }
    }
}

/// Why the server does not start.
///
/// Invariant: there is at least one problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> ConfigError {
        ConfigError {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Something an operator should know about a configuration that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub place: Option<Place>,
    /// The setting, or the environment variable, that this is about.
    pub key: String,
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}: {}", self.key, self.text)
    }
}
