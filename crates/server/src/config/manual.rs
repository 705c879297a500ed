//! The table of keys in the manual, made from the table of keys in the program.

use super::describe::HIDDEN;
use super::key::Status;
use super::model::{HttpService, Listener, TlsOptions};
use super::{Config, keys};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// One line of Markdown for each known key: what it takes, what it is by default, what it does.
///
/// The first table holds the keys that are served, the others those that are only known from RabbitMQ.
#[must_use]
pub fn manual() -> String {
    let table = keys::table();
    let defaults = defaults();
    let mut text = String::new();
    let by_status = |status: Status| {
        let mut keys: Vec<_> = table
            .keys
            .iter()
            .filter(|key| key.status == status)
            .collect();
        keys.sort_by_key(|key| key.pattern.clone());
        keys
    };
    text.push_str("### Served\n\n| key | it must be | default |\n|---|---|---|\n");
    for key in by_status(Status::Served) {
        let default = defaults
            .get(&key.pattern)
            .map_or(String::new(), |default| format!("`{default}`"));
        let allowed = key.allowed.replace('|', "\\|");
        writeln!(text, "| `{}` | {allowed} | {default} |", key.pattern)
            .expect("a String takes everything");
    }
    for (status, title) in [
        (Status::NoEffect, "Accepted without effect"),
        (Status::NotServed, "Not yet served"),
    ] {
        write!(text, "\n### {title}\n\n| key |\n|---|\n").expect("a String takes everything");
        for key in by_status(status) {
            writeln!(text, "| `{}` |", key.pattern).expect("a String takes everything");
        }
    }
    text
}

/// What a node listens to and does where nothing is configured, by key.
fn defaults() -> BTreeMap<String, String> {
    let name = "warren@host".parse().expect("that is a node name");
    let mut config = Config::new(name, PathBuf::from("DATA"));
    // To show the defaults of TLS, which only matter where it is used.
    config.cluster.inter_node_tls = Some(TlsOptions::default());
    for service in [
        &mut config.management.service,
        &mut config.prometheus.service,
    ] {
        *service = HttpService {
            ssl: Some(Listener::on(0)),
            ssl_options: TlsOptions::default(),
            ..service.clone()
        };
    }
    let mut defaults: BTreeMap<String, String> = config.describe().into_iter().collect();
    defaults.retain(|_, value| value != HIDDEN && !value.is_empty());
    for (key, port) in [
        ("management.ssl.port", "15671"),
        ("prometheus.ssl.port", "15691"),
    ] {
        defaults.insert(key.into(), port.into());
    }
    defaults
}
