use super::*;

const SECOND: u64 = 1000;

fn sampled(values: &[u64]) -> Sampler {
    let mut sampler = Sampler::default();
    for (step, value) in (1..).zip(values) {
        let numbers = vec![7, *value];
        let observation = Observation {
            key: Key::Queue(QueueId(1)),
            numbers,
        };
        sampler.sample(step * 5 * SECOND, vec![observation]);
    }
    sampler
}

fn shown(sampler: &Sampler, range: Option<Range>) -> Json {
    let mut object = Object::new();
    let series = sampler
        .series(&Key::Queue(QueueId(1)))
        .map(|series| (series, 1));
    put(&mut object, "ack", json!(0), series, range);
    object["ack_details"].clone()
}

#[test]
fn a_rate_is_the_change_over_the_last_interval() {
    assert_eq!(shown(&sampled(&[]), None), json!({"rate": 0.0}));
    assert_eq!(shown(&sampled(&[100]), None), json!({"rate": 0.0}));
    assert_eq!(
        shown(&sampled(&[100, 200, 260]), None),
        json!({"rate": 12.0})
    );
    assert_eq!(shown(&sampled(&[260, 200]), None), json!({"rate": -12.0}));
}

#[test]
fn history_is_aligned_newest_first_and_zero_before_the_beginning() {
    let query = Query::parse("msg_rates_age=20&msg_rates_incr=5");
    let ranges = Ranges::of(&query, 17 * SECOND).unwrap();
    assert_eq!(ranges.lengths, None);
    // Samples at 5, 10 and 15 seconds; asked for 0, 5, 10 and 15.
    assert_eq!(
        shown(&sampled(&[10, 30, 80]), ranges.messages),
        json!({
            "avg": 30.0,
            "avg_rate": 80.0 / 15.0,
            "rate": 10.0,
            "samples": [
                {"sample": 80, "timestamp": 15000},
                {"sample": 30, "timestamp": 10000},
                {"sample": 10, "timestamp": 5000},
                {"sample": 0, "timestamp": 0},
            ],
        })
    );
}

#[test]
fn an_old_moment_is_answered_from_a_coarser_tier() {
    let values: Vec<u64> = (1..=400).collect();
    let sampler = sampled(&values);
    let range = Range {
        first: 600 * SECOND,
        last: 2000 * SECOND,
        step: 200 * SECOND,
    };
    let details = shown(&sampler, Some(range));
    let samples = details["samples"].as_array().unwrap();
    assert_eq!(samples[0]["sample"], 400);
    // Beyond ten minutes one sample a minute is kept; the value is at most a minute old.
    let oldest = samples[7]["sample"].as_u64().unwrap();
    assert!((108..=120).contains(&oldest), "{oldest}");
}

#[test]
fn an_object_that_is_gone_is_forgotten() {
    let mut sampler = sampled(&[1, 2]);
    sampler.sample(
        60 * SECOND,
        vec![Observation {
            key: Key::Cluster,
            numbers: vec![1],
        }],
    );
    assert!(sampler.series(&Key::Queue(QueueId(1))).is_none());
    assert!(sampler.series(&Key::Cluster).is_some());
}

#[test]
fn memory_is_bounded_whatever_the_number_of_objects() {
    let mut series = Series::new(1, true);
    for step in 0..100_000 {
        series.push(step * SAMPLE_INTERVAL_MILLIS, &[step], 1000);
    }
    let range = Range {
        first: 0,
        last: 500_000 * SECOND,
        step: 1000 * SECOND,
    };
    assert!(
        series
            .history(0, range)
            .iter()
            .filter(|(_, value)| *value > 0)
            .count()
            < 250
    );

    let mut series = Series::new(1, false);
    for step in 1..10 {
        series.push(step * 10 * SAMPLE_INTERVAL_MILLIS, &[step], 2);
    }
    assert_eq!(series.rate(0), 0.02);
    let range = Range {
        first: 0,
        last: 500 * SECOND,
        step: 50 * SECOND,
    };
    let kept: Vec<u64> = series
        .history(0, range)
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    // Two samples in each of the two tiers.
    assert_eq!(kept, [9, 9, 8, 7, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn ranges_are_checked() {
    for query in [
        "lengths_age=0&lengths_incr=5",
        "lengths_age=60&lengths_incr=-1",
    ] {
        assert!(Ranges::of(&Query::parse(query), 0).is_err(), "{query}");
    }
    assert!(Ranges::of(&Query::parse("lengths_age=2505&lengths_incr=5"), 0).is_err());
    assert!(Ranges::of(&Query::parse("lengths_age=2500&lengths_incr=5"), 0).is_ok());
    assert_eq!(
        Ranges::of(&Query::parse("lengths_age=60"), 0).unwrap(),
        Ranges::default()
    );
}
