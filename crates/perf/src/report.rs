//! What is printed: PerfTest's lines, so that what reads those reads ours, and a JSON object.
//!
//! Lines that PerfTest does not have come after its own. Latencies are in microseconds.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use crate::meter::{Summary, Tally};
use crate::options::Options;
use crate::schedule::{Nanos, approximate};
use crate::usage::Used;

const LATENCY_HEADER: &str = "min/median/75th/95th/99th/max";

/// What is to be shown and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output<'a> {
    pub(crate) options: &'a Options,
    pub(crate) id: &'a str,
}

/// What a run has come to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) id: String,
    pub(crate) stop_reason: String,
    pub(crate) error: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) confirmed: u64,
    pub(crate) nacked: u64,
    pub(crate) returned: u64,
    pub(crate) sent_per_second: f64,
    pub(crate) received_per_second: f64,
    pub(crate) confirmed_per_second: f64,
    /// `send` or, where there is a rate, `schedule`.
    pub(crate) latency_from: &'static str,
    pub(crate) consumer_latency_us: Option<Summary>,
    pub(crate) confirm_latency_us: Option<Summary>,
    /// How late messages were written after they were due.
    pub(crate) generator_lag_us: Option<Summary>,
    pub(crate) generator: Generator,
    pub(crate) broker: Option<Broker>,
}

/// What the load generator itself has used.
#[derive(Debug, Serialize)]
pub(crate) struct Generator {
    pub(crate) cpu_seconds: f64,
    /// Per message sent or received.
    pub(crate) cpu_us_per_message: f64,
}

/// What the broker has used.
#[derive(Debug, Serialize)]
pub(crate) struct Broker {
    #[serde(flatten)]
    pub(crate) used: Used,
    pub(crate) cpu_us_per_message: f64,
    /// `received`, or `sent` where nothing was received.
    pub(crate) per: &'static str,
    /// At the end of the run.
    pub(crate) resident_bytes: u64,
    /// The most that was seen.
    pub(crate) resident_bytes_max: u64,
}

/// What was measured beside the messages.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) elapsed: Nanos,
    pub(crate) process_time: Nanos,
    pub(crate) broker: Option<(Used, u64, u64)>,
}

impl Report {
    /// Works out the figures.
    pub(crate) fn new(output: &Output<'_>, tally: &Tally, measured: &Measured) -> Report {
        let seconds = (approximate(measured.elapsed) / 1e9).max(1e-9);
        let per_second = |count| approximate(count) / seconds;
        let per = |seconds: f64, count: u64| seconds * 1e6 / approximate(count.max(1));
        let some = |summary: Summary| (summary.count > 0).then_some(summary);
        let cpu_seconds = approximate(measured.process_time) / 1e9;
        let basis = match tally.received {
            0 => ("sent", tally.sent),
            received => ("received", received),
        };
        Report {
            id: output.id.to_owned(),
            stop_reason: String::new(),
            error: None,
            seconds,
            sent: tally.sent,
            received: tally.received,
            confirmed: tally.confirmed,
            nacked: tally.nacked,
            returned: tally.returned,
            sent_per_second: per_second(tally.sent),
            received_per_second: per_second(tally.received),
            confirmed_per_second: per_second(tally.confirmed),
            latency_from: match output.options.rate() {
                Some(_) => "schedule",
                None => "send",
            },
            consumer_latency_us: some(tally.consumer_latency.summary()),
            confirm_latency_us: some(tally.confirm_latency.summary()),
            generator_lag_us: some(tally.lag.summary()),
            generator: Generator {
                cpu_seconds,
                cpu_us_per_message: per(cpu_seconds, tally.sent + tally.received),
            },
            broker: measured.broker.map(|(used, now, most)| Broker {
                used,
                cpu_us_per_message: per(used.seconds(), basis.1),
                per: basis.0,
                resident_bytes: now,
                resident_bytes_max: most,
            }),
        }
    }
}

impl Output<'_> {
    /// Prints a line: to standard output, or to standard error where JSON has the other.
    pub(crate) fn line(&self, text: &str) {
        // Whoever has closed the pipe does not want to read it.
        let _ = match self.options.json {
            true => writeln!(std::io::stderr(), "{text}"),
            false => writeln!(std::io::stdout(), "{text}"),
        };
    }

    /// Prints a line that begins with the name of the run.
    pub(crate) fn line_of_run(&self, text: &str) {
        self.line(&format!("id: {}, {text}", self.id));
    }

    /// One line about the last interval.
    pub(crate) fn progress(&self, since_start: Nanos, interval: Nanos, tally: &Tally) {
        let text = self.progress_text(since_start, interval, tally);
        self.line_of_run(&text);
    }

    fn progress_text(&self, since_start: Nanos, interval: Nanos, tally: &Tally) -> String {
        let options = self.options;
        let confirms = options.confirm_window().is_some() && options.producers > 0;
        let mut text = format!("time {:.3} s", approximate(since_start) / 1e9);
        let rates = [
            ("sent", tally.sent, options.producers > 0),
            ("returned", tally.returned, options.mandatory()),
            ("confirmed", tally.confirmed, confirms),
            ("nacked", tally.nacked, confirms),
            ("received", tally.received, options.consumers > 0),
        ];
        for (label, count, shown) in rates {
            if shown && !options.latency_only {
                let rate = rate(approximate(count) * 1e9 / approximate(interval.max(1)));
                let _ = write!(text, ", {label}: {rate} msg/s");
            }
        }
        let mut header = format!(", {LATENCY_HEADER} ");
        for (label, latencies, shown) in [
            ("consumer", &tally.consumer_latency, options.consumers > 0),
            ("confirm", &tally.confirm_latency, confirms),
        ] {
            if shown {
                let figures = figures(&latencies.summary());
                let _ = write!(text, "{header}{label} latency: {figures}");
                ", ".clone_into(&mut header);
            }
        }
        text
    }

    /// The lines at the end, and the JSON object.
    pub(crate) fn summary(&self, report: &Report) {
        self.line(&format!("test stopped ({})", report.stop_reason));
        for text in self.summary_texts(report) {
            self.line_of_run(&text);
        }
        if self.options.json {
            let json = serde_json::to_string_pretty(report).expect("it has only text keys");
            let _ = writeln!(std::io::stdout(), "{json}");
        }
    }

    fn summary_texts(&self, report: &Report) -> Vec<String> {
        let mut texts = Vec::new();
        if !self.options.latency_only {
            let (sent, received) = (report.sent_per_second, report.received_per_second);
            texts.push(format!("sending rate avg: {} msg/s", rate(sent)));
            texts.push(format!("receiving rate avg: {} msg/s", rate(received)));
        }
        for (label, summary) in [
            ("consumer latency", &report.consumer_latency_us),
            ("confirm latency", &report.confirm_latency_us),
        ] {
            if let Some(summary) = summary {
                texts.push(format!("{label} {LATENCY_HEADER} {}", figures(summary)));
            }
        }
        if let Some(lag) = &report.generator_lag_us {
            texts.push(
                "latencies count from the time a message was due, however late it was sent"
                    .to_owned(),
            );
            texts.push(format!("generator lag {LATENCY_HEADER} {}", figures(lag)));
        }
        texts.push(format!(
            "generator processor time: {:.3} µs per message sent or received",
            report.generator.cpu_us_per_message
        ));
        if let Some(broker) = &report.broker {
            texts.push(format!(
                "broker processor time: {:.3} µs per message {} (user {:.2} s, system {:.2} s)",
                broker.cpu_us_per_message,
                broker.per,
                broker.used.user_seconds,
                broker.used.system_seconds
            ));
            let mebibytes = |bytes| approximate(bytes) / f64::from(1 << 20);
            texts.push(format!(
                "broker memory: {:.1} MiB, at most {:.1} MiB",
                mebibytes(broker.resident_bytes),
                mebibytes(broker.resident_bytes_max)
            ));
        }
        texts
    }
}

/// PerfTest's way to print a rate.
fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 1.0 => format!("{rate:.2}"),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{:.0}", rate.trunc()),
    }
}

/// PerfTest's way to print latencies: whole microseconds.
fn figures(summary: &Summary) -> String {
    let Summary { min, p50, p75, .. } = summary;
    let Summary { p95, p99, max, .. } = summary;
    let all = [min, p50, p75, p95, p99, max].map(|micros| format!("{micros:.0}"));
    format!("{} µs", all.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &str) -> Options {
        let arguments = arguments.split_whitespace().map(Into::into);
        Options::parse(arguments).expect("right options")
    }

    fn tally() -> Tally {
        let mut tally = Tally {
            sent: 4000,
            confirmed: 3000,
            nacked: 1,
            returned: 2,
            received: 2000,
            ..Tally::default()
        };
        tally.consumer_latency.record(0, 1_000_000);
        tally.confirm_latency.record(0, 100_000);
        tally
    }

    fn progress(arguments: &str) -> String {
        let options = options(arguments);
        let output = Output {
            options: &options,
            id: "test",
        };
        output.progress_text(2_000_000_000, 1_000_000_000, &tally())
    }

    #[test]
    fn progress_reads_as_perf_test_prints_it() {
        assert_eq!(
            progress("-c 10"),
            "time 2.000 s, sent: 4000 msg/s, confirmed: 3000 msg/s, nacked: 1.0 msg/s, \
             received: 2000 msg/s, min/median/75th/95th/99th/max consumer latency: \
             1000/1000/1000/1000/1000/1000 µs, confirm latency: 100/100/100/100/100/100 µs"
        );
        assert_eq!(
            progress("-y 0 -f mandatory"),
            "time 2.000 s, sent: 4000 msg/s, returned: 2.0 msg/s"
        );
        assert_eq!(
            progress("-x 0 --latency-only"),
            "time 2.000 s, min/median/75th/95th/99th/max consumer latency: \
             1000/1000/1000/1000/1000/1000 µs"
        );
    }

    #[test]
    fn report_counts_per_second_and_per_message() {
        let options = options("-r 1000");
        let output = Output {
            options: &options,
            id: "test",
        };
        let used = Used {
            user_seconds: 0.3,
            system_seconds: 0.1,
        };
        let measured = Measured {
            elapsed: 2_000_000_000,
            process_time: 60_000_000,
            broker: Some((used, 5 << 20, 6 << 20)),
        };
        let report = Report::new(&output, &tally(), &measured);
        let json = serde_json::to_value(&report).expect("has only text keys");
        for (pointer, want) in [
            ("/sent_per_second", 2000.0),
            ("/received_per_second", 1000.0),
            ("/generator/cpu_us_per_message", 10.0),
            ("/broker/cpu_us_per_message", 200.0),
            ("/broker/user_seconds", 0.3),
            ("/consumer_latency_us/count", 1.0),
        ] {
            let got = json.pointer(pointer).and_then(serde_json::Value::as_f64);
            let close = got.is_some_and(|got| (got - want).abs() < 1e-9);
            assert!(close, "{pointer}: {got:?} is not {want}");
        }
        assert_eq!(json["latency_from"], "schedule");
        assert_eq!(json["generator_lag_us"], serde_json::Value::Null);
        let texts = output.summary_texts(&report);
        assert_eq!(texts[0], "sending rate avg: 2000 msg/s");
        assert_eq!(texts[1], "receiving rate avg: 1000 msg/s");
        assert!(texts.contains(&"broker memory: 5.0 MiB, at most 6.0 MiB".to_owned()));
    }

    #[test]
    fn rates_are_printed_as_perf_test_does() {
        let table = [(0.0, "0"), (0.5, "0.50"), (9.96, "10.0"), (12.9, "12")];
        for (number, text) in table {
            assert_eq!(rate(number), text);
        }
    }
}
