use super::Machine;

/// A text is refused, and each line of what is said contains the parts.
fn check(text: &str, expected: &[&[&str]]) {
    let said = Machine::configured(text).refusal();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines.len(),
        expected.len(),
        "{text:?} was refused by\n{said}"
    );
    for (line, parts) in lines.iter().zip(expected) {
        for part in *parts {
            assert!(line.contains(part), "{line:?} lacks {part:?}");
        }
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    check(
        "\nheartbeet = 60",
        &[&[
            "/etc/warren/warren.conf:2: there is no setting \"heartbeet\", did you mean \"heartbeat\"?",
        ]],
    );
    check(
        "log.exchnage.level = info",
        &[&["did you mean \"log.exchange.level\"?"]],
    );
    check(
        "loopback_user.guest = true",
        &[&["did you mean \"loopback_users.guest\"?"]],
    );
    check(
        "ssl_options.cert_file = x",
        &[&["did you mean \"ssl_options.certfile\"?"]],
    );
    check(
        "listener.tcp.default = 5672",
        &[&["did you mean \"listeners.tcp.default\"?"]],
    );
    check(
        "vm_memory_high_watermark = 0.4",
        &[&["vm_memory_high_watermark.relative"]],
    );
    check(
        "entirely.else.where = 1",
        &[&["there is no setting \"entirely.else.where\""]],
    );
}

#[test]
fn what_is_allowed_near_an_unknown_key_is_listed() {
    check(
        "tcp_listen_options.linger.off = true",
        &[&["(allowed here: tcp_listen_options.linger.on, tcp_listen_options.linger.timeout)"]],
    );
}

#[test]
fn bad_values_are_refused_with_what_is_allowed() {
    let place = "/etc/warren/warren.conf:1: ";
    check(
        "heartbeat = soon",
        &[&[
            place,
            "heartbeat must be a whole number from 0 to 65535, not \"soon\"",
        ]],
    );
    check(
        "frame_max = 1000",
        &[&[
            "frame_max must be 0 (no limit) or a size of at least 4096 bytes",
            "not \"1000\"",
        ]],
    );
    check(
        "frame_max = 5GB",
        &[&["frame_max must be 0 (no limit) or a size of at least 4096 bytes"]],
    );
    check(
        "max_message_size = 513MiB",
        &[&["max_message_size must be a size of 1 byte to 512MiB"]],
    );
    check("max_message_size = 0", &[&["max_message_size must be"]]);
    check(
        "reverse_dns_lookups = yes",
        &[&["must be true or false, not \"yes\""]],
    );
    check(
        "listeners.tcp.1 = localhost:5672",
        &[&["must be a port, or an address and a port such as"]],
    );
    check(
        "vm_memory_high_watermark.absolute = lots",
        &[&["512MiB, 50MB or 2GB"]],
    );
    check(
        "log.console.level = loud",
        &[&["must be debug, info, notice, warning, error, critical, alert, emergency or none"]],
    );
    check(
        "cluster_partition_handling = autoupgrade",
        &[&[
            "must be ignore, autoheal, pause_minority, stop_processing or pause_if_all_down, not \"autoupgrade\"",
        ]],
    );
    check("consumer_timeout = 0", &[&["above zero"]]);
    check(
        "default_limits.vhosts.a.pattern = (",
        &[&["must be a regular expression"]],
    );
    check(
        "cluster_formation.classic_config.nodes.1 = rabbit",
        &[&["must be a node name such as"]],
    );
    check(
        "management.sample_retention_policies.global.week = 5",
        &[&["minute, hour, day or a number of seconds"]],
    );
    check(
        "auth_backends.one = internal",
        &[&["the position in the chain must be a number"]],
    );
    check(
        "load_definitions = /nowhere.json",
        &[&["must be the path of a file that exists and may be read, not \"/nowhere.json\""]],
    );
}

#[test]
fn what_would_be_dangerous_to_leave_out_is_refused() {
    check(
        "auth_backends.1 = ldap",
        &[&[
            "must be internal",
            "no other backend is served yet",
            "not \"ldap\"",
        ]],
    );
    check(
        "auth_mechanisms.1 = RABBIT-CR-DEMO",
        &[&["must be PLAIN, AMQPLAIN, EXTERNAL or ANONYMOUS"]],
    );
    check(
        "cluster_formation.peer_discovery_backend = k8s",
        &[&["must be classic_config or dns", "not served yet"]],
    );
    check(
        "ssl_options.crl_check = peer",
        &[&["revocation lists are not served yet"]],
    );
    check("definitions.import_backend = https", &[&["not served yet"]]);
}

#[test]
fn secrets_are_not_repeated() {
    let text = "default_pass = encrypted:a1b2c3\ndefault_users.x.password = encrypted:d4e5f6";
    let said = Machine::configured(text).refusal();
    assert!(
        !said.contains("a1b2c3") && !said.contains("d4e5f6"),
        "{said}"
    );
    check(
        text,
        &[
            &["default_pass", "values are not supported"],
            &["default_users.x.password"],
        ],
    );
}

#[test]
fn settings_that_need_each_other() {
    let only = "cluster_partition_handling = pause_if_all_down";
    check(only, &[&["nodes.1"], &["recover", "ignore or autoheal"]]);
    check(
        "cluster_formation.peer_discovery_backend = dns",
        &[&["dns needs cluster_formation.dns.hostname"]],
    );
    check(
        "ssl_options.verify = verify_peer",
        &[&["verify_peer needs ssl_options.cacertfile"]],
    );
    check(
        "ssl_options.fail_if_no_peer_cert = true",
        &[&["no meaning without ssl_options.verify = verify_peer"]],
    );
    check(
        "\nlisteners.ssl.1 = 5671",
        &[
            &["ssl_options.certfile: must be set"],
            &["ssl_options.keyfile: must be set"],
        ],
    );
    check(
        "management.ssl.port = 15671",
        &[&["management.ssl.certfile"], &["management.ssl.keyfile"]],
    );
    check(
        "inter_node.ssl_options.verify = verify_peer",
        &[
            &["inter_node.ssl_options.certfile: must be set"],
            &["inter_node.ssl_options.keyfile: must be set"],
            &["verify_peer needs inter_node.ssl_options.cacertfile"],
        ],
    );
    check(
        "inter_node.ssl_options.versions.1 = tlsv1.1",
        &[
            &["inter_node.ssl_options.certfile: must be set"],
            &["inter_node.ssl_options.keyfile: must be set"],
            &["use tlsv1.2 or tlsv1.3"],
        ],
    );
    check(
        "ssl_options.versions.1 = tlsv1",
        &[&["use tlsv1.2 or tlsv1.3"]],
    );
    check(
        "credential_validator.validation_backend = rabbit_credential_validator_password_regexp",
        &[&["needs credential_validator.regexp"]],
    );
    let range = "distribution.listener.port_range.min = 25672\ndistribution.listener.port_range.max = 25671";
    check(
        range,
        &[&[
            "/etc/warren/warren.conf:2: ",
            "must not be below the first port, 25672",
        ]],
    );
    check(
        "listeners.tcp.1 = 5672\nlisteners.tcp.2 = 5672",
        &[&["two listeners have the same address 5672"]],
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    check(
        "what\nheartbeat = x\nframe_maxx = 1\n",
        &[
            &[":1: expected `key = value`"],
            &[":3: there is no setting \"frame_maxx\""],
            &[":2: heartbeat must be"],
        ],
    );
}

#[test]
fn files_that_are_named_and_missing() {
    let said = Machine::new()
        .variable("WARREN_CONFIG_FILE", "/srv/none.conf")
        .refusal();
    assert_eq!(
        said,
        "/srv/none.conf: cannot be read: no such file, or no permission (named by variable WARREN_CONFIG_FILE)"
    );
    check(
        "include other.conf",
        &[&[":1: there is no file to include: other.conf"]],
    );
    check(
        "include warren.conf",
        &[&["more than 8 files include each other"]],
    );
    check(
        "default_user = $(<user.txt)",
        &[&["/etc/warren/user.txt cannot be read"]],
    );
}

#[test]
fn dollars_that_stand_for_nothing() {
    check(
        "default_user = $(NOBODY)",
        &[&["default_user: $(NOBODY) is neither a setting nor an environment variable"]],
    );
    check(
        "default_user = $(default_user)",
        &[&["$(default_user) stands for itself"]],
    );
    let circle = "default_user = a$(default_vhost)\ndefault_vhost = b$(cluster_name)\ncluster_name = c$(default_user)";
    check(
        circle,
        &[
            &["stands for itself"],
            &["stands for itself"],
            &["stands for itself"],
        ],
    );
}

#[test]
fn arguments_are_checked_like_lines() {
    let said = Machine::new().set("heartbeat=x").refusal();
    assert!(
        said.starts_with("argument --set heartbeat: heartbeat must be"),
        "{said}"
    );
    let said = Machine::new().set("heartbeat").refusal();
    assert_eq!(said, "argument --set heartbeat: expected key=value");
}
