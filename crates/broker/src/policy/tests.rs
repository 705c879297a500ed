//! Validation and merging, rule by rule.

use super::*;
use crate::metadata::PolicyKind;
use crate::metadata::tests::{policy, table};

fn refused(kind: PolicyKind, definition: Table) -> String {
    validate(kind, &policy("p", ".*", definition)).unwrap_err()
}

fn names(values: &[&str]) -> Value {
    Value::from(
        values
            .iter()
            .map(|name| Value::from(*name))
            .collect::<Vec<_>>(),
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn bad_settings_are_refused_with_rabbitmqs_texts() {
    let bad: Vec<(&str, Value, &str)> = vec![
        (
            "message-ttl",
            "x".into(),
            "<<\"x\">> is not a valid message TTL",
        ),
        (
            "message-ttl",
            (-1_i64).into(),
            "-1 is not a valid message TTL",
        ),
        (
            "message-ttl",
            1.5_f64.into(),
            "1.5 is not a valid message TTL",
        ),
        ("expires", 0_i64.into(), "0 is not a valid queue expiry"),
        (
            "max-length",
            (-1_i64).into(),
            "-1 is not a valid maximum length",
        ),
        (
            "max-length-bytes",
            true.into(),
            "true is not a valid maximum length in bytes",
        ),
        (
            "max-in-memory-length",
            "a".into(),
            "<<\"a\">> is not a valid maximum memory in bytes",
        ),
        (
            "overflow",
            "up".into(),
            "<<\"up\">> is not a valid overflow value",
        ),
        (
            "queue-mode",
            1_i64.into(),
            "1 is not a valid queue-mode value",
        ),
        (
            "queue-version",
            3_i64.into(),
            "3 is not a valid queue version",
        ),
        (
            "dead-letter-exchange",
            1_i64.into(),
            "1 is not a valid dead letter exchange name",
        ),
        (
            "dead-letter-routing-key",
            Value::Void,
            "null is not a valid dead letter routing key",
        ),
        (
            "dead-letter-strategy",
            "x".into(),
            "<<\"x\">> is not a valid dead letter strategy",
        ),
        (
            "alternate-exchange",
            1_i64.into(),
            "1 is not a valid alternate exchange name",
        ),
        (
            "delivery-limit",
            (-1_i64).into(),
            "-1 is not a valid delivery limit",
        ),
        (
            "consumer-timeout",
            "1h".into(),
            "<<\"1h\">> is not a valid consumer timeout",
        ),
        ("max-age", "1w".into(), "<<\"1w\">> is not a valid max age"),
        ("max-age", "0D".into(), "<<\"0D\">> is not a valid max age"),
        (
            "queue-leader-locator",
            "x".into(),
            "<<\"x\">> is not a valid queue leader locator value",
        ),
        (
            "queue-master-locator",
            "x".into(),
            "<<\"x\">> invalid queue-master-locator value",
        ),
        (
            "initial-cluster-size",
            "x".into(),
            "<<\"x\">> is not a valid cluster size",
        ),
        (
            "nonsense",
            1_i64.into(),
            "[{<<\"nonsense\">>,1}] are not recognised policy settings",
        ),
        (
            "ha-nonsense",
            1_i64.into(),
            "[{<<\"ha-nonsense\">>,1}] are not recognised policy settings",
        ),
        (
            "ha-mode",
            "some".into(),
            "<<\"some\">> is not a valid ha-mode value",
        ),
        (
            "ha-mode",
            "exactly".into(),
            "ha-mode=\"exactly\" takes an integer, none given",
        ),
        (
            "ha-mode",
            "nodes".into(),
            "ha-mode=\"nodes\" takes a list, none given",
        ),
        (
            "ha-params",
            1_i64.into(),
            "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown",
        ),
    ];
    for (key, value, text) in bad {
        let expected = format!("Validation failed\n\n{text}\n");
        assert_eq!(refused(PolicyKind::User, table(&[(key, value)])), expected);
    }
    assert_eq!(
        refused(PolicyKind::User, Table::new()),
        "Validation failed\n\nno policy provided\n"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn mirroring_parameters_fit_their_mode() {
    let mirrored = |mode: &str, key: &str, value: Value| {
        let definition = table(&[("ha-mode", mode.into()), (key, value)]);
        validate(PolicyKind::User, &policy("p", ".*", definition))
    };
    let bad: Vec<(&str, &str, Value, &str)> = vec![
        (
            "all",
            "ha-params",
            2_i64.into(),
            "ha-mode=\"all\" does not take parameters",
        ),
        (
            "exactly",
            "ha-params",
            0_i64.into(),
            "ha-mode=\"exactly\" takes an integer, 0 given",
        ),
        (
            "nodes",
            "ha-params",
            names(&[]),
            "ha-mode=\"nodes\" list must be non-empty",
        ),
        (
            "nodes",
            "ha-params",
            Value::from(vec![Value::from(1_i64)]),
            "ha-mode=\"nodes\" takes a list of strings, [1] was not a string",
        ),
        (
            "all",
            "ha-sync-mode",
            "x".into(),
            "ha-sync-mode must be \"manual\" or \"automatic\", got <<\"x\">>",
        ),
        (
            "all",
            "ha-sync-batch-size",
            0_i64.into(),
            "ha-sync-batch-size takes an integer greater than 0, 0 given",
        ),
        (
            "all",
            "ha-promote-on-shutdown",
            "never".into(),
            "ha-promote-on-shutdown must be \"always\" or \"when-synced\", got <<\"never\">>",
        ),
        (
            "all",
            "ha-promote-on-failure",
            1_i64.into(),
            "ha-promote-on-failure must be \"always\" or \"when-synced\", got 1",
        ),
        (
            "all",
            "ha-min-in-sync",
            0_i64.into(),
            "ha-min-in-sync takes an integer greater than 0, 0 given",
        ),
        (
            "all",
            "ha-ack-mode",
            "maybe".into(),
            "ha-ack-mode must be \"sync\" or \"async\", got <<\"maybe\">>",
        ),
    ];
    for (mode, key, value, text) in bad {
        let expected = format!("Validation failed\n\n{text}\n");
        assert_eq!(mirrored(mode, key, value).unwrap_err(), expected);
    }
    let good: Vec<(&str, &str, Value)> = vec![
        ("all", "ha-sync-mode", "automatic".into()),
        ("exactly", "ha-params", 2_i64.into()),
        ("nodes", "ha-params", names(&["a@h", "b@h"])),
        ("all", "ha-sync-batch-size", 1_i64.into()),
        ("all", "ha-promote-on-failure", "when-synced".into()),
        ("all", "ha-sync-strategy", "incremental".into()),
        ("all", "ha-promotion-order", "longest-log".into()),
        ("all", "ha-replace-after", 0_i64.into()),
    ];
    for (mode, key, value) in good {
        assert_eq!(mirrored(mode, key, value), Ok(()), "{key}");
    }
}

#[test]
fn operators_have_their_own_settings() {
    for key in [
        "dead-letter-exchange",
        "queue-mode",
        "ha-promote-on-failure",
    ] {
        let text = refused(PolicyKind::Operator, table(&[(key, "always".into())]));
        let expected = format!("[{{<<\"{key}\">>,<<\"always\">>}}] are not recognised");
        assert!(text.contains(&expected), "{text}");
    }
    let good = table(&[
        ("expires", 1_i64.into()),
        ("message-ttl", 0_i64.into()),
        ("max-length", 0_i64.into()),
        ("max-length-bytes", 0_i64.into()),
        ("delivery-limit", 0_i64.into()),
        ("overflow", "reject-publish-dlx".into()),
        ("queue-version", 2_i64.into()),
        ("ha-mode", "all".into()),
        ("ha-sync-mode", "manual".into()),
    ]);
    assert_eq!(
        validate(PolicyKind::Operator, &policy("p", ".*", good)),
        Ok(())
    );
}

#[test]
fn the_rest_of_a_policy_is_checked_too() {
    let definition = || table(&[("max-length", 1_i64.into())]);
    let text = validate(PolicyKind::User, &policy("p", "*", definition())).unwrap_err();
    let expected = "Validation failed\n\npattern should be regular expression but is invalid: ";
    assert!(text.starts_with(expected), "{text}");
    let spec = PolicySpec {
        apply_to: "topics".into(),
        ..policy("p", ".*", definition())
    };
    let text = validate(PolicyKind::User, &spec).unwrap_err();
    assert!(text.contains("apply-to 'topics' unrecognised"), "{text}");
    let mut twice = definition();
    twice.0.extend(definition().0);
    assert_eq!(
        refused(PolicyKind::User, twice),
        "Validation failed\n\n[<<\"max-length\">>] duplicate keys not allowed\n"
    );
    for age in ["1Y", "12M", "7D", "1h", "5m", "30s"] {
        let good = policy("p", ".*", table(&[("max-age", age.into())]));
        assert_eq!(validate(PolicyKind::User, &good), Ok(()), "{age}");
    }
}

#[test]
fn operator_and_user_settings_merge_by_their_rules() {
    let both = |key: &str, user: Value, operator: Value| {
        merge(&table(&[(key, user)]), &table(&[(key, operator)]))
            .get(key)
            .cloned()
            .unwrap()
    };
    for key in [
        "message-ttl",
        "expires",
        "max-length",
        "max-length-bytes",
        "delivery-limit",
    ] {
        assert_eq!(
            both(key, 1_i64.into(), 2_i64.into()),
            Value::from(1_i64),
            "{key}"
        );
        assert_eq!(
            both(key, 2_i64.into(), 1_i64.into()),
            Value::from(1_i64),
            "{key}"
        );
    }
    let text: [(&str, &str, &str, &str); 7] = [
        ("overflow", "reject-publish", "drop-head", "drop-head"),
        ("ha-sync-mode", "automatic", "manual", "manual"),
        ("ha-mode", "all", "exactly", "all"),
        ("ha-mode", "exactly", "all", "all"),
        ("ha-mode", "exactly", "nodes", "exactly"),
        ("ha-mode", "nodes", "exactly", "exactly"),
        ("ha-mode", "nodes", "nodes", "nodes"),
    ];
    for (key, user, operator, merged) in text {
        assert_eq!(
            both(key, user.into(), operator.into()),
            Value::from(merged),
            "{key}"
        );
    }
    let params = |user: Value, operator: Value| both("ha-params", user, operator);
    assert_eq!(params(2_i64.into(), 3_i64.into()), Value::from(3_i64));
    assert_eq!(params(3_i64.into(), 2_i64.into()), Value::from(3_i64));
    assert_eq!(params(names(&["a", "b"]), 1_i64.into()), Value::from(1_i64));
    assert_eq!(params(1_i64.into(), names(&["a", "b"])), Value::from(1_i64));
    assert_eq!(params(names(&["a"]), names(&["b"])), names(&["b"]));
    assert_eq!(
        params(names(&["a", "c"]), names(&["b"])),
        names(&["a", "c"])
    );
}
