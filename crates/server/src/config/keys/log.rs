//! Log lines: where they go, and which.

use super::super::key::{Status, Table};
use super::super::model::LogFormat;
use super::super::value::{at_least, boolean, choice, integer, level, path};

pub(super) fn add(table: &mut Table) {
    file(table);
    others(table);
    categories(table);
    for target in ["console", "file", "exchange", "syslog"] {
        table.known(
            Status::NotServed,
            &format!("log.{target}.formatter."),
            FORMATTER,
        );
    }
    table.known(Status::NotServed, "log.", NOT_SERVED);
    super::tls::known_under(table, "log.syslog.ssl_options");
}

fn file(table: &mut Table) {
    table.served("log.dir", path(), |draft, _, value| {
        draft.log_dir = Some(value)
    });
    table.served(
        "log.file",
        path().in_words("false or the name of a file"),
        |draft, _, value| match value.to_str() {
            Some("false") => draft.config.log.file.enabled = false,
            _ => draft.log_file = Some(value),
        },
    );
    table.served("log.file.level", level(), |draft, _, value| {
        draft.config.log.file.level = value
    });
    table.served("log.file.rotation.size", at_least(0), |draft, _, value| {
        draft.config.log.file.rotation.size = value
    });
    table.served(
        "log.file.rotation.count",
        integer(0..=u32::MAX),
        |draft, _, value| {
            draft.config.log.file.rotation.count = value;
        },
    );
    table.served("log.file.formatter", format(), |draft, _, value| {
        draft.config.log.file.format = value
    });
}

fn others(table: &mut Table) {
    table.served("log.console", boolean(), |draft, _, value| {
        draft.config.log.console.enabled = value
    });
    table.served("log.console.level", level(), |draft, _, value| {
        draft.config.log.console.level = value
    });
    table.served("log.console.formatter", format(), |draft, _, value| {
        draft.config.log.console.format = value
    });
    let stdio = choice(&[("stdout", false), ("stderr", true)]);
    table.served("log.console.stdio", stdio, |draft, _, value| {
        draft.config.log.console.stderr = value
    });
    table.served("log.exchange", boolean(), |draft, _, value| {
        draft.config.log.exchange.enabled = value
    });
    table.served("log.exchange.level", level(), |draft, _, value| {
        draft.config.log.exchange.level = value
    });
}

fn categories(table: &mut Table) {
    table.served("log.default.level", level(), |draft, _, value| {
        draft.config.log.default_level = value
    });
    for category in [
        "connection",
        "channel",
        "queue",
        "mirroring",
        "federation",
        "upgrade",
        "ra",
        "user",
    ] {
        table.served(
            &format!("log.{category}.level"),
            level(),
            move |draft, _, value| {
                draft
                    .config
                    .log
                    .category_levels
                    .insert(category.to_owned(), value);
            },
        );
        table.known(Status::NotServed, &format!("log.{category}."), "file text");
        table.known(Status::NotServed, &format!("log.{category}."), ROTATION);
    }
    table.known(Status::NotServed, "log.default.", ROTATION);
}

fn format() -> super::super::value::Kind<LogFormat> {
    choice(&[
        ("plaintext", LogFormat::Plaintext),
        ("json", LogFormat::Json),
    ])
}

const ROTATION: &str = "
    rotation.date text
    rotation.compress boolean
    rotation.size integer
    rotation.count integer
";

const FORMATTER: &str = "
    time_format text
    level_format lc|uc|lc3|uc3|lc4|uc4
    single_line flag
    plaintext.format text
    json.field_map text
    json.verbosity_map text
";

const NOT_SERVED: &str = "
    file.rotation.date text
    file.rotation.compress boolean
    console.use_colors flag
    console.color_esc_seqs.debug text
    console.color_esc_seqs.info text
    console.color_esc_seqs.notice text
    console.color_esc_seqs.warning text
    console.color_esc_seqs.error text
    console.color_esc_seqs.critical text
    console.color_esc_seqs.alert text
    console.color_esc_seqs.emergency text
    exchange.formatter plaintext|json
    journald boolean
    journald.level level
    journald.fields text
    syslog boolean
    syslog.level level
    syslog.formatter plaintext|json
    syslog.identity text
    syslog.facility kern|kernel|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|ntp|audit|alert|clock|local0|local1|local2|local3|local4|local5|local6|local7
    syslog.multiline_mode boolean
    syslog.ip ip
    syslog.host text
    syslog.port port
    syslog.transport udp|tcp|tls|ssl
    syslog.protocol rfc3164|rfc5424
";
