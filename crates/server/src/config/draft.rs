//! A configuration in the making.
//!
//! Most settings go straight into the field they are for. The draft holds those that only make sense together, in
//! whatever order they come: a list whose first entry replaces the default list, a mode and its parameters, an
//! address and its port. `finish` puts them together and checks what no single setting shows.

mod finish;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use super::error::{Problem, Warning};
use super::key::Entry;
use super::model::{
    DefaultPolicy, DefaultUser, DefaultVhostLimit, Listener, Mechanism, Permissions, PolicyValue,
    Retention, SanKind,
};
use super::node_name::NodeName;

/// Which field of a certificate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum LoginSource {
    #[default]
    Distinguished,
    Common,
    Alternative,
}

/// Which rule new passwords have to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Validation {
    #[default]
    Everything,
    MinLength,
    Regexp,
}

/// What to do in a partition, without the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PartitionMode {
    #[default]
    Ignore,
    Autoheal,
    PauseMinority,
    PauseIfAllDown,
}

/// When to rebalance, without the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RebalanceMode {
    #[default]
    OnDemand,
    Appoint,
    Timer,
}

/// The addresses of an HTTP service.
#[derive(Clone, Debug, Default)]
pub(super) struct HttpDraft {
    pub(super) tcp_ip: Option<IpAddr>,
    pub(super) tcp_port: Option<u16>,
    pub(super) ssl_ip: Option<IpAddr>,
    pub(super) ssl_port: Option<u16>,
    pub(super) legacy_ip: Option<IpAddr>,
    pub(super) legacy_port: Option<u16>,
    pub(super) legacy_ssl: bool,
}

/// See the top of the file.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) warnings: Vec<Warning>,
    pub(super) problems: Vec<Problem>,
    pub(super) tcp: Vec<Listener>,
    pub(super) tcp_off: bool,
    pub(super) ssl_off: bool,
    pub(super) memory_relative: Option<f64>,
    pub(super) memory_absolute: Option<u64>,
    pub(super) disk_relative: Option<f64>,
    pub(super) disk_absolute: Option<u64>,
    pub(super) user_tags: Option<Vec<String>>,
    pub(super) loopback_users: Option<BTreeSet<String>>,
    pub(super) loopback_none: bool,
    pub(super) mechanisms: Vec<Mechanism>,
    pub(super) anonymous_user: Option<String>,
    pub(super) anonymous_pass: Option<String>,
    pub(super) validation: Validation,
    pub(super) validation_min_length: usize,
    pub(super) validation_regexp: String,
    pub(super) login_source: LoginSource,
    pub(super) login_san_kind: SanKind,
    pub(super) login_san_index: usize,
    pub(super) port_min: Option<u16>,
    pub(super) port_max: Option<u16>,
    pub(super) partition_mode: PartitionMode,
    pub(super) partition_autoheal: Option<bool>,
    pub(super) partition_nodes: Vec<NodeName>,
    pub(super) rebalance_mode: RebalanceMode,
    pub(super) rebalance_interval: Duration,
    pub(super) management: HttpDraft,
    pub(super) prometheus: HttpDraft,
    pub(super) cors_none: bool,
    pub(super) retention: Option<Retention>,
    pub(super) definitions: [Option<PathBuf>; 3],
    pub(super) log_dir: Option<PathBuf>,
    pub(super) log_file: Option<PathBuf>,
}

impl Draft {
    /// Begins with the defaults in `config`.
    pub(super) fn new(config: Config) -> Draft {
        Draft {
            config,
            warnings: Vec::new(),
            problems: Vec::new(),
            tcp: Vec::new(),
            tcp_off: false,
            ssl_off: false,
            memory_relative: None,
            memory_absolute: None,
            disk_relative: None,
            disk_absolute: None,
            user_tags: None,
            loopback_users: None,
            loopback_none: false,
            mechanisms: Vec::new(),
            anonymous_user: None,
            anonymous_pass: None,
            validation: Validation::default(),
            validation_min_length: 8,
            validation_regexp: String::new(),
            login_source: LoginSource::default(),
            login_san_kind: SanKind::Dns,
            login_san_index: 0,
            port_min: None,
            port_max: None,
            partition_mode: PartitionMode::default(),
            partition_autoheal: None,
            partition_nodes: Vec::new(),
            rebalance_mode: RebalanceMode::default(),
            rebalance_interval: Duration::from_secs(60),
            management: HttpDraft::default(),
            prometheus: HttpDraft::default(),
            cors_none: false,
            retention: None,
            definitions: [None, None, None],
            log_dir: None,
            log_file: None,
        }
    }

    /// Notes something about a setting that is accepted.
    pub(super) fn warn(&mut self, entry: &Entry<'_>, text: &str) {
        let place = Some(entry.place.clone());
        self.warnings.push(Warning {
            place,
            key: entry.key.to_string(),
            text: text.to_owned(),
        });
    }

    /// Refuses a setting for another reason than its value.
    pub(super) fn conflict(&mut self, entry: &Entry<'_>, text: &str) {
        let place = Some(entry.place.clone());
        self.problems.push(Problem::Conflict {
            place,
            key: entry.key.to_string(),
            text: text.to_owned(),
        });
    }

    /// The default user of that name, made if there is none yet.
    pub(super) fn user(&mut self, name: &str) -> &mut DefaultUser {
        let users = &mut self.config.access.default_users;
        found_or_added(
            users,
            |user| user.name == name,
            || DefaultUser {
                name: name.to_owned(),
                vhost_pattern: ".*".into(),
                password: None,
                permissions: Permissions::default(),
                tags: Vec::new(),
            },
        )
    }

    /// The limits of that name, made if there are none yet.
    pub(super) fn vhost_limit(&mut self, id: &str) -> &mut DefaultVhostLimit {
        let limits = &mut self.config.access.default_limits;
        found_or_added(
            limits,
            |limit| limit.id == id,
            || DefaultVhostLimit {
                id: id.to_owned(),
                pattern: ".*".into(),
                max_connections: None,
                max_queues: None,
            },
        )
    }

    /// The policy of that name, made if there is none yet.
    pub(super) fn policy(&mut self, id: &str) -> &mut DefaultPolicy {
        let policies = &mut self.config.access.default_policies;
        found_or_added(
            policies,
            |policy| policy.id == id,
            || DefaultPolicy {
                id: id.to_owned(),
                vhost_pattern: ".*".into(),
                queue_pattern: ".*".into(),
                apply_to: "queues".into(),
                definition: BTreeMap::new(),
            },
        )
    }

    /// Sets one key of a policy.
    pub(super) fn define(&mut self, id: &str, key: &str, value: PolicyValue) {
        self.policy(id).definition.insert(key.to_owned(), value);
    }
}

fn found_or_added<T>(
    items: &mut Vec<T>,
    is_it: impl Fn(&T) -> bool,
    make: impl FnOnce() -> T,
) -> &mut T {
    let index = items.iter().position(is_it).unwrap_or_else(|| {
        items.push(make());
        items.len() - 1
    });
    &mut items[index]
}
