use std::path::PathBuf;

use super::{Config, LogLevel, Machine, listener};
use crate::config::{Listener, Place};

fn ports(config: &Config) -> (u16, u16) {
    (
        config.cluster.distribution.port_min,
        config.cluster.distribution.port_max,
    )
}

#[test]
fn node_names() {
    let name = |machine: Machine| machine.config().node_name.to_string();
    assert_eq!(
        name(Machine::new().variable("RABBITMQ_NODENAME", "rabbit@elsewhere")),
        "rabbit@elsewhere"
    );
    assert_eq!(
        name(Machine::new().variable("WARREN_NODENAME", "hare")),
        "hare@orders-1"
    );
    assert_eq!(
        name(Machine::new().variable("WARREN_USE_LONGNAME", "true")),
        "warren@orders-1.example.com"
    );
    let both = Machine::new()
        .variable("RABBITMQ_NODENAME", "theirs@x")
        .variable("WARREN_NODENAME", "ours@x");
    assert_eq!(name(both), "ours@x");
    let mut machine = Machine::new().variable("WARREN_NODENAME", "ours@x");
    machine.arguments.node_name = Some("argument@x".into());
    assert_eq!(name(machine), "argument@x");
    let said = Machine::new()
        .variable("RABBITMQ_NODENAME", "a b@x")
        .refusal();
    assert!(
        said.starts_with(
            "environment variable RABBITMQ_NODENAME: node name must be a node name such as"
        ),
        "{said}"
    );
}

#[test]
fn data_directories() {
    let dir = |machine: &Machine| machine.config().data_dir;
    let mut machine = Machine::new().variable("WARREN_NODENAME", "w@h:25673");
    assert_eq!(dir(&machine), PathBuf::from("./warren-data/w@h:25673"));
    machine.is_root = true;
    assert_eq!(dir(&machine), PathBuf::from("/var/lib/warren/w@h:25673"));
    assert_eq!(machine.config().log.dir, PathBuf::from("/var/log/warren"));
    let mut machine = machine.variable("WARREN_DATA_DIR", "/srv/w");
    assert_eq!(dir(&machine), PathBuf::from("/srv/w"));
    assert_eq!(machine.config().log.dir, PathBuf::from("/srv/w/log"));
    machine.arguments.data_dir = Some("/srv/other".into());
    assert_eq!(dir(&machine), PathBuf::from("/srv/other"));
}

#[test]
fn ports_and_addresses() {
    let config = Machine::new()
        .variable("RABBITMQ_NODE_PORT", "5700")
        .config();
    assert_eq!(
        (config.network.tcp.as_slice(), ports(&config)),
        ([Listener::on(5700)].as_slice(), (25700, 25700))
    );
    let machine = Machine::new()
        .variable("WARREN_NODE_IP_ADDRESS", "127.0.0.11")
        .variable("WARREN_DIST_PORT", "25001");
    let config = machine.config();
    assert_eq!(
        (config.network.tcp.as_slice(), ports(&config)),
        ([listener("127.0.0.11", 5672)].as_slice(), (25001, 25001))
    );
    assert_eq!(
        ports(
            &Machine::new()
                .variable("WARREN_NODENAME", "w@h:25673")
                .config()
        ),
        (25673, 25673)
    );
    assert_eq!(
        Machine::new()
            .variable("WARREN_NODE_IP_ADDRESS", "auto")
            .config()
            .network
            .tcp,
        [Listener::on(5672)]
    );
    for (name, value) in [
        ("WARREN_NODE_PORT", "x"),
        ("RABBITMQ_NODE_IP_ADDRESS", "localhost"),
        ("WARREN_DIST_PORT", "-1"),
    ] {
        let said = Machine::new().variable(name, value).refusal();
        assert!(
            said.contains(name) && said.contains(value) && said.contains("must be"),
            "{said}"
        );
    }
}

#[test]
fn the_default_user_can_be_named_by_variables() {
    let machine = Machine::new()
        .variable("RABBITMQ_DEFAULT_USER", "theirs")
        .variable("WARREN_DEFAULT_USER", "ours")
        .variable("RABBITMQ_DEFAULT_PASS", "secret")
        .variable("WARREN_DEFAULT_VHOST", "");
    let access = machine.config().access;
    assert_eq!(
        (
            access.default_user,
            access.default_pass,
            access.default_vhost
        ),
        ("ours".into(), "secret".into(), "/".into())
    );
}

#[test]
fn files_win_over_variables_and_say_so() {
    let machine = Machine::configured("default_user = file\nlisteners.tcp.1 = 5673")
        .variable("WARREN_DEFAULT_USER", "variable")
        .variable("WARREN_NODE_PORT", "5700");
    let (config, warnings) = machine.load();
    assert_eq!(
        (config.access.default_user.as_str(), config.network.tcp),
        ("file", vec![Listener::on(5673)])
    );
    let said: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "WARREN_DEFAULT_USER: is not used, default_user is set in /etc/warren/warren.conf:1",
            "WARREN_NODE_PORT: is not used, listeners.tcp is set in /etc/warren/warren.conf:2",
        ]
    );
}

#[test]
fn logs_by_variables() {
    let log = |name: &str, value: &str| Machine::new().variable(name, value).config().log;
    assert_eq!(log("RABBITMQ_LOG_BASE", "/l").dir, PathBuf::from("/l"));
    assert!(!log("RABBITMQ_LOGS", "-").file.enabled);
    assert_eq!(
        log("RABBITMQ_LOGS", "/l/x.log").file.name,
        PathBuf::from("/l/x.log")
    );
    assert!(log("WARREN_LOGS", "-stderr").console.stderr);
    let log = log("RABBITMQ_LOG", "debug,connection=error");
    assert_eq!(
        (log.default_level, log.console.level),
        (LogLevel::Debug, LogLevel::Debug)
    );
    assert_eq!(
        log.category_levels.get("connection"),
        Some(&LogLevel::Error)
    );
    assert!(
        Machine::new()
            .variable("RABBITMQ_LOG", "loud")
            .refusal()
            .contains("not \"loud\"")
    );
}

#[test]
fn later_files_win_and_arguments_win_over_all() {
    let machine =
        Machine::configured("heartbeat = 1\nchannel_max = 1\nvhost_max = 1\nframe_max = 5000")
            .file(
                "/etc/warren/conf.d/20-b.conf",
                "heartbeat = 3\nvhost_max = 3",
            )
            .file(
                "/etc/warren/conf.d/10-a.conf",
                "heartbeat = 2\nchannel_max = 2",
            )
            .file("/etc/warren/conf.d/30-c.conf.off", "heartbeat = 4")
            .set("vhost_max=9");
    let (config, warnings) = machine.load();
    assert_eq!(warnings, []);
    let limits = &config.limits;
    assert_eq!(
        (
            limits.heartbeat.as_secs(),
            limits.channel_max,
            limits.vhost_max,
            limits.frame_max
        ),
        (3, 2, Some(9), 5000)
    );
    let files: Vec<String> = config
        .files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(
        files,
        [
            "/etc/warren/warren.conf",
            "/etc/warren/conf.d/10-a.conf",
            "/etc/warren/conf.d/20-b.conf"
        ]
    );
}

#[test]
fn the_file_is_where_it_is_named_or_where_packages_put_it() {
    let channel_max = |machine: &Machine| machine.config().limits.channel_max;
    let machine = Machine::new().file("/etc/rabbitmq/rabbitmq.conf", "channel_max = 7");
    assert_eq!(channel_max(&machine), 7);
    let machine = machine.file("/etc/warren/warren.conf", "channel_max = 8");
    assert_eq!(channel_max(&machine), 8);
    let machine = machine
        .file("/srv/a.conf", "channel_max = 9")
        .variable("RABBITMQ_CONFIG_FILE", "/srv/a.conf");
    assert_eq!(channel_max(&machine), 9);
    let machine = machine
        .file("/srv/b.conf", "channel_max = 10")
        .variable("WARREN_CONFIG_FILE", "/srv/b");
    assert_eq!(channel_max(&machine), 10, "the extension can be left out");
    let machine = machine.file("/srv/conf.d/1.conf", "channel_max = 11");
    assert_eq!(channel_max(&machine), 11);
    let mut machine = machine
        .file("/srv/more/x.conf", "channel_max = 12")
        .variable("WARREN_CONFIG_FILES", "/srv/more");
    assert_eq!(channel_max(&machine), 12);
    machine.arguments.config_file = Some("/srv/a.conf".into());
    assert_eq!(machine.config().files[0], PathBuf::from("/srv/a.conf"));
}

#[test]
fn only_a_drop_in_directory_is_enough() {
    let machine = Machine::new().file(
        "/etc/rabbitmq/conf.d/10-defaults.conf",
        "loopback_users.guest = false",
    );
    assert!(machine.config().access.loopback_users.is_empty());
}

#[test]
fn includes_are_read_in_place() {
    let machine = Machine::configured(
        "heartbeat = 1\ninclude more/*.conf\ninclude last.conf\nchannel_max = 1",
    )
    .file("/etc/warren/more/b.conf", "heartbeat = 3\nchannel_max = 3")
    .file("/etc/warren/more/a.conf", "heartbeat = 2\nvhost_max = 2")
    .file("/etc/warren/last.conf", "frame_max = 6000");
    let limits = machine.config().limits;
    assert_eq!(
        (
            limits.heartbeat.as_secs(),
            limits.channel_max,
            limits.vhost_max,
            limits.frame_max
        ),
        (3, 1, Some(2), 6000)
    );
}

#[test]
fn dollars_stand_for_settings_variables_and_files() {
    let machine = Machine::configured(
        "cluster_name = $(SITE)-$( default_vhost )\ndefault_vhost = v-$(SITE)\ndefault_pass = $(<pass.txt)\n\
         default_user = $5 (five) $(open\n",
    )
    .file("/etc/warren/pass.txt", "s3cret\n")
    .variable("SITE", "eu");
    let config = machine.config();
    assert_eq!(config.cluster.cluster_name.as_deref(), Some("eu-v-eu"));
    assert_eq!(config.access.default_pass, "s3cret");
    assert_eq!(config.access.default_user, "$5 (five) $(open");
}

#[test]
fn a_setting_that_is_made_twice_in_a_file_is_pointed_out() {
    let (config, warnings) = Machine::configured("heartbeat = 1\nheartbeat = 2").load();
    assert_eq!(config.limits.heartbeat.as_secs(), 2);
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert!(
        matches!(warning.place, Some(Place::File { line: 2, .. })),
        "{warning:?}"
    );
}

#[test]
fn a_password_cut_at_its_hash_is_pointed_out() {
    let (config, warnings) = Machine::configured("default_pass = ab#cd").load();
    assert_eq!(config.access.default_pass, "ab");
    assert!(warnings[0].text.contains("quote the value"), "{warnings:?}");
    assert!(!warnings[0].text.contains("ab"), "{warnings:?}");
}

#[test]
fn a_file_of_erlang_terms_is_not_passed_over_in_silence() {
    let machine = Machine::configured("").file("/etc/warren/advanced.config", "[].");
    let (_, warnings) = machine.load();
    assert_eq!(
        warnings[0].to_string(),
        "/etc/warren/advanced.config: is not read: settings given as Erlang terms have no effect here"
    );
    let said = Machine::new()
        .file("/srv/x.config", "[].")
        .variable("RABBITMQ_CONFIG_FILE", "/srv/x.config")
        .refusal();
    assert!(
        said.contains("/srv/x.config") && said.contains("Erlang terms are not supported"),
        "{said}"
    );
}
