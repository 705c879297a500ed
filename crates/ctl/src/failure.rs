//! How a command fails: exit code and text.
//!
//! The codes are those of `sysexits.h`, as RabbitMQ's tools use them. A misuse of the command line
//! is shown with the command's usage.

use crate::command::Command;
use crate::help;
use crate::term::{Term, quoted};
use crate::tool::Tool;

/// Bad usage, unknown command or column.
pub(crate) const USAGE: u8 = 64;
/// Bad data: a wrong password, an unknown virtual host.
pub(crate) const DATA: u8 = 65;
/// No such user.
pub(crate) const NO_USER: u8 = 67;
/// The node is down, a check failed, the node refuses.
pub(crate) const UNAVAILABLE: u8 = 69;
/// It exists already, or an inner error.
pub(crate) const SOFTWARE: u8 = 70;
/// Try again later.
pub(crate) const TEMPORARY: u8 = 75;
/// The tool cannot work with its own settings.
pub(crate) const CONFIG: u8 = 78;

/// A command that did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// Printed to standard error; `None` says nothing.
    pub(crate) text: Option<String>,
    /// What is printed instead when JSON was asked for, with [`UNAVAILABLE`].
    pub(crate) json: Option<Term>,
}

impl Failure {
    /// Shown under `Error:`.
    pub(crate) fn new(code: u8, text: impl AsRef<str>) -> Failure {
        Failure::plain(code, format!("Error:\n{}", text.as_ref()))
    }

    /// Shown as it is.
    pub(crate) fn plain(code: u8, text: impl Into<String>) -> Failure {
        Failure {
            code,
            text: Some(text.into()),
            json: None,
        }
    }

    /// Only the exit code.
    pub(crate) fn silent(code: u8) -> Failure {
        Failure {
            code,
            text: None,
            json: None,
        }
    }

    /// Shown under `Error:`, with the node refusing.
    pub(crate) fn refused(text: impl AsRef<str>) -> Failure {
        Failure::new(UNAVAILABLE, text)
    }

    pub(crate) fn with_json(mut self, json: Term) -> Failure {
        self.json = Some(json);
        self
    }

    /// A virtual host that is not there.
    pub(crate) fn no_vhost(vhost: &str) -> Failure {
        Failure::plain(DATA, format!("Virtual host '{vhost}' does not exist"))
    }

    /// A queue or the like that is not there.
    pub(crate) fn not_found() -> Failure {
        Failure::plain(DATA, "Object (queue, stream, exchange, etc) was not found")
    }

    /// A user who is not there, as the commands say it that have no words of their own for it.
    pub(crate) fn no_user(user: &str) -> Failure {
        Failure::refused(format!("{{:no_such_user, {}}}", quoted(user)))
    }
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Misuse {
    NotEnough(Option<String>),
    TooMany,
    Bad(Option<String>),
    Options(Vec<(String, Option<String>)>),
    Columns(Vec<String>),
    Formatter,
    /// The command cannot be used on this node.
    Target(String),
    /// The broker application must run; and why it does not.
    AppStopped(Option<String>),
    /// The broker application must not run.
    AppRunning,
    /// Anything else, shown in quotes.
    Other(String),
}

impl Misuse {
    pub(crate) fn bad(text: impl Into<String>) -> Misuse {
        Misuse::Bad(Some(text.into()))
    }

    /// What is printed: `kind`, the fault, the command line and the usage.
    pub(crate) fn failure(
        &self,
        tool: Tool,
        command: &Command,
        words: &[String],
        kind: &str,
    ) -> Failure {
        let text = format!(
            "{kind}: {}\nArguments given:\n\t{}\n{}",
            self.text(),
            words.join(" "),
            help::usage(tool, command)
        );
        Failure::plain(self.code(), text)
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Misuse::Bad(_) => DATA,
            _ => USAGE,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Misuse::NotEnough(None) => "not enough arguments.".to_owned(),
            Misuse::NotEnough(Some(detail)) => format!("not enough arguments: {detail}"),
            Misuse::TooMany => "too many arguments.".to_owned(),
            Misuse::Bad(None) => "Bad argument.".to_owned(),
            Misuse::Bad(Some(detail)) => format!("Bad argument: {detail}"),
            Misuse::Options(options) => {
                let mut text = "Invalid options for this command:".to_owned();
                for (name, value) in options {
                    text.push_str(&format!(
                        "\n{name} : {}",
                        value.as_deref().unwrap_or_default()
                    ));
                }
                text
            }
            Misuse::Columns(columns) => {
                format!("Info key(s) {} are not supported", columns.join(","))
            }
            Misuse::Formatter => {
                "the requested formatter is not supported by this command".to_owned()
            }
            Misuse::Target(text) => text.clone(),
            Misuse::AppStopped(why) => {
                let mut text =
                    "this command requires the 'rabbit' app to be running on the target \
                                node. Start it with 'rabbitmqctl start_app'."
                        .to_owned();
                if let Some(why) = why {
                    text.push_str(&format!("\n{why}"));
                }
                text
            }
            Misuse::AppRunning => "this command requires the 'rabbit' app to be stopped on the \
                                   target node. Stop it with 'rabbitmqctl stop_app'."
                .to_owned(),
            Misuse::Other(text) => quoted(text),
        }
    }
}

/// Why a command was not even tried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unfit {
    Misuse(Misuse),
    Failure(Failure),
}

impl From<Misuse> for Unfit {
    fn from(misuse: Misuse) -> Unfit {
        Unfit::Misuse(misuse)
    }
}

impl From<Failure> for Unfit {
    fn from(failure: Failure) -> Unfit {
        Unfit::Failure(failure)
    }
}
