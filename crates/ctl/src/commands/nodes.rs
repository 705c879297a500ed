//! The life of a node: started, awaited, stopped.

use std::time::Duration;

use serde_json::json;

use super::ask_for;
use super::status::is_booted;
use crate::call::{Call, request};
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, SOFTWARE, UNAVAILABLE, Unfit};
use crate::json::{flag, whole};
use crate::options::{flag as switch, whole as whole_switch};
use crate::output::Output;
use crate::outside::{Method, Trouble};
use crate::tool::Tools;

/// How often a node that is awaited is asked.
const INTERVAL: Duration = Duration::from_millis(200);

pub(super) const COMMANDS: &[Command] = &[
    command("ping", Tools::BOTH, Section::Monitoring, ping)
        .about(
            "Fails when the node cannot be reached or does not know the \
             cookie",
        )
        .offline()
        .timed()
        .timeout(60_000)
        .banner(|call| {
            format!(
                "Will ping {}. This only checks if the OS process is running \
                 and registered with epmd. Timeout: {} ms.",
                call.node(),
                call.timeout.unwrap_or_default()
            )
        }),
    command("await_startup", Tools::CTL, Section::Nodes, await_startup)
        .about("Waits until the node has started")
        .offline()
        .timeout(300_000),
    command(
        "await_online_nodes",
        Tools::CTL,
        Section::Cluster,
        await_online_nodes,
    )
    .about("Waits until so many nodes of the cluster run")
    .usage("await_online_nodes <count>")
    .details(&[("<count>", "the number of nodes, this one included")])
    .timed()
    .timeout(300_000)
    .args(1, 1)
    .check(super::listeners::positive)
    .banner(|call| {
        format!(
            "Will wait for at least {} nodes to join the cluster of {}. \
             Timeout: {} seconds.",
            call.arg(0),
            call.node(),
            call.timeout.unwrap_or_default() / 1000
        )
    }),
    command("wait", Tools::BOTH, Section::Nodes, wait)
        .about(
            "Waits until a node of this machine has started, as long as its \
             process runs",
        )
        .offline()
        .usage("wait [<pidfile>] [--pid|-P <pid>]")
        .details(&[
            (
                "<pidfile>",
                "a file with the number of the node's process, which need not \
                 be there yet",
            ),
            ("--pid <pid>", "the number of the node's process"),
        ])
        .switches(&[whole_switch("pid").short('P')])
        .timed()
        .timeout(10_000)
        .args(0, 1)
        .check(
            |call| match (call.args.is_empty(), call.options.whole("pid")) {
                (false, Some(_)) => {
                    Err(Misuse::Other("Cannot specify both pid and pidfile".to_owned()).into())
                }
                (true, None) => Err(Misuse::Other("No pid or pidfile specified".to_owned()).into()),
                _ => Ok(()),
            },
        ),
    command("stop", Tools::CTL, Section::Nodes, stop)
        .about("Stops a node")
        .offline()
        .usage("stop [--idempotent] [<pidfile>]")
        .details(&[
            (
                "<pidfile>",
                "a file with the number of the node's process, whose end is \
                 awaited",
            ),
            ("--idempotent", "succeeds when the node does not run"),
        ])
        .switches(&[switch("idempotent")])
        .args(0, 1)
        .banner(|call| match call.args.first() {
            Some(path) => format!(
                "Stopping and halting node {} (will monitor pid file {path}) ...",
                call.node()
            ),
            None => format!("Stopping and halting node {} ...", call.node()),
        }),
    command("shutdown", Tools::CTL, Section::Nodes, shutdown)
        .about("Stops a node and waits until its process has ended")
        .offline()
        .usage("shutdown [--wait]")
        .details(&[
            (
                "--wait",
                "waits for the process, which must be on this machine; so it is \
                 unless asked otherwise",
            ),
            ("--no-wait", "does not wait"),
        ])
        .switches(&[switch("wait")])
        .timed()
        .timeout(120_000)
        .check(check_shutdown),
    command("start_app", Tools::CTL, Section::Nodes, |call| {
        ask_for(call, &["internal", "app", "start"], json!({}), "start_app")
    })
    .about("Starts serving again after stop_app")
    .offline()
    .banner(|call| format!("Starting node {} ...", call.node())),
    command("stop_app", Tools::CTL, Section::Nodes, |call| {
        ask_for(call, &["internal", "app", "stop"], json!({}), "stop_app")
    })
    .about("Stops serving clients and leaves the process running")
    .offline()
    .banner(|call| format!("Stopping rabbit application on node {} ...", call.node())),
    command(
        "node_health_check",
        Tools::BOTH,
        Section::Deprecated,
        |_| Ok(Output::Done),
    )
    .about("Checks nothing any more")
    .offline()
    .timed()
    .banner(|_| {
        "This command is DEPRECATED and is a no-op. \nUse \
         check_running, check_alarms and the like instead."
            .to_owned()
    }),
];

fn ping(call: &mut Call<'_>) -> Result<Output, Failure> {
    match call.try_ask(&request(Method::Get, &["version"], None)) {
        Ok(_) => Ok(Output::Text("Ping succeeded".to_owned())),
        Err(trouble) => {
            let (node, limit) = (call.node(), call.timeout.unwrap_or_default());
            let mut text = format!("Failed to connect and authenticate to {node} in {limit} ms");
            // The one cause that looks like none: everything runs, and nothing works.
            if let Trouble::Handshake(error) = trouble {
                text.push_str(&format!("\n{error}"));
            }
            Err(Failure::refused(text))
        }
    }
}

fn await_startup(call: &mut Call<'_>) -> Result<Output, Failure> {
    loop {
        match call.try_ask(&request(Method::Get, &["internal", "status"], None)) {
            Ok(answer) if answer.status == 200 && is_booted(&answer.body) => {
                return Ok(Output::Done);
            }
            // Waiting does not change a cookie.
            Err(trouble @ (Trouble::Handshake(_) | Trouble::NoCookie(_))) => {
                return Err(call.explain(&trouble));
            }
            _ => {
                call.left()?;
                call.outside.sleep(INTERVAL);
            }
        }
    }
}

fn await_online_nodes(call: &mut Call<'_>) -> Result<Output, Failure> {
    let wanted: usize = call.arg(0).parse().unwrap_or(usize::MAX);
    loop {
        let running = call
            .list(&["nodes"])?
            .iter()
            .filter(|node| flag(node, "running"))
            .count();
        if running >= wanted {
            return Ok(Output::Done);
        }
        call.outside.sleep(INTERVAL);
        if call.left().is_err() {
            let text = format!(
                "Error: timed out while waiting. Not enough nodes joined {}'s \
                 cluster.",
                call.node()
            );
            return Err(Failure::new(SOFTWARE, text));
        }
    }
}

fn say_unless_quiet(call: &mut Call<'_>, line: &str) {
    if !call.is_quiet() && !call.is_json() {
        call.say(line);
    }
}

fn wait(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node().to_owned();
    let pid = match call.options.whole("pid") {
        Some(pid) => u32::try_from(pid).unwrap_or(u32::MAX),
        None => {
            let path = call.arg(0).to_owned();
            say_unless_quiet(call, &format!("Waiting for pid file '{path}' to appear"));
            let pid = await_pid(call, &path)?;
            say_unless_quiet(call, &format!("pid is {pid}"));
            pid
        }
    };
    let text = format!(
        "Waiting for erlang distribution on node '{node}' while OS \
         process '{pid}' is running"
    );
    say_unless_quiet(call, &text);
    loop {
        if !call.outside.is_running(pid) {
            return Err(Failure::refused("process_not_running"));
        }
        match call.try_ask(&request(Method::Get, &["internal", "status"], None)) {
            Ok(answer) if answer.status == 200 && is_booted(&answer.body) => break,
            Err(trouble @ (Trouble::Handshake(_) | Trouble::NoCookie(_))) => {
                return Err(call.explain(&trouble));
            }
            _ => {
                call.left()?;
                call.outside.sleep(INTERVAL);
            }
        }
    }
    say_unless_quiet(
        call,
        &format!("Applications 'rabbit_and_plugins' are running on node '{node}'"),
    );
    Ok(Output::Nothing)
}

/// The number in a file, once there is one.
fn await_pid(call: &mut Call<'_>, path: &str) -> Result<u32, Failure> {
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        match text.trim() {
            "" => {
                call.left()?;
                call.outside.sleep(INTERVAL);
            }
            text => {
                return text
                    .parse()
                    .map_err(|_| Failure::new(SOFTWARE, "Error: garbage in pid file."));
            }
        }
    }
}

fn stop(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node().to_owned();
    let path = call.args.first().cloned();
    let pid = path.as_deref().map(|path| {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        text.trim()
            .parse::<u32>()
            .map_err(|_| format!("File contents: {}", text.trim()))
    });
    match call.try_ask(&request(
        Method::Post,
        &["internal", "stop"],
        Some(json!({})),
    )) {
        Ok(answer) => {
            answer.good()?;
        }
        Err(Trouble::Unreachable(_) | Trouble::Unresolved(_)) if call.flag("idempotent") => {
            return Ok(Output::Text(format!("Node {node} is no longer running")));
        }
        Err(trouble) => return Err(call.explain(&trouble)),
    }
    let path = path.unwrap_or_default();
    match pid {
        None => Ok(Output::Done),
        Some(Err(error)) => Err(Failure::refused(format!(
            "could not read pid from file {path}. Error: {error}"
        ))),
        Some(Ok(pid)) => {
            await_end(call, pid)?;
            Ok(Output::Text(format!(
                "process {pid} (take from pid file {path}) is no longer running"
            )))
        }
    }
}

fn await_end(call: &mut Call<'_>, pid: u32) -> Result<(), Failure> {
    while call.outside.is_running(pid) {
        call.left()?;
        call.outside.sleep(INTERVAL);
    }
    Ok(())
}

fn is_awaited(call: &Call<'_>) -> bool {
    call.options.find_flag("wait").unwrap_or(true)
}

fn check_shutdown(call: &Call<'_>) -> Result<(), Unfit> {
    let own = call.outside.host_name();
    let own = own.split('.').next().unwrap_or_default();
    let host = call.target.host.as_str();
    let is_loopback = host
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    if !is_awaited(call)
        || is_loopback
        || host == "localhost"
        || host.split('.').next() == Some(own)
    {
        return Ok(());
    }
    let node = call.node();
    let text = format!(
        "\nThis command can only --wait for shutdown of local nodes but \
         node {node} seems to be remote (local hostname: {own}, remote: \
         {host}).\nPass --no-wait to shut node {node} down without \
         waiting.\n"
    );
    Err(Misuse::Target(text).into())
}

fn shutdown(call: &mut Call<'_>) -> Result<Output, Failure> {
    let node = call.node().to_owned();
    if !is_awaited(call) {
        call.post(&["internal", "stop"], json!({}))?.good()?;
        return Ok(Output::Done);
    }
    let status = call.get(&["internal", "status"])?;
    let Ok(pid) = u32::try_from(whole(&status, "pid")) else {
        return Err(Failure::plain(
            UNAVAILABLE,
            format!("node {node} does not tell the number of its process"),
        ));
    };
    say_unless_quiet(
        call,
        &format!("Shutting down RabbitMQ node {node} running at PID {pid}"),
    );
    call.post(&["internal", "stop"], json!({}))?.good()?;
    say_unless_quiet(call, &format!("Waiting for PID {pid} to terminate"));
    await_end(call, pid)?;
    say_unless_quiet(
        call,
        &format!("RabbitMQ node {node} running at PID {pid} successfully shut down"),
    );
    Ok(Output::Nothing)
}
