//! Whether a declaration asks for what is there already. The texts are RabbitMQ's; clients and
//! operators know them.

use amqp::{Table, Value};

use super::command::Refusal;
use super::term::Term;

/// Compares one property.
pub(super) fn check<T: PartialEq + ToString>(
    what: &str,
    property: &str,
    current: &T,
    received: &T,
) -> Result<(), Refusal> {
    if current == received {
        return Ok(());
    }
    let (current, received) = (current.to_string(), received.to_string());
    Err(refusal(
        what,
        property,
        &format!("'{received}'"),
        &format!("'{current}'"),
    ))
}

/// Compares the arguments with these names. The rest may differ.
pub(super) fn check_arguments(
    what: &str,
    names: &[&str],
    current: &Table,
    received: &Table,
) -> Result<(), Refusal> {
    for name in names {
        let (current, received) = (current.get(name), received.get(name));
        match (current, received) {
            (None, None) => {}
            (Some(c), Some(r)) if same(c, r) => {}
            (Some(c), Some(r)) => {
                let quoted = |value| format!("'{}'", bare(value));
                return Err(refusal(what, name, &quoted(r), &quoted(c)));
            }
            // Queues of the classic type need not say so.
            (None, Some(one)) | (Some(one), None)
                if *name == "x-queue-type" && one.as_str() == Some("classic") => {}
            (c, r) => return Err(refusal(what, name, &with_type(r), &with_type(c))),
        }
    }
    Ok(())
}

fn refusal(what: &str, name: &str, received: &str, current: &str) -> Refusal {
    Refusal::Inequivalent(format!(
        "inequivalent arg '{name}' for {what}: received {received} but current is {current}"
    ))
}

/// Integers are compared whatever their width; everything else with its type.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn with_type(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!(
            "the value '{}' of type '{}'",
            bare(value),
            value.type_name()
        ),
    }
}

fn bare(value: &Value) -> String {
    match value {
        Value::LongStr(text) => String::from_utf8_lossy(text).into_owned(),
        other => Term(other).to_string(),
    }
}
