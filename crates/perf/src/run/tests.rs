use super::*;
use crate::fake_broker::{Behaviour, FakeBroker};

fn try_run(broker: &FakeBroker, arguments: &str) -> Result<Report> {
    let line = format!("-h amqp://{} -st 1 {arguments}", broker.address);
    let arguments = line.split_whitespace().map(Into::into);
    run(&Options::parse(arguments).expect("right options"))
}

/// A run that starts and ends in order.
fn report(broker: &FakeBroker, arguments: &str) -> Report {
    let report = try_run(broker, arguments).expect("starts");
    assert_eq!(report.error, None);
    report
}

#[test]
fn every_message_is_sent_confirmed_received_and_acknowledged() {
    let broker = FakeBroker::start(Behaviour::default());
    let report = report(
        &broker,
        "-u q -c 50 -C 2003 -D 2003 -q 100 -A 10 -s 64 -f persistent",
    );
    assert_eq!(
        (report.sent, report.confirmed, report.received),
        (2003, 2003, 2003)
    );
    assert_eq!((report.nacked, report.returned), (0, 0));
    assert!(report.stop_reason.ends_with("reached message limit"));
    assert_eq!(report.latency_from, "send");
    let consumer = report.consumer_latency_us.expect("bodies have times");
    let confirm = report.confirm_latency_us.expect("there are confirms");
    assert_eq!((consumer.count, confirm.count), (2003, 2003));
    assert!(consumer.p50 > 0.0 && consumer.p50 < 10e6, "{consumer:?}");
    assert!(report.generator.cpu_seconds > 0.0);

    // The broker has read all before it agreed to the end.
    let seen = broker.seen();
    assert_eq!((seen.acknowledged, seen.acks), (2003, 201));
    let count = |name| {
        seen.methods
            .iter()
            .filter(|method| **method == name)
            .count()
    };
    assert_eq!(count("exchange.declare"), 1);
    assert_eq!((count("queue.declare"), count("queue.bind")), (1, 1));
    assert_eq!((count("basic.qos"), count("confirm.select")), (1, 1));
    assert_eq!(count("connection.close"), 3);
}

#[test]
fn small_bodies_have_no_latency_and_large_ones_come_in_frames() {
    let broker = FakeBroker::start(Behaviour::default());
    let small = report(&broker, "-u q -C 10 -D 10 -s 3 -a");
    assert_eq!((small.received, small.consumer_latency_us), (10, None));
    assert_eq!(broker.seen().acks, 0);
}

#[test]
fn rate_is_kept_and_latency_counts_from_the_schedule() {
    let broker = FakeBroker::start(Behaviour::default());
    let report = report(&broker, "-u q -r 2000 -C 200 -D 200 -a");
    assert_eq!((report.sent, report.received), (200, 200));
    // The last message is due after 99.5 ms, and none may come earlier.
    assert!(report.seconds > 0.099, "{}", report.seconds);
    assert_eq!(report.latency_from, "schedule");
    assert_eq!(report.generator_lag_us.map(|lag| lag.count), Some(200));
}

#[test]
fn consumer_rate_holds_the_consumers_back() {
    let broker = FakeBroker::start(Behaviour::default());
    let report = report(&broker, "-u q -C 300 -D 300 -R 2000 -a");
    assert_eq!((report.sent, report.received), (300, 300));
    // 20 messages are the 10 ms that it may make up for.
    assert!(report.seconds > 279.0 / 2000.0, "{}", report.seconds);
}

#[test]
fn several_connections_and_channels_share_the_queue() {
    let broker = FakeBroker::start(Behaviour::default());
    let report = report(
        &broker,
        "-u q -x 3 -y 1 -Y 2 -C 100 -z 60 -D 150 -a --threads 2",
    );
    assert_eq!((report.sent, report.received), (300, 300));
}

#[test]
fn a_refusal_stops_the_start() {
    for (method, arguments) in [
        ("queue.declare", "-u q"),
        ("basic.qos", "-u q -q 10"),
        ("confirm.select", "-u q -c 10"),
        ("basic.consume", "-u q"),
    ] {
        let broker = FakeBroker::start(Behaviour {
            refuses: Some(method),
            ..Behaviour::default()
        });
        let error = try_run(&broker, arguments).expect_err("is refused");
        let text = format!("{error:#}");
        assert!(
            text.ends_with("403 ACCESS_REFUSED - not for you"),
            "{method}: {text}"
        );
    }
}

#[test]
fn a_lost_connection_ends_the_run_with_a_failure() {
    let broker = FakeBroker::start(Behaviour {
        drops_publisher: true,
        ..Behaviour::default()
    });
    let report = try_run(&broker, "-u q").expect("starts");
    let error = report.error.expect("the connection is lost");
    assert!(error.starts_with("producer #0: "), "{error}");
}

#[test]
fn a_missing_confirm_ends_the_run_with_a_failure() {
    let broker = FakeBroker::start(Behaviour {
        never_confirms: true,
        ..Behaviour::default()
    });
    let report = try_run(&broker, "-u q -c 5 -ct 1").expect("starts");
    assert_eq!((report.sent, report.confirmed), (5, 0));
    assert_eq!(
        report.error.as_deref(),
        Some("producer #0: no confirm for 1 s")
    );
}

#[test]
fn a_blocked_publisher_goes_on_when_it_may() {
    let broker = FakeBroker::start(Behaviour {
        blocks_once: true,
        ..Behaviour::default()
    });
    let report = report(&broker, "-u q -c 10 -C 500 -D 500");
    assert_eq!((report.confirmed, report.received), (500, 500));
}

#[test]
fn nobody_there_is_a_failure() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let line = format!("-h amqp://{address}");
    let options = Options::parse(line.split_whitespace().map(Into::into)).expect("right");
    let error = run(&options).expect_err("nobody listens");
    let text = format!("{error:#}");
    let front = format!("cannot connect to {address}: Connection refused");
    assert!(text.starts_with(&front), "{text}");
    assert_eq!(text.matches("refused").count(), 1, "{text}");
}

#[test]
fn name_is_the_time_of_day() {
    let time = Duration::from_millis(86_400_000 * 3 + 3_661_007);
    assert_eq!(name(time), "test-010101-007");
}
