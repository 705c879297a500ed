//! What the node is told when it starts: command line, environment and configuration files, made into one value.
//!
//! The files are RabbitMQ's `rabbitmq.conf`, in syntax and in keys. A key RabbitMQ knows and this server does not
//! serve is named in a warning; a key nobody knows, or a value that is not allowed, is refused, with everything else
//! that is wrong, by file, line, key and what would be right. Nothing is guessed.
//!
//! ```text
//! Environment --gather--> Settings (key, text, place) --Table--> Draft --finish--> Config
//! ```
//!
//! Precedence, the later wins: defaults, environment variables, the main file, `conf.d/*.conf` by name, arguments.
//! That files win over variables is RabbitMQ's rule; a variable that loses is named in a warning.

mod cookie;
mod describe;
mod draft;
mod error;
mod files;
mod key;
mod keys;
mod manual;
mod model;
mod node_name;
mod source;
mod syntax;
mod value;

pub use cookie::Cookie;
pub use error::{ConfigError, Place, Problem, Warning};
pub use files::{Disk, Files};
pub use key::Status;
pub use manual::manual;
pub use model::*;
pub use node_name::{NodeName, ParseNodeNameError};
pub use source::{Arguments, Environment};

use std::path::{Path, PathBuf};

use draft::Draft;
use key::{Entry, Table};
use source::Settings;
use syntax::KeyPath;

/// Everything an operator decides about a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node_name: NodeName,
    /// Everything the node keeps is below this.
    pub data_dir: PathBuf,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    pub network: Network,
    /// `ssl_options`: TLS of AMQP clients.
    pub tls: TlsOptions,
    pub limits: Limits,
    pub resources: Resources,
    pub access: Access,
    pub cluster: Cluster,
    pub queues: Queues,
    pub definitions: Definitions,
    pub management: Management,
    pub prometheus: Prometheus,
    pub log: Log,
}

impl Config {
    /// Whether `metadata_witness` names this node: it votes on metadata, and holds no queues.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        let port = self.node_name.port().unwrap_or(25672);
        self.cluster.metadata_witness.as_ref().is_some_and(|witness| {
            witness.port == port && witness.host.eq_ignore_ascii_case(self.node_name.host())
        })
    }

    /// The configuration of a node of that name where nothing is configured.
    #[must_use]
    pub fn new(node_name: NodeName, data_dir: PathBuf) -> Config {
        let mut config = Config {
            data_dir,
            files: Vec::new(),
            network: Network::default(),
            tls: TlsOptions::default(),
            limits: Limits::default(),
            resources: Resources::default(),
            access: Access::default(),
            cluster: Cluster::default(),
            queues: Queues::default(),
            definitions: Definitions::default(),
            management: Management::default(),
            prometheus: Prometheus::default(),
            log: Log {
                dir: PathBuf::new(),
                ..Log::default()
            },
            node_name,
        };
        config.log.dir = config.data_dir.join("log");
        config.log.file.name = PathBuf::from(format!("{}.log", config.node_name));
        if let Some(port) = config.node_name.port() {
            (
                config.cluster.distribution.port_min,
                config.cluster.distribution.port_max,
            ) = (port, port);
        }
        config
    }

    /// Reads everything there is to read, and says what an operator should know of it.
    ///
    /// # Errors
    /// When anything is wrong; then all that is wrong is in the error.
    pub fn load(environment: &Environment<'_>) -> Result<(Config, Vec<Warning>), ConfigError> {
        let mut settings = Settings::gather(environment);
        let mut draft = Draft::new(defaults(environment)?);
        draft.problems = std::mem::take(&mut settings.problems);
        draft.warnings = std::mem::take(&mut settings.warnings);
        let table = keys::table();
        use_variables(&mut draft, &table, environment, &settings);
        let mut entries: Vec<(&KeyPath, &source::Setting)> = settings.by_key.iter().collect();
        entries.sort_by_key(|(key, _)| natural_order(key));
        for (key, setting) in entries {
            apply(&mut draft, &table, key, setting, environment.files);
        }
        draft.finish(&settings);
        if !draft.problems.is_empty() {
            return Err(ConfigError {
                problems: draft.problems,
            });
        }
        let mut config = draft.config;
        config.files = std::mem::take(&mut settings.files);
        Ok((config, draft.warnings))
    }

    /// The name and place of the log file, if there is one.
    #[must_use]
    pub fn log_file(&self) -> Option<PathBuf> {
        self.log
            .file
            .enabled
            .then(|| self.log.dir.join(&self.log.file.name))
    }
}

/// The configuration before any file is read: node name, data directory, and what follows from them.
fn defaults(environment: &Environment<'_>) -> Result<Config, ConfigError> {
    let (place, name) = match &environment.arguments.node_name {
        Some(name) => (Place::Argument("--node-name".into()), name.clone()),
        None => match environment.variable("NODENAME") {
            Some((variable, name)) => (Place::Variable(variable), name.to_owned()),
            None => (Place::Variable("HOSTNAME".into()), "warren".to_owned()),
        },
    };
    let long = environment
        .variable("USE_LONGNAME")
        .is_some_and(|(_, value)| value == "true" || value == "1");
    let host = if long {
        &environment.host_name
    } else {
        environment.short_host_name()
    };
    let node_name = NodeName::parse_with_host(&name, host).map_err(|_| {
        let allowed = node_name::NODE_NAME_FORM.to_owned();
        Problem::BadValue {
            place,
            key: "node name".into(),
            value: name.clone(),
            allowed,
        }
    })?;
    let variable = environment
        .variables
        .get("WARREN_DATA_DIR")
        .filter(|path| !path.is_empty());
    let named = environment
        .arguments
        .data_dir
        .clone()
        .or_else(|| variable.map(PathBuf::from));
    let is_service = named.is_none() && environment.is_root;
    let base = if environment.is_root {
        "/var/lib/warren"
    } else {
        "./warren-data"
    };
    let data_dir = named.unwrap_or_else(|| Path::new(base).join(node_name.to_string()));
    let mut config = Config::new(node_name, data_dir);
    if is_service {
        config.log.dir = PathBuf::from("/var/log/warren");
    }
    Ok(config)
}

/// Takes over the environment variables that stand for settings.
fn use_variables(
    draft: &mut Draft,
    table: &Table,
    environment: &Environment<'_>,
    settings: &Settings,
) {
    let stand_ins = [
        ("DEFAULT_USER", "default_user", "default_user"),
        ("DEFAULT_PASS", "default_pass", "default_pass"),
        ("DEFAULT_VHOST", "default_vhost", "default_vhost"),
        ("NODE_IP_ADDRESS", "", "listeners.tcp"),
        ("NODE_PORT", "", "listeners.tcp"),
        (
            "DIST_PORT",
            "distribution.listener.port_range.min",
            "distribution.listener.port_range",
        ),
        ("LOG_BASE", "log.dir", "log.dir"),
    ];
    for (name, key, loses_to) in stand_ins {
        let Some((variable, text)) = environment.variable(name) else {
            continue;
        };
        if let Some(place) = settings.place_under(loses_to) {
            let text = format!("is not used, {loses_to} is set in {place}");
            draft.warnings.push(Warning {
                place: None,
                key: variable,
                text,
            });
        } else if let Ok(path) = syntax::key_path(key) {
            let setting = source::Setting {
                value: text.to_owned(),
                place: Place::Variable(variable),
            };
            apply(draft, table, &path, &setting, environment.files);
        }
    }
    listen_by_variables(draft, environment);
    log_by_variables(draft, environment);
}

/// `NODE_IP_ADDRESS` and `NODE_PORT`; the port between nodes is 20000 above, as in RabbitMQ.
fn listen_by_variables(draft: &mut Draft, environment: &Environment<'_>) {
    let mut read = |name: &str, allowed: &str| -> Option<String> {
        let (variable, text) = environment.variable(name)?;
        let is_valid = match name {
            "NODE_PORT" => text.parse::<u16>().is_ok(),
            _ => text == "auto" || text.parse::<std::net::IpAddr>().is_ok(),
        };
        if !is_valid {
            draft.problems.push(Problem::BadValue {
                place: Place::Variable(variable.clone()),
                key: variable,
                value: text.to_owned(),
                allowed: allowed.to_owned(),
            });
        }
        is_valid.then(|| text.to_owned())
    };
    let port =
        read("NODE_PORT", "a port from 0 to 65535").and_then(|text| text.parse::<u16>().ok());
    let ip = read("NODE_IP_ADDRESS", "an IP address or auto").and_then(|text| text.parse().ok());
    if port.is_some() || ip.is_some() {
        draft.config.network.tcp = vec![Listener {
            ip,
            port: port.unwrap_or(5672),
        }];
    }
    let is_given =
        environment.variable("DIST_PORT").is_some() || draft.config.node_name.port().is_some();
    let between = port
        .filter(|port| *port != 0 && !is_given)
        .and_then(|port| port.checked_add(20_000));
    if let Some(between) = between {
        let distribution = &mut draft.config.cluster.distribution;
        (distribution.port_min, distribution.port_max) = (between, between);
    }
}

/// `LOGS` is a file, `-` for standard output or `-stderr`; `LOG` begins with a level.
fn log_by_variables(draft: &mut Draft, environment: &Environment<'_>) {
    let log = &mut draft.config.log;
    match environment.variable("LOGS").map(|(_, value)| value) {
        Some("-") => log.file.enabled = false,
        Some("-stderr") => (log.file.enabled, log.console.stderr) = (false, true),
        Some(path) => log.file.name = PathBuf::from(path),
        None => {}
    }
    if let Some((variable, text)) = environment.variable("LOG") {
        for word in text.split(',').map(str::trim) {
            let (category, level) = word.split_once('=').unwrap_or(("", word));
            let kind = value::level();
            match kind.read(level, environment.files) {
                Some(level) if category.is_empty() => {
                    (log.default_level, log.file.level, log.console.level) = (level, level, level);
                }
                Some(level) => {
                    log.category_levels.insert(category.to_owned(), level);
                }
                None => draft.problems.push(Problem::BadValue {
                    place: Place::Variable(variable.clone()),
                    key: variable.clone(),
                    value: word.to_owned(),
                    allowed: kind.allowed,
                }),
            }
        }
    }
}

/// Puts one setting where it belongs.
fn apply(
    draft: &mut Draft,
    table: &Table,
    key: &KeyPath,
    setting: &source::Setting,
    files: &dyn Files,
) {
    let place = &setting.place;
    let Some((known, captures)) = table.find(key) else {
        draft.problems.push(Problem::UnknownKey {
            place: place.clone(),
            key: key.to_string(),
            nearest: table.nearest(key),
            siblings: table.siblings(key),
        });
        return;
    };
    let entry = Entry {
        key,
        place,
        captures,
    };
    if (known.apply)(draft, &entry, &setting.value, files).is_err() {
        draft.problems.push(Problem::BadValue {
            place: place.clone(),
            key: key.to_string(),
            value: if known.is_secret {
                "(not shown)".into()
            } else {
                setting.value.clone()
            },
            allowed: known.allowed.clone(),
        });
    }
    match known.status {
        Status::Served => {}
        Status::NoEffect => draft.warn(&entry, "is known from RabbitMQ and has no effect here"),
        Status::NotServed => draft.warn(
            &entry,
            "is known from RabbitMQ and not served yet, it has no effect",
        ),
    }
}

/// Orders keys by their segments, numbers by value: `.2` comes before `.10`.
fn natural_order(key: &KeyPath) -> Vec<(u64, String)> {
    key.0
        .iter()
        .map(|segment| (segment.parse().unwrap_or(u64::MAX), segment.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
