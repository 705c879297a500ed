//! `warren server`: the process around a node.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use management::host::AppState;
use management::node::Listener as Shown;
use management::{Management, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tower::ServiceExt;

use crate::admin::Admin;
use crate::config::{Arguments, Config, Cookie, Environment, HttpService, Listener, RatesMode};
use crate::data_folder::DataFolder;
use crate::host::{App, Beginning, HostFace, Order, ProcessHost, begin};
use crate::log_writer::LogWriter;
use crate::logging::Logs;
use crate::node::Node;
use crate::node_tls::NodeTls;
use crate::tls::Tls;
use crate::{alarms, definitions, http, listener, log_exchange, node_port, start, watchdog};

/// Runs a node until it is told to stop.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    let environment = Environment::of_process(arguments);
    let (config, warnings) = match Config::load(&environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("warren cannot start: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    // Claimed before the log is opened: a node that runs already goes on writing its own alone.
    let claimed = DataFolder::claim(&config.data_dir).and_then(|folder| Ok((folder, Logs::install(&config)?)));
    let (_folder, logs) = match claimed {
        Ok(claimed) => claimed,
        Err(error) => {
            eprintln!("warren cannot start: {error:#}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    match serve(config, &environment, &logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("warren cannot go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// As in `sysexits.h`: something the operator has to put right.
const EXIT_CONFIG: u8 = 78;

fn serve(config: Config, environment: &Environment<'_>, logs: &Logs) -> Result<()> {
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh)?;
    let cookie = Cookie::load(environment, &config.data_dir, fresh)?;
    let cookie = cluster::handshake::Cookie::new(cookie.as_bytes()).context("the cookie is empty")?;
    let tls = NodeTls::load(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let (host, mut orders) = ProcessHost::new(Arc::new(config), cookie, tls, logs.clone());
        open_node_port(&host)?;
        watch_signals(&host)?;
        watchdog::start()?;
        // Somebody may wait for the first start, or for none.
        let mut starting: Option<oneshot::Sender<Result<(), String>>> = None;
        let mut first = true;
        loop {
            let ended = life(&host, &mut orders, starting.take()).await;
            let stopped = match ended {
                Ok(Ended::Exit) => return Ok(()),
                Ok(Ended::Restart(why)) => {
                    tracing::info!("the application starts again: {why}");
                    host.set(AppState::Starting { why });
                    continue;
                }
                Ok(Ended::Stopped(done)) => done,
                Err(Failed { error, .. }) if first => return Err(error),
                Err(Failed { error, started }) => {
                    tracing::error!("the application did not start: {error:#}");
                    host.set(AppState::Stopped);
                    if let Some(started) = started {
                        let _ = started.send(Err(format!("{error:#}")));
                    }
                    None
                }
            };
            first = false;
            host.set(AppState::Stopped);
            if let Some(done) = stopped {
                let _ = done.send(());
            }
            match until_start(&mut orders).await {
                Some(done) => starting = Some(done),
                None => return Ok(()),
            }
            host.set(AppState::Starting { why: "it was told to".to_owned() });
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    served
}

/// How a life of the application ended.
enum Ended {
    Exit,
    Restart(String),
    Stopped(Option<oneshot::Sender<()>>),
}

/// A life of the application that came to nothing, and who waits for it.
struct Failed {
    error: anyhow::Error,
    started: Option<oneshot::Sender<Result<(), String>>>,
}

/// So many times the failure timeout a node asks a side that it has given way to. That side may have ended
/// meanwhile, and nothing of this one is given up before it is taken in.
const RETURN_PATIENCE: u32 = 4;

/// One life of the application, from its start to its end.
async fn life(
    host: &Arc<ProcessHost>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    mut started: Option<oneshot::Sender<Result<(), String>>>,
) -> Result<Ended, Failed> {
    let begun = async {
        let mut asking_since = None;
        let identity = loop {
            match begin(host).await? {
                Beginning::Ready(identity) => {
                    host.return_to(None);
                    break identity;
                }
                Beginning::Return { identity, to, generation } => {
                    host.return_to(Some(&to));
                    let has_log = host.config.data_dir.join("metadata").exists();
                    let since = *asking_since.get_or_insert_with(std::time::Instant::now);
                    let ask = async {
                        let Err(error) = host.become_member_again(identity, &to, generation).await else { return None };
                        if has_log && since.elapsed() >= host.config.cluster.failure_timeout * RETURN_PATIENCE {
                            return Some(format!("{to} does not take this node back in ({error})"));
                        }
                        tracing::warn!("{to} does not take this node back in yet: {error}");
                        host.set(AppState::Starting { why: format!("{to} does not take it back in yet: {error}") });
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                        None
                    };
                    let goes_on = tokio::select! {
                        why = ask => why,
                        // The question may be waiting for a log that has been stopped.
                        () = host.is_waited_for_by(&to, generation), if has_log => Some(format!("{to} has given way to this node")),
                    };
                    if let Some(why) = goes_on {
                        tracing::warn!("{why}: it goes on as before");
                        crate::returning::forget_return(&host.config.data_dir)?;
                    }
                }
                Beginning::Join(seed) => match host.become_member(&seed, host.config.cluster.formation.ram_node).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!("cannot join {seed}: {error}");
                        tokio::time::sleep(host.config.cluster.formation.discovery_retry_interval).await;
                    }
                },
            }
        };
        start_parts(host, identity).await
    };
    tokio::pin!(begun);
    let parts = loop {
        tokio::select! {
            parts = &mut begun => break parts,
            order = orders.recv() => match order {
                None | Some(Order::Exit) => return Ok(Ended::Exit),
                Some(Order::Stop(done)) => return Ok(Ended::Stopped(Some(done))),
                Some(Order::Start(done)) => started = Some(done),
                Some(Order::Restart(_)) => {}
            },
        }
    };
    let (node, survived, thread) = match parts {
        Ok(parts) => parts,
        Err(error) => return Err(Failed { error, started }),
    };
    *host.app.write() = Some(App { node: Arc::clone(&node), router: None });
    let ended = serve_node(host, &node, survived, orders, &mut started).await;
    tracing::info!("stopping node {}", node.name);
    host.remember(&node);
    start::stop_node(&node).await;
    *host.app.write() = None;
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    ended.map_err(|error| Failed { error, started })
}

type StartedParts = (Arc<Node>, start::Survived, std::thread::JoinHandle<()>);

async fn start_parts(host: &Arc<ProcessHost>, identity: crate::identity::Identity) -> Result<StartedParts> {
    let (store, survived) = start::open_store(&host.config)?;
    let (log, thread) = LogWriter::start(store, |error| {
        tracing::error!("{error}; the node stops, because it could not keep its promises");
        std::process::exit(crate::node::BROKEN);
    })?;
    let node = start::open_node(host, identity, log).await?;
    Ok((node, survived, thread))
}

/// Brings the node into service and waits for its end.
async fn serve_node(
    host: &Arc<ProcessHost>,
    node: &Arc<Node>,
    survived: start::Survived,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    started: &mut Option<oneshot::Sender<Result<(), String>>>,
) -> Result<Ended> {
    let opened = async {
        start::bring_up(host, node, survived).await?;
        let resources = &node.config.resources;
        node.resources.configure(
            &resources.vm_memory_high_watermark,
            &resources.disk_free_limit,
            resources.total_memory_available_override_value,
        );
        tokio::spawn(alarms::watch(Arc::clone(node)));
        open_ports(host, node).await
    };
    tokio::pin!(opened);
    let mut in_service = false;
    loop {
        tokio::select! {
            opened = &mut opened, if !in_service => {
                let router = opened?;
                in_service = true;
                tokio::spawn(crate::partition::run(Arc::clone(host), Arc::clone(node)));
                *host.app.write() = Some(App { node: Arc::clone(node), router: Some(router) });
                host.set(AppState::Running);
                host.remember(node);
                log_exchange::start(node, &host.logs);
                node.run(crate::provision::mirror_disc_copies(Arc::clone(node)));
                node.run(crate::host::invite(Arc::clone(host), Arc::clone(node)));
                // Who has read this may stop the node: signals are watched since the process began.
                banner(node);
                if let Some(started) = started.take() {
                    let _ = started.send(Ok(()));
                }
            }
            order = orders.recv() => match order {
                None | Some(Order::Exit) => return Ok(Ended::Exit),
                Some(Order::Stop(done)) => return Ok(Ended::Stopped(Some(done))),
                Some(Order::Restart(why)) => return Ok(Ended::Restart(why)),
                Some(Order::Start(done)) if in_service => drop(done.send(Ok(()))),
                Some(Order::Start(done)) => *started = Some(done),
            },
        }
    }
}

/// The application is stopped: waits until it is told to start. `None`: the process ends.
async fn until_start(orders: &mut mpsc::UnboundedReceiver<Order>) -> Option<oneshot::Sender<Result<(), String>>> {
    loop {
        match orders.recv().await? {
            Order::Start(done) => return Some(done),
            Order::Stop(done) => drop(done.send(())),
            Order::Restart(_) => {}
            Order::Exit => return None,
        }
    }
}

fn watch_signals(host: &Arc<ProcessHost>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let host = Arc::clone(host);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => drop(host.orders.send(Order::Exit)),
                _ = interrupt.recv() => drop(host.orders.send(Order::Exit)),
                _ = hangup.recv() => {
                    host.logs.reopen();
                    if let Some(node) = host.node() {
                        reload_tls(&node);
                    }
                }
            }
        }
    });
    Ok(())
}

/// The port between nodes and for `ctl`: first, and for as long as the process lives.
fn open_node_port(host: &Arc<ProcessHost>) -> Result<()> {
    let at = node_port_of(&host.config);
    let socket = bind(at, &host.config.network.tcp_listen_options, "distribution.listener.port_range.min")?;
    tokio::spawn(node_port::accept(Arc::clone(host), socket));
    Ok(())
}

fn node_port_of(config: &Config) -> Listener {
    let distribution = &config.cluster.distribution;
    Listener { ip: distribution.interface, port: distribution.port_min }
}

/// Binds everything first: a port that is taken stops the start before anybody is served.
async fn open_ports(host: &Arc<ProcessHost>, node: &Arc<Node>) -> Result<axum::Router> {
    let network = &node.config.network;
    let options = &network.tcp_listen_options;
    let show = |protocol: &'static str, at: &Listener, port: u16| {
        node.listeners.write().push(Shown {
            protocol,
            interface: at.ip.map_or_else(|| "::".to_owned(), |ip| ip.to_string()),
            port,
            backlog: options.backlog,
        });
    };
    let admin = Admin::new(Arc::clone(node), Arc::clone(host));
    let face = Arc::new(HostFace(Arc::clone(host)));
    let management = Management::new(Arc::new(admin), face, settings(&node.config));
    let router = management.router();
    import_definitions(node, &router).await?;
    let mut amqp = Vec::new();
    for at in &network.tcp {
        let socket = bind(*at, options, "listeners.tcp.1")?;
        show("amqp", at, socket.local_addr()?.port());
        amqp.push((socket, None));
    }
    if !network.ssl.is_empty() {
        let tls = load_tls("ssl_options", &node.config.tls)?;
        for at in &network.ssl {
            let socket = bind(*at, options, "listeners.ssl.1")?;
            show("amqp/ssl", at, socket.local_addr()?.port());
            keep_tls(node, &tls);
            amqp.push((socket, Some(Arc::clone(&tls))));
        }
    }
    let HttpService { tcp, ssl, ssl_options } = &node.config.management.service;
    let mut web = Vec::new();
    if let Some(at) = tcp {
        let socket = bind(*at, options, "management.tcp.port")?;
        show("http", at, socket.local_addr()?.port());
        web.push((socket, None));
    }
    if let Some(at) = ssl {
        let socket = bind(*at, options, "management.ssl.port")?;
        show("https", at, socket.local_addr()?.port());
        let tls = load_tls("management.ssl", ssl_options)?;
        keep_tls(node, &tls);
        web.push((socket, Some(tls)));
    }
    let at = node_port_of(&node.config);
    show("clustering", &at, at.port);
    if let Some(tls) = &host.tls {
        keep_tls(node, tls.tls());
    }
    for (socket, tls) in web {
        tokio::spawn(http::accept(Arc::clone(node), socket, router.clone(), tls));
    }
    for (socket, tls) in amqp {
        tokio::spawn(listener::accept_amqp(Arc::clone(node), socket, tls));
    }
    node.is_open.store(true, Ordering::Relaxed);
    let sampled = Arc::downgrade(node);
    tokio::spawn(async move {
        let interval = std::time::Duration::from_millis(management::SAMPLE_INTERVAL_MILLIS);
        while sampled.upgrade().is_some_and(|node| !node.is_stopping()) {
            management.sample().await;
            tokio::time::sleep(interval).await;
        }
    });
    Ok(router)
}

/// Binds a listener, or says which key moves it elsewhere.
fn bind(at: Listener, options: &crate::config::TcpOptions, key: &str) -> Result<TcpListener> {
    listener::bind(at, options).with_context(|| format!("stop what uses port {}, or set {key} to another", at.port))
}

/// `load_definitions`: what the files say is imported before anybody is served.
async fn import_definitions(node: &Arc<Node>, router: &axum::Router) -> Result<()> {
    let mut files = Vec::new();
    for path in &node.config.definitions.sources {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            found.retain(|file| file.extension().is_some_and(|e| e == "json"));
            found.sort();
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    let fingerprint = definitions::fingerprint(&files)?;
    if node.config.definitions.skip_if_unchanged && definitions::is_imported(node, &fingerprint) {
        tracing::info!("the definitions have not changed since they were imported");
        return Ok(());
    }
    for file in &files {
        import_file(router, &node.config.management.path_prefix, file).await?;
    }
    if node.config.definitions.skip_if_unchanged {
        definitions::remember(node, &fingerprint).await?;
    }
    Ok(())
}

async fn import_file(router: &axum::Router, prefix: &str, file: &std::path::Path) -> Result<()> {
    let body = std::fs::read(file).with_context(|| format!("cannot read the definitions in {}", file.display()))?;
    let mut request = hyper::Request::post(format!("{prefix}/api/definitions")).body(axum::body::Body::from(body))?;
    request.headers_mut().insert("content-type", "application/json".parse()?);
    request.extensions_mut().insert(management::Identity::Operator);
    let answer = router.clone().oneshot(request).await?;
    let status = answer.status();
    if !status.is_success() {
        let text = axum::body::to_bytes(answer.into_body(), 1 << 20).await?;
        anyhow::bail!("the definitions in {} are refused: {}", file.display(), String::from_utf8_lossy(&text));
    }
    tracing::info!("imported the definitions in {}", file.display());
    Ok(())
}

/// Remembers the TLS of the listener shown last.
fn keep_tls(node: &Node, tls: &Arc<Tls>) {
    if let Some(shown) = node.listeners.read().last() {
        node.tls.write().push((shown.clone(), Arc::clone(tls)));
    }
}

/// SIGHUP: certificates are read again.
fn reload_tls(node: &Node) {
    for (listener, tls) in node.tls.read().iter() {
        match tls.reload() {
            Ok(()) => tracing::info!("certificates of {} are read again", listener.protocol),
            Err(error) => tracing::error!("certificates of {} stay as they were: {error}", listener.protocol),
        }
    }
}

fn load_tls(prefix: &str, options: &crate::config::TlsOptions) -> Result<Arc<Tls>> {
    let (tls, warnings) = Tls::load(prefix, options, &[])?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Arc::new(tls))
}

fn settings(config: &Config) -> Settings {
    let m = &config.management;
    let headers = [
        ("content-security-policy", &m.headers.content_security_policy),
        ("strict-transport-security", &m.headers.strict_transport_security),
        ("x-content-type-options", &m.headers.content_type_options),
        ("x-xss-protection", &m.headers.xss_protection),
        ("x-frame-options", &m.headers.frame_options),
    ];
    Settings {
        path_prefix: m.path_prefix.clone(),
        body_bytes_max: usize::try_from(m.max_body_size).unwrap_or(usize::MAX),
        cors_origins: m.headers.cors_allow_origins.clone(),
        cors_max_age: m.headers.cors_max_age,
        headers: headers.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v.clone()?))).collect(),
        rates_mode: match m.rates_mode {
            RatesMode::Basic => "basic",
            RatesMode::Detailed => "detailed",
            RatesMode::None => "none",
        },
        disable_stats: m.disable_stats,
        enable_queue_totals: m.enable_queue_totals,
        consumer_timeout: config.limits.consumer_timeout.unwrap_or_default(),
        auth_mechanisms: config.access.auth_mechanisms.iter().map(|mechanism| mechanism.name()).collect(),
        login_session_timeout: Some(m.login_session_timeout.as_secs() / 60),
    }
}

fn banner(node: &Node) {
    let listeners = node.listeners.read();
    let ports: Vec<String> =
        listeners.iter().map(|l| format!("{} {}:{}", l.protocol, l.interface, l.port)).collect();
    println!("\n  Warren {}   node {}", env!("CARGO_PKG_VERSION"), node.name);
    println!("  listening   {}", ports.join(", "));
    println!("  data        {}", node.config.data_dir.display());
    println!("  stop with   Ctrl-C, SIGTERM or: warren ctl -n {} stop\n", node.name);
}
