//! Who may do what: regular expressions over resource names.
//!
//! A pattern is searched for anywhere in the name, as RabbitMQ does; the empty pattern matches the
//! empty name alone. Patterns are written for PCRE: what the linear-time engine cannot express
//! (look-around, back references) runs on a backtracking engine with a step limit, and a search that
//! reaches the limit counts as no match. The most common shapes need no engine at all, so that tens of
//! thousands of permissions cost little memory.

use std::fmt;

use crate::id::Name;
use crate::metadata::Tables;

mod dialect;

/// The longest pattern in bytes.
pub const PATTERN_LEN_MAX: usize = 1024;

/// Steps after which a backtracking search gives up.
const STEPS_MAX: usize = 50_000;
/// Bytes that one compiled pattern may take.
const COMPILED_SIZE_MAX: usize = 1 << 20;

/// A compiled pattern: searched for anywhere in the name; empty means "matches only the empty name".
#[derive(Clone, Debug)]
pub struct Pattern {
    pub source: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Everything,
    Empty,
    Exactly(Box<str>),
    StartsWith(Box<str>),
    Linear(regex::Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

/// Why a pattern cannot be used; the text says what is wrong in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(pub String);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// When it is not a regular expression, or too long or too large when compiled.
    pub fn compile(source: &str) -> Result<Pattern, BadPattern> {
        let matcher = match dialect::shape(source) {
            Some(dialect::Shape::Everything) => Matcher::Everything,
            Some(dialect::Shape::Empty) => Matcher::Empty,
            Some(dialect::Shape::Exactly(text)) => Matcher::Exactly(text.into()),
            Some(dialect::Shape::StartsWith(text)) => Matcher::StartsWith(text.into()),
            None => compile(source)?,
        };
        Ok(Pattern {
            source: source.to_owned(),
            matcher,
        })
    }

    /// Whether the pattern is found in `name`.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Empty => name.is_empty(),
            Matcher::Exactly(text) => name == &**text,
            Matcher::StartsWith(text) => name.starts_with(&**text),
            Matcher::Linear(regex) => regex.is_match(name),
            // Reaching the step limit means: no.
            Matcher::Backtracking(regex) => regex.is_match(name).unwrap_or(false),
        }
    }
}

fn compile(source: &str) -> Result<Matcher, BadPattern> {
    if source.len() > PATTERN_LEN_MAX {
        return Err(BadPattern(format!(
            "longer than {PATTERN_LEN_MAX} bytes: {}",
            source.len()
        )));
    }
    let source = dialect::from_pcre(source);
    let linear = regex::RegexBuilder::new(&source)
        .size_limit(COMPILED_SIZE_MAX)
        .build();
    match linear {
        Ok(regex) => return Ok(Matcher::Linear(regex)),
        Err(error @ regex::Error::CompiledTooBig(_)) => return Err(BadPattern(error.to_string())),
        Err(_) => {}
    }
    fancy_regex::RegexBuilder::new(&source)
        .backtrack_limit(STEPS_MAX)
        .delegate_size_limit(COMPILED_SIZE_MAX)
        .build()
        .map(|regex| Matcher::Backtracking(Box::new(regex)))
        .map_err(|error| BadPattern(one_line(&error)))
}

/// Error texts of the engines draw the pattern on several lines.
fn one_line(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let last = text
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("");
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    Configure,
    Write,
    Read,
}

impl Right {
    /// The word for it in texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Right::Configure => "configure",
            Right::Write => "write",
            Right::Read => "read",
        }
    }
}

/// On what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

impl<'a> Resource<'a> {
    /// The name that patterns and texts see: the default exchange is known as `amq.default`.
    fn name(self) -> &'a str {
        match self {
            Resource::Exchange("") => "amq.default",
            Resource::Queue(name) | Resource::Exchange(name) => name,
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Resource::Queue(_) => "queue",
            Resource::Exchange(_) => "exchange",
        }
    }
}

/// What a user may do in a virtual host.
#[derive(Clone, Debug, PartialEq)]
pub struct Permission {
    pub user: Name,
    pub vhost: Name,
    pub configure: Pattern,
    pub write: Pattern,
    pub read: Pattern,
}

impl Permission {
    /// Whether the user has `right` on something of this name.
    #[must_use]
    pub fn allows(&self, right: Right, resource: Resource<'_>) -> bool {
        let pattern = match right {
            Right::Configure => &self.configure,
            Right::Write => &self.write,
            Right::Read => &self.read,
        };
        pattern.is_match(resource.name())
    }
}

/// Which routing keys a user may use on a topic exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicPermission {
    pub user: Name,
    pub vhost: Name,
    pub exchange: Name,
    /// Patterns as written, with their variables.
    pub write: String,
    pub read: String,
    expanded_write: Pattern,
    expanded_read: Pattern,
}

impl TopicPermission {
    /// Puts the user's and the virtual host's name in place of `{username}` and `{vhost}`, as literal
    /// text, and compiles. Other variables stay as they are written.
    ///
    /// # Errors
    /// When one of the patterns is no regular expression.
    pub fn compile(
        user: Name,
        vhost: Name,
        exchange: Name,
        write: String,
        read: String,
    ) -> Result<TopicPermission, BadPattern> {
        let expand = |pattern: &str| {
            let pattern = pattern.replace("{username}", &regex::escape(&user));
            Pattern::compile(&pattern.replace("{vhost}", &regex::escape(&vhost)))
        };
        let (expanded_write, expanded_read) = (expand(&write)?, expand(&read)?);
        Ok(TopicPermission {
            user,
            vhost,
            exchange,
            write,
            read,
            expanded_write,
            expanded_read,
        })
    }

    /// Whether the user may use `routing_key`. Nobody configures routing keys.
    #[must_use]
    pub fn allows(&self, right: Right, routing_key: &[u8]) -> bool {
        let pattern = match right {
            Right::Configure => return true,
            Right::Write => &self.expanded_write,
            Right::Read => &self.expanded_read,
        };
        pattern.is_match(&String::from_utf8_lossy(routing_key))
    }
}

/// A refusal of access, with the text that the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Checks that a user may enter a virtual host at all.
///
/// # Errors
/// When it may not, or there is no such virtual host.
pub fn vhost_access(tables: &Tables, user: &str, vhost: &str) -> Result<(), Refused> {
    if tables
        .vhosts
        .get(vhost)
        .is_some_and(|v| v.permissions.contains_key(user))
    {
        Ok(())
    } else {
        Err(Refused(format!(
            "access to vhost '{vhost}' refused for user '{user}'"
        )))
    }
}

/// Checks a right on a queue or an exchange.
///
/// # Errors
/// When the user does not have it.
pub fn access(
    tables: &Tables,
    user: &str,
    vhost: &str,
    right: Right,
    resource: Resource<'_>,
) -> Result<(), Refused> {
    let permission = tables
        .vhosts
        .get(vhost)
        .and_then(|v| v.permissions.get(user));
    if permission.is_some_and(|p| p.allows(right, resource)) {
        return Ok(());
    }
    let (right, kind, name) = (right.as_str(), resource.kind(), resource.name());
    Err(Refused(format!(
        "{right} access to {kind} '{name}' in vhost '{vhost}' refused for user '{user}'"
    )))
}

/// Checks the use of a routing key on a topic exchange. Without a topic permission for this exchange
/// every key is allowed. The caller knows that the exchange is of type topic.
///
/// # Errors
/// When the user's topic permission does not match the key.
pub fn topic_access(
    tables: &Tables,
    user: &Name,
    vhost: &str,
    right: Right,
    exchange: &Name,
    routing_key: &[u8],
) -> Result<(), Refused> {
    let key = (Name::clone(user), Name::clone(exchange));
    let permission = tables
        .vhosts
        .get(vhost)
        .and_then(|v| v.topic_permissions.get(&key));
    if permission.is_none_or(|p| p.allows(right, routing_key)) {
        return Ok(());
    }
    let (right, key) = (right.as_str(), String::from_utf8_lossy(routing_key));
    Err(Refused(format!(
        "{right} access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' refused for \
         user '{user}'"
    )))
}

#[cfg(test)]
mod tests;
