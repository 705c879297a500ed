use super::*;

#[test]
fn arguments_keep_their_value_through_json() {
    let json = json!({
        "x-max-length": 5, "ratio": 0.5, "on": true, "name": "é", "list": [1, "a", {"b": []}],
        "deep": {"er": {"est": -1}},
    });
    let table = arguments_from_json(&json).unwrap();
    assert_eq!(table.get("x-max-length"), Some(&Value::I64(5)));
    assert_eq!(table.get("ratio"), Some(&Value::F64(0.5)));
    assert_eq!(table_to_json(&table), json);
}

#[test]
fn null_is_an_empty_text_in_arguments_and_nothing_in_parameters() {
    let json = json!({"a": null});
    assert_eq!(
        arguments_from_json(&json).unwrap().get("a"),
        Some(&Value::LongStr(vec![]))
    );
    assert_eq!(
        table_from_json(json.as_object().unwrap()).unwrap().get("a"),
        Some(&Value::Void)
    );
    assert_eq!(value_to_json(&Value::Void), Json::Null);
}

#[test]
fn bytes_that_are_no_text_are_marked() {
    assert_eq!(
        value_to_json(&Value::LongStr(vec![0xff])),
        "Not UTF-8, base64 is: /w=="
    );
}

#[test]
fn decimals_are_numbers() {
    assert_eq!(
        value_to_json(&Value::Decimal {
            scale: 2,
            value: 325
        }),
        json!(3.25)
    );
}

#[test]
fn nesting_and_keys_are_limited() {
    let mut json = json!(1);
    for _ in 0..DEPTH_MAX {
        json = json!([json]);
    }
    assert!(arguments_from_json(&json!({"a": json})).is_err());
    let inner = json[0].clone();
    assert!(arguments_from_json(&json!({"a": inner})).is_ok());
    assert!(arguments_from_json(&json!({"k".repeat(256): 1})).is_err());
}

#[test]
fn properties_keep_their_value_through_json() {
    let json = json!({
        "app_id": "a", "content_type": "text/plain", "delivery_mode": 2, "expiration": "1000",
        "headers": {"h": "v"}, "priority": 9, "timestamp": 1_795_216_974, "type": "t",
    });
    let properties = properties_from_json(&json).unwrap();
    assert_eq!(properties.message_type.as_deref(), Some(&b"t"[..]));
    assert_eq!(properties_to_json(&properties), json);
    assert_eq!(
        properties_to_json(&properties_from_json(&json!([])).unwrap()),
        json!({})
    );
}

#[test]
fn properties_of_the_wrong_type_are_named() {
    for (json, reason) in [
        (json!({"priority": "high"}), json!(["not_int", "priority"])),
        (
            json!({"timestamp": "recently"}),
            json!(["not_int", "timestamp"]),
        ),
        (
            json!({"expiration": 1234}),
            json!(["not_string", "expiration"]),
        ),
        (
            json!({"delivery_mode": 256}),
            json!("property is too large: delivery_mode"),
        ),
    ] {
        assert_eq!(properties_from_json(&json).unwrap_err().reason, reason);
    }
}
