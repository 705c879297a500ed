//! `warren`: server, command line and load generator in one binary.
//!
//! Called through a link named `rabbitmqctl`, `rabbitmq-diagnostics`, `rabbitmq-queues`,
//! `rabbitmq-plugins` or `rabbitmq-upgrade` it behaves as that tool.

use std::ffi::OsString;
use std::net::Ipv4Addr;
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
    /// Runs a cluster on this machine for trying things out; Ctrl-C ends it.
    ///
    /// Each node has a loopback address of its own and the usual ports there: 5672 for AMQP, 15672 for HTTP and
    /// 25672 between nodes. Linux answers on all of 127.0.0.0/8. macOS answers on 127.0.0.1 alone: give it the
    /// others first, each with `sudo ifconfig lo0 alias 127.0.0.11`.
    Cluster(ClusterOptions),
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

#[derive(clap::Args)]
struct ClusterOptions {
    /// How many nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// The address before that of the first node.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.10")]
    base: Ipv4Addr,
    /// Where the nodes keep their data; it stays, and the next run goes on with it. Without it a temporary folder
    /// is used, and deleted at the end.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Leave the temporary folder where it is.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The tools have their own way with arguments.
    if called.starts_with("rabbitmq") || std::env::args_os().nth(1).is_some_and(|word| word == "ctl") {
        return ctl::main(std::env::args().collect(), std::env::vars().collect(), server::offline::forget);
    }
    match Cli::parse().command {
        Command::Server(options) => server::server::run(Arguments {
            config_file: options.config_file,
            node_name: options.node_name,
            data_dir: options.data_dir,
            settings: options.settings,
        }),
        Command::Cluster(ClusterOptions { nodes, base, data_dir, keep }) => {
            server::demo::run(&server::demo::Wish { nodes, base, data_dir, keep })
        }
        Command::Ctl { .. } => ExitCode::from(64),
        Command::Perf { arguments } => perf::main(arguments.into_iter()),
    }
}
