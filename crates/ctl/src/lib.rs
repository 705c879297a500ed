//! `warren ctl`: the command line of `rabbitmqctl`, `rabbitmq-diagnostics`, `rabbitmq-queues`,
//! `rabbitmq-plugins` and `rabbitmq-upgrade` in their 3.13.
//!
//! A command line becomes questions to one node, asked over its node port with the cookie as the
//! only credential, and the answers become text. [`main`] does it all. Banners, tables, JSON and
//! exit codes are those of RabbitMQ's tools, since scripts read them; what Warren has no use for
//! says so.
//!
//! `options` and `run` read the command line, `commands` has one file per noun, `format` prints.
//! Only `link` touches the network and the terminal; tests put a fake in its place (`outside`).

mod call;
mod columns;
mod command;
mod commands;
mod cookie;
mod diagnosis;
mod erlang;
mod failure;
mod format;
mod help;
mod internal;
mod json;
mod link;
mod options;
mod output;
mod outside;
mod pid;
mod run;
mod suggest;
mod target;
mod term;
mod tool;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use tool::Tool;

/// The version of RabbitMQ whose tools this is compatible with.
const RABBITMQ_VERSION: &str = "3.13.7";

/// Whether a program called by this name behaves as one of RabbitMQ's tools, for which [`main`] is.
/// The name may have a path before it.
#[must_use]
pub fn is_tool(program: &str) -> bool {
    tool_of(program).is_some()
}

/// Does to a node of which no process runs what can only be done in its data folder: removes another node,
/// the second, from the cluster as the first knows it.
pub type ForgetOffline = fn(own: &str, other: &str) -> Result<(), Refused>;

/// Why that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub exit_code: u8,
    pub text: String,
}

/// Runs a command line. `args` begins with the name of the program, as the process got it: the name
/// of a tool, or another, which is then followed by the word `ctl`. `env` is the environment.
#[must_use]
pub fn main(
    args: Vec<String>,
    env: BTreeMap<String, String>,
    forget_offline: ForgetOffline,
) -> ExitCode {
    let mut words = args.into_iter();
    let tool = tool_of(&words.next().unwrap_or_default());
    let mut words: Vec<String> = words.collect();
    if tool.is_none() && words.first().is_some_and(|word| word == "ctl") {
        words.remove(0);
    }
    match link::Process::new(env, forget_offline) {
        Ok(mut process) => {
            let tool = tool.unwrap_or(Tool::Warren);
            ExitCode::from(run::execute(tool, &words, &mut process))
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "Error: cannot start: {error}");
            ExitCode::from(failure::SOFTWARE)
        }
    }
}

fn tool_of(program: &str) -> Option<Tool> {
    Tool::of_name(program.rsplit('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
