//! The arguments of queues: which there are, and what each may be. The texts are RabbitMQ's.
//!
//! Arguments that nobody knows are kept and ignored. Arguments that only other queue types obey are
//! refused, as RabbitMQ does, with one exception: `x-delivery-limit`, which our classic queues obey.

use amqp::{Table, Value};

use super::command::Refusal;
use super::placement::Locator;
use super::queue::describe;

/// What a validator says: nothing, or the reason as it stands in the text.
type Check = Result<(), String>;

/// Looks at one argument; the others are at hand for those that depend on each other.
type Validator = fn(&Value, &Table) -> Check;

/// Arguments of classic queues, in the order in which they are checked.
const CLASSIC: [(&str, Validator); 17] = [
    ("x-expires", expires),
    ("x-message-ttl", non_negative),
    ("x-dead-letter-exchange", text),
    ("x-dead-letter-routing-key", dead_letter_routing_key),
    ("x-max-length", non_negative),
    ("x-max-length-bytes", non_negative),
    ("x-max-priority", max_priority),
    ("x-overflow", overflow),
    ("x-queue-mode", queue_mode),
    ("x-queue-version", queue_version),
    ("x-single-active-consumer", boolean),
    ("x-queue-type", queue_type),
    ("x-queue-master-locator", anything),
    ("x-queue-leader-locator", leader_locator),
    ("x-delivery-limit", non_negative),
    ("x-consumer-timeout", non_negative),
    // Sent by very old clients; the argument has had no effect for long.
    ("x-ha-policy", anything),
];

/// Arguments that belong to other queue types.
const OTHER_TYPES: [&str; 9] = [
    "x-dead-letter-strategy",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-quorum-target-group-size",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

/// The arguments that a second declaration must repeat.
pub(super) const COMPARED: [&str; 15] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
    "x-queue-leader-locator",
    "x-delivery-limit",
];

/// Checks the arguments of a new queue. `what` names it as texts do.
pub(super) fn check(what: &str, name: &str, arguments: &Table) -> Result<(), Refusal> {
    if let Some(dlx) = arguments
        .get("x-dead-letter-exchange")
        .filter(|v| v.as_bytes().is_none())
    {
        let found = dlx.type_name();
        return Err(Refusal::InvalidArgument(format!(
            "invalid type '{found}' for arg 'x-dead-letter-exchange' in {what}"
        )));
    }
    let invalid = |argument: &str, reason: String| {
        Refusal::InvalidArgument(format!("invalid arg '{argument}' for {what}: {reason}"))
    };
    if let Some(value) = arguments.get("x-queue-type") {
        queue_type(value, arguments).map_err(|reason| invalid("x-queue-type", reason))?;
        supported(value.as_str().unwrap_or_default(), name)?;
    }
    for (argument, validate) in CLASSIC {
        if let Some(value) = arguments.get(argument) {
            validate(value, arguments).map_err(|reason| invalid(argument, reason))?;
        }
    }
    for (argument, _) in arguments.iter() {
        if let Some(other) = OTHER_TYPES.iter().find(|other| *argument == **other) {
            return Err(Refusal::InvalidArgument(format!(
                "invalid arg '{other}' for {what} of queue type rabbit_classic_queue"
            )));
        }
    }
    Ok(())
}

/// Refuses the queue types that are known and not served.
pub(super) fn supported(queue_type: &str, name: &str) -> Result<(), Refusal> {
    if queue_type == "classic" {
        return Ok(());
    }
    Err(Refusal::NotImplemented(format!(
        "queue type '{queue_type}' is not supported: declare queue '{name}' as 'classic' and \
         replicate it with a policy (ha-mode)"
    )))
}

fn anything(_: &Value, _: &Table) -> Check {
    Ok(())
}

fn integer(value: &Value) -> Result<i64, String> {
    let found = value.type_name();
    value
        .as_i64()
        .ok_or_else(|| format!("\"expected integer, got {found}\""))
}

fn text(value: &Value, _: &Table) -> Check {
    let found = value.type_name();
    value
        .as_bytes()
        .map(drop)
        .ok_or_else(|| format!("{{unacceptable_type,{found}}}"))
}

fn boolean(value: &Value, _: &Table) -> Check {
    let found = value.type_name();
    value
        .as_bool()
        .map(drop)
        .ok_or_else(|| format!("{{unacceptable_type,{found}}}"))
}

fn non_negative(value: &Value, _: &Table) -> Check {
    match integer(value)? {
        negative @ ..0 => Err(format!("{{value_negative,{negative}}}")),
        _ => Ok(()),
    }
}

/// Checks that times are not over ten years. That is asked before a declaration is proposed, and not where it is applied:
/// logs have longer ones from before there was this limit.
///
/// # Errors
/// The refusal of the declaration.
pub fn check_durations(vhost: &str, name: &str, arguments: &Table) -> Result<(), Refusal> {
    for argument in ["x-expires", "x-message-ttl"] {
        if let Some(long @ 315_360_000_001..) = arguments.get(argument).and_then(Value::as_i64) {
            let what = describe(vhost, name);
            return Err(Refusal::InvalidArgument(format!("invalid arg '{argument}' for {what}: {{value_too_large,{long}}}")));
        }
    }
    Ok(())
}

fn expires(value: &Value, arguments: &Table) -> Check {
    match integer(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        _ => non_negative(value, arguments),
    }
}

fn max_priority(value: &Value, arguments: &Table) -> Check {
    non_negative(value, arguments)?;
    match integer(value)? {
        0..=255 => Ok(()),
        large => Err(format!("{{max_value_exceeded,{large}}}")),
    }
}

fn dead_letter_routing_key(value: &Value, arguments: &Table) -> Check {
    text(value, arguments)?;
    if arguments.contains("x-dead-letter-exchange") {
        Ok(())
    } else {
        Err("routing_key_but_no_dlx_defined".to_owned())
    }
}

fn overflow(value: &Value, arguments: &Table) -> Check {
    text(value, arguments)?;
    match value.as_str() {
        Some("drop-head" | "reject-publish" | "reject-publish-dlx") => Ok(()),
        _ => Err("invalid_overflow".to_owned()),
    }
}

fn queue_mode(value: &Value, arguments: &Table) -> Check {
    text(value, arguments)?;
    match value.as_str() {
        Some("default" | "lazy") => Ok(()),
        _ => Err(format!("\"unsupported queue mode '{}'\"", lossy(value))),
    }
}

fn queue_version(value: &Value, arguments: &Table) -> Check {
    non_negative(value, arguments)?;
    match integer(value)? {
        1 | 2 => Ok(()),
        other => Err(format!("\"unsupported queue version '{other}'\"")),
    }
}

fn queue_type(value: &Value, arguments: &Table) -> Check {
    text(value, arguments)?;
    match value.as_str() {
        Some("classic" | "quorum" | "stream") => Ok(()),
        _ => Err(format!("\"unsupported queue type '{}'\"", lossy(value))),
    }
}

fn leader_locator(value: &Value, arguments: &Table) -> Check {
    text(value, arguments)?;
    match value.as_str() {
        Some(name) if Locator::of(name).is_some() => Ok(()),
        _ => Err("invalid_queue_locator_arg".to_owned()),
    }
}

fn lossy(value: &Value) -> String {
    String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs have longer ones.
    #[test]
    fn times_over_ten_years_are_refused_when_they_are_asked_for_and_not_where_they_are_applied() {
        for argument in ["x-expires", "x-message-ttl"] {
            let with = |millis: i64| Table::new().with(argument, Value::I64(millis));
            assert!(check_durations("/", "q", &with(315_360_000_000)).is_ok());
            let refused = check_durations("/", "q", &with(315_360_000_001)).unwrap_err();
            let text = format!("invalid arg '{argument}' for queue 'q' in vhost '/': {{value_too_large,315360000001}}");
            assert_eq!(refused, Refusal::InvalidArgument(text));
            assert!(check("queue 'q' in vhost '/'", "q", &with(315_360_000_001)).is_ok());
        }
    }
}
