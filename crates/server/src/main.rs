//! `warren`: server, command line and load generator in one binary.
//!
//! Called through a link named `rabbitmqctl`, `rabbitmq-diagnostics`, `rabbitmq-queues`,
//! `rabbitmq-plugins` or `rabbitmq-upgrade` it behaves as that tool.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use server::config::Arguments;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A clustered message broker that RabbitMQ's clients and tools can use.
#[derive(Parser)]
#[command(name = "warren", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node.
    Server(ServerOptions),
    /// Asks and commands a node, as rabbitmqctl does; see `warren ctl help`.
    #[command(disable_help_flag = true)]
    Ctl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Generates load, with the options of RabbitMQ's PerfTest.
    #[command(disable_help_flag = true)]
    Perf {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(clap::Args)]
struct ServerOptions {
    /// The configuration file, in the syntax of rabbitmq.conf.
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// The node's name: name@host or name@host:port.
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Where the node keeps everything.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// A setting as in the configuration file; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The tools have their own way with arguments.
    if called.starts_with("rabbitmq") || std::env::args_os().nth(1).is_some_and(|word| word == "ctl") {
        return ctl::main(std::env::args().collect(), std::env::vars().collect());
    }
    match Cli::parse().command {
        Command::Server(options) => server::server::run(Arguments {
            config_file: options.config_file,
            node_name: options.node_name,
            data_dir: options.data_dir,
            settings: options.settings,
        }),
        Command::Ctl { .. } => ExitCode::from(64),
        Command::Perf { arguments } => perf::main(arguments.into_iter()),
    }
}
