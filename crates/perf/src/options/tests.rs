use super::*;

fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
    Options::parse(arguments.iter().map(OsString::from))
}

fn parsed(line: &str) -> Options {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    parse(&arguments).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refused(line: &str) -> String {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    match parse(&arguments) {
        Ok(_) => panic!("{line} was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn defaults_are_those_of_perf_test() {
    let options = parsed("");
    assert_eq!(options.uris(), [Uri::default()]);
    assert_eq!((options.producers, options.consumers), (1, 1));
    assert_eq!(options.producer_channel_count, 1);
    assert_eq!(options.consumer_channel_count, 1);
    assert_eq!(
        (options.size, options.pmessages, options.cmessages),
        (12, 0, 0)
    );
    assert_eq!(
        (options.qos, options.global_qos, options.multi_ack_every),
        (0, 0, 0)
    );
    assert_eq!(
        (options.exchange(), options.kind.as_str()),
        ("direct".to_owned(), "direct")
    );
    assert_eq!(
        (options.confirm_window(), options.rate(), options.run_time()),
        (None, None, None)
    );
    assert!(options.auto_delete && !options.autoack && !options.predeclared && !options.json);
    assert!(!options.persistent() && !options.mandatory());
    assert_eq!(options.confirm_timeout(), Duration::from_secs(30));
    assert_eq!(options.shutdown_timeout(), Duration::from_secs(5));
}

#[test]
fn short_and_long_names_mean_the_same() {
    let table = [
        (
            "-h amqp://h:1/v -x 2 -y 3 -X 4 -Y 5 -s 6 -C 7 -D 8 -c 9 -q 10 -A 10 -r 12 -R 13 -z 14",
            "--uri amqp://h:1/v --producers 2 --consumers 3 --producer-channel-count 4 \
             --consumer-channel-count 5 --size 6 --pmessages 7 --cmessages 8 --confirm 9 --qos 10 \
             --multi-ack-every 10 --rate 12 --consumer-rate 13 --time 14",
        ),
        (
            "-a -p -sb -u a,b -e x -t topic -k key -ad false -qa x-max-length=1 -d name -i 2",
            "--autoack --predeclared --skip-binding-queues --queue a,b --exchange x --type topic \
             --routing-key key --auto-delete false --queue-args x-max-length=1 --id name \
             --interval 2",
        ),
        (
            "-qp q-%d -qpf 1 -qpt 3 -f persistent -f mandatory -M 5000 -b 7 -Q 8 -ct 9 -st 1 -tsbs 2",
            "--queue-pattern q-%d --queue-pattern-from 1 --queue-pattern-to 3 \
             --flag persistent mandatory --framemax 5000 --heartbeat 7 --global-qos 8 \
             --confirm-timeout 9 --shutdown-timeout 1 --tcp-send-buffer-size 2",
        ),
    ];
    for (short, long) in table {
        assert_eq!(
            format!("{:?}", parsed(short)),
            format!("{:?}", parsed(long))
        );
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let options = parsed(
        "-h amqp://u:p@h:1/v -x 2 -y 3 -X 4 -Y 5 -s 6 -C 7 -D 8 -c 9 -q 10 -A 9 -r 0.5 -R 13 -z 14",
    );
    assert_eq!(options.uris()[0].host, "h");
    assert_eq!((options.producers, options.consumers), (2, 3));
    assert_eq!(options.producer_channel_count, 4);
    assert_eq!(options.consumer_channel_count, 5);
    assert_eq!(
        (options.size, options.pmessages, options.cmessages),
        (6, 7, 8)
    );
    assert_eq!((options.confirm_window(), options.qos), (Some(9), 10));
    assert_eq!(options.multi_ack_every, 9);
    assert_eq!(
        (options.rate(), options.consumer_rate()),
        (Some(0.5), Some(13.0))
    );
    assert_eq!(options.run_time(), Some(Duration::from_secs(14)));

    let ours = parsed("--json --latency-only --warmup 3 --threads 2 --broker-pid 4,5");
    assert!(ours.json && ours.latency_only);
    assert_eq!((ours.warmup(), ours.threads), (Duration::from_secs(3), 2));
    assert_eq!(ours.broker_pid, [4, 5]);
}

#[test]
fn special_values_keep_their_meaning() {
    assert_eq!(parsed("-c -1").confirm_window(), None);
    assert_eq!(parsed("-c 0").confirm_window(), Some(u64::MAX));
    assert_eq!(parsed("-r -1").rate(), None);
    assert_eq!(parsed("-e -t fanout").exchange(), "fanout");
    assert_eq!(parsed("-t fanout").exchange(), "fanout");
    assert_eq!(parsed("-e amq.default").exchange(), "");
    let two = parsed("-H amqp://a,amqp://b");
    let hosts: Vec<&str> = two.uris().iter().map(|uri| uri.host.as_str()).collect();
    assert_eq!(hosts, ["a", "b"]);
}

#[test]
fn queue_arguments_have_types() {
    let options = parsed("-qa x-max-length=10,x-queue-mode=lazy -qa x-flag=true x-empty");
    let want = Table::new()
        .with("x-max-length", 10_i64)
        .with("x-queue-mode", "lazy")
        .with("x-flag", true)
        .with("x-empty", "");
    assert_eq!(options.queue_arguments(), Ok(want));
}

#[test]
fn pattern_counts_with_and_without_zeros() {
    let table = [
        ("q%d", vec!["q9", "q10"]),
        ("q-%03d-x", vec!["q-009-x", "q-010-x"]),
        ("%1d", vec!["9", "10"]),
    ];
    for (pattern, names) in table {
        let options = parsed(&format!("-qp {pattern} -qpf 9 -qpt 10"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        assert_eq!(options.queues_of_pattern(), Ok(names), "{pattern}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let table = [
        ("-A 11 -q 10", "--multi-ack-every"),
        ("-r 0", "--rate"),
        ("-r nan", "--rate"),
        ("-r 1e9", "--rate"),
        ("-R -2", "--consumer-rate"),
        ("-x 0 -y 0", "neither producers nor consumers"),
        ("-X 0", "at least 1"),
        ("-p", "--queue"),
        ("-qp q-%d", "--queue-pattern-from"),
        ("-qpf 1 -qpt 2", "--queue-pattern"),
        ("-qp q-%d -qpf 2 -qpt 1", "--queue-pattern-to"),
        ("-qp q -qpf 1 -qpt 2", "%d"),
        ("-qp %s-%d -qpf 1 -qpt 2", "%d"),
        ("-qp q-%d -qpf 1 -qpt 2 -u q", "--queue"),
        ("-qa =1", "needs a name"),
        ("-h amqps://h", "TLS"),
        ("-h amqp://a -H amqp://b", "--uris"),
        ("-f durable", "durable"),
        ("--quorum-queue", "--quorum-queue"),
        ("-c many", "--confirm"),
    ];
    for (line, word) in table {
        let text = refused(line);
        assert!(text.contains(word), "{line}: {text}");
    }
    let long = "q".repeat(256);
    assert!(refused(&format!("-u {long}")).contains("255"));
}

#[test]
fn help_is_no_failure() {
    for line in ["-?", "--help", "-v"] {
        let arguments = [OsString::from(line)];
        let error = Options::parse(arguments.into_iter()).expect_err("stops");
        assert_eq!(error.exit_code(), 0, "{line}");
    }
}

#[test]
fn a_refusal_shows_how_the_command_is_used() {
    let text = parse(&["--nonsense"]).unwrap_err().to_string();
    assert!(text.contains("Usage: warren perf [OPTIONS]"), "{text}");
}
