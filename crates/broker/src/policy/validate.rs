//! Whether a policy may be set. The texts are RabbitMQ's, since scripts read them.
//!
//! A definition is looked at setting by setting: first those with a rule of their own, then the `ha-`
//! family together, and when all of these are good, whether anything is left that nobody knows.

use amqp::{ShortStr, Table, Value};

use crate::metadata::{Bytes, Locator, Pairs, PolicyKind, PolicySpec, Term};
use crate::permission::Pattern;

/// What a rule says: nothing, or the text of the refusal.
type Check = Result<(), String>;

const APPLY_TO: [&str; 6] = [
    "all",
    "queues",
    "classic_queues",
    "quorum_queues",
    "streams",
    "exchanges",
];

/// The settings that an operator policy may have.
const OPERATOR: [&str; 13] = [
    "expires",
    "message-ttl",
    "max-length",
    "max-length-bytes",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "delivery-limit",
    "queue-version",
    "overflow",
    "target-group-size",
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
];

/// Checks a policy; the error is the whole text for the caller.
pub(crate) fn validate(kind: PolicyKind, spec: &PolicySpec) -> Result<(), String> {
    let mut errors = Vec::new();
    errors.extend(definition(kind, &spec.definition).err());
    if !APPLY_TO.contains(&&*spec.apply_to) {
        errors.push(format!(
            "apply-to '{}' unrecognised; should be one of: 'queues', 'classic_queues', \
             'quorum_queues', 'streams', 'exchanges', or 'all'",
            spec.apply_to
        ));
    }
    if let Err(error) = Pattern::compile(&spec.pattern) {
        errors.push(format!(
            "pattern should be regular expression but is invalid: {error}"
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(format!("Validation failed\n\n{}\n", errors.join("\n")))
}

fn definition(kind: PolicyKind, definition: &Table) -> Check {
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    no_duplicates(definition)?;
    let mut unknown = Vec::new();
    let mut ha = Table::new();
    for (key, value) in definition.iter() {
        let name = key.as_str().unwrap_or_default();
        let entry = (key.clone(), value.clone());
        if kind == PolicyKind::Operator && !OPERATOR.contains(&name) {
            unknown.push(entry);
        } else if HA.contains(&name) {
            ha.0.push(entry);
        } else {
            match setting(name, value) {
                Some(check) => check?,
                None => unknown.push(entry),
            }
        }
    }
    mirroring(&ha)?;
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} are not recognised policy settings",
        Pairs(&unknown)
    ))
}

fn no_duplicates(definition: &Table) -> Check {
    let mut keys: Vec<&ShortStr> = definition.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    let twice = keys.windows(2).filter(|pair| pair[0] == pair[1]);
    let twice: Vec<String> = twice
        .map(|pair| Bytes(pair[0].as_bytes()).to_string())
        .collect();
    if twice.is_empty() {
        return Ok(());
    }
    Err(format!("[{}] duplicate keys not allowed", twice.join(",")))
}

/// Checks one setting outside the `ha-` family; `None` if nobody knows it.
fn setting(key: &str, value: &Value) -> Option<Check> {
    let refuse = |what: &str| Err(format!("{} is not a valid {what}", Term(value)));
    let number = |least: i64, what: &str| match value.as_i64() {
        Some(number) if number >= least => Ok(()),
        _ => refuse(what),
    };
    let text = |what: &str| {
        if value.as_bytes().is_some() {
            Ok(())
        } else {
            refuse(what)
        }
    };
    let one_of = |allowed: &[&str], what: &str| match value.as_str() {
        Some(text) if allowed.contains(&text) => Ok(()),
        _ => refuse(what),
    };
    Some(match key {
        "alternate-exchange" => text("alternate exchange name"),
        "dead-letter-exchange" => text("dead letter exchange name"),
        "dead-letter-routing-key" => text("dead letter routing key"),
        "dead-letter-strategy" => {
            one_of(&["at-most-once", "at-least-once"], "dead letter strategy")
        }
        "message-ttl" => number(0, "message TTL"),
        "expires" => number(1, "queue expiry"),
        "max-length" => number(0, "maximum length"),
        "max-length-bytes" => number(0, "maximum length in bytes"),
        "max-in-memory-length" | "max-in-memory-bytes" => number(0, "maximum memory in bytes"),
        "queue-mode" => one_of(&["default", "lazy"], "queue-mode value"),
        "queue-version" => match value.as_i64() {
            Some(1 | 2) => Ok(()),
            _ => refuse("queue version"),
        },
        "overflow" => one_of(
            &["drop-head", "reject-publish", "reject-publish-dlx"],
            "overflow value",
        ),
        "delivery-limit" => number(0, "delivery limit"),
        "consumer-timeout" => number(0, "consumer timeout"),
        "max-age" => match value.as_str() {
            Some(age) if is_age(age) => Ok(()),
            _ => refuse("max age"),
        },
        "stream-max-segment-size-bytes" => number(0, "segment size"),
        "stream-filter-size-bytes" => match value.as_i64() {
            Some(16..=255) => Ok(()),
            _ => refuse("filter size"),
        },
        "queue-leader-locator" => one_of(&Locator::NAMES, "queue leader locator value"),
        "queue-master-locator" => match value.as_str().and_then(Locator::of) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{} invalid queue-master-locator value",
                Term(value)
            )),
        },
        "initial-cluster-size" => number(0, "cluster size"),
        "target-group-size" => number(0, "target group size"),
        "federation-upstream" | "federation-upstream-set" | "federation-upstream-pattern" => {
            text("federation upstream")
        }
        "shards-per-node" => number(1, "number of shards per node"),
        "routing-key" => text("routing key"),
        _ => return None,
    })
}

/// A number and a unit: `7D`.
fn is_age(age: &str) -> bool {
    let digits = age.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = age.split_at(digits);
    let positive = number.bytes().any(|digit| digit != b'0');
    positive && ["Y", "M", "D", "h", "m", "s"].contains(&unit)
}

/// The mirroring family. The last five are ours.
const HA: [&str; 11] = [
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-sync-batch-size",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
    "ha-min-in-sync",
    "ha-sync-strategy",
    "ha-ack-mode",
    "ha-promotion-order",
    "ha-replace-after",
];

fn mirroring(definition: &Table) -> Check {
    if definition.is_empty() {
        return Ok(());
    }
    let mode = definition.get("ha-mode").ok_or(
        "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown",
    )?;
    parameters(mode, definition.get("ha-params"))?;
    let positive = |key: &str, least: i64| match definition.get(key) {
        Some(value) if value.as_i64().is_none_or(|number| number < least) => Err(format!(
            "{key} takes an integer greater than {}, {} given",
            least - 1,
            Term(value)
        )),
        _ => Ok(()),
    };
    let one_of = |key: &str, allowed: &[&str]| match definition.get(key) {
        Some(value) if !value.as_str().is_some_and(|text| allowed.contains(&text)) => {
            let allowed: Vec<String> = allowed.iter().map(|word| format!("\"{word}\"")).collect();
            Err(format!(
                "{key} must be {}, got {}",
                allowed.join(" or "),
                Term(value)
            ))
        }
        _ => Ok(()),
    };
    one_of("ha-sync-mode", &["manual", "automatic"])?;
    positive("ha-sync-batch-size", 1)?;
    one_of("ha-promote-on-shutdown", &["always", "when-synced"])?;
    one_of("ha-promote-on-failure", &["always", "when-synced"])?;
    positive("ha-min-in-sync", 1)?;
    one_of("ha-sync-strategy", &["full", "incremental", "event"])?;
    one_of("ha-ack-mode", &["sync", "async"])?;
    one_of("ha-promotion-order", &["oldest", "longest-log"])?;
    positive("ha-replace-after", 0)
}

fn parameters(mode: &Value, parameters: Option<&Value>) -> Check {
    let given = || parameters.map_or("none".to_owned(), |value| Term(value).to_string());
    match mode.as_str() {
        Some("all") if parameters.is_none() => Ok(()),
        Some("all") => Err("ha-mode=\"all\" does not take parameters".to_owned()),
        Some("exactly") => match parameters.and_then(Value::as_i64) {
            Some(1..) => Ok(()),
            _ => Err(format!(
                "ha-mode=\"exactly\" takes an integer, {} given",
                given()
            )),
        },
        Some("nodes") => match parameters.and_then(Value::as_array) {
            Some([]) => Err("ha-mode=\"nodes\" list must be non-empty".to_owned()),
            Some(names) => {
                let others: Vec<Value> = names.iter().filter(|name| name.as_str().is_none()).cloned().collect();
                if others.is_empty() {
                    return Ok(());
                }
                let others = Value::from(others);
                Err(format!("ha-mode=\"nodes\" takes a list of strings, {} was not a string", Term(&others)))
            }
            None => Err(format!("ha-mode=\"nodes\" takes a list, {} given", given())),
        },
        _ => Err(format!("{} is not a valid ha-mode value", Term(mode))),
    }
}
