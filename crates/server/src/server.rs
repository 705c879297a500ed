//! `warren server`: the process around a node.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Arguments, Config, Environment};
use crate::listener;
use crate::log_writer::LogWriter;
use crate::start;

/// Runs a node until it is told to stop.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let environment = Environment::of_process(arguments);
    let (config, warnings) = match Config::load(&environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("warren cannot start: {error}");
            return ExitCode::from(78);
        }
    };
    tracing_subscriber::fmt().with_ansi(false).with_target(false).init();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("warren stopped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> Result<()> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot create the data folder {}", config.data_dir.display()))?;
    let (store, survived) = start::open_store(&config)?;
    let (log, thread) = LogWriter::start(store, |error| {
        tracing::error!("{error}; the node stops, because it could not keep its promises");
        std::process::exit(70);
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = start::start_node(config, log, survived).await?;
        let network = node.config.network.clone();
        let mut ports = Vec::new();
        for tcp in &network.tcp {
            let socket = listener::bind(*tcp, &network.tcp_listen_options)?;
            ports.push(format!("amqp {}", socket.local_addr()?));
            tokio::spawn(listener::accept_amqp(Arc::clone(&node), socket));
        }
        banner(&node.name, &ports, &node.config);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = node.stopping.notified() => {}
        }
        tracing::info!("stopping");
        node.stop();
        start::stop_node(&node).await;
        Ok::<(), anyhow::Error>(())
    })?;
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    let _ = thread.join();
    Ok(())
}

fn banner(name: &str, ports: &[String], config: &Config) {
    println!("\n  Warren {}   node {name}", env!("CARGO_PKG_VERSION"));
    println!("  listening   {}", ports.join(", "));
    println!("  data        {}", config.data_dir.display());
    println!("  stop with   Ctrl-C, SIGTERM or: warren ctl -n {name} stop\n");
}
