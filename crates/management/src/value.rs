//! AMQP field values and JSON, both ways.
//!
//! Reading follows RabbitMQ: whole numbers become `long`, others `double`, `null` in arguments an empty
//! long string. Values of policies and parameters keep their nulls as void. Writing loses the type and
//! nothing else; bytes that are no text are shown as base64 behind a marker, as RabbitMQ does.

use amqp::field::DEPTH_MAX;
use amqp::{Properties, ShortStr, Table, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use crate::error::Error;

/// A JSON object.
pub(crate) type Object = Map<String, Json>;

/// What `null` becomes when JSON is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    EmptyText,
    Void,
}

/// Reads the arguments of a queue, exchange or binding, or the headers of a message.
pub(crate) fn arguments_from_json(json: &Json) -> Result<Table, Error> {
    match json {
        Json::Object(object) => table(object, Null::EmptyText, 1),
        // An empty Erlang property list looks like this; some clients send it.
        Json::Array(items) if items.is_empty() => Ok(Table::new()),
        Json::Null => Ok(Table::new()),
        _ => Err(Error::bad_request("arguments is not an object")),
    }
}

/// Reads the definition of a policy.
pub(crate) fn table_from_json(object: &Object) -> Result<Table, Error> {
    table(object, Null::Void, 1)
}

/// Reads the value of a parameter.
pub(crate) fn value_from_json(json: &Json) -> Result<Value, Error> {
    value(json, Null::Void, 1)
}

fn table(object: &Object, null: Null, depth: usize) -> Result<Table, Error> {
    let entry = |(name, json): (&String, &Json)| {
        let name = ShortStr::try_from(name.as_str())
            .map_err(|_| Error::bad_request(format!("key is too long: {name}")))?;
        Ok((name, value(json, null, depth)?))
    };
    object.iter().map(entry).collect()
}

fn value(json: &Json, null: Null, depth: usize) -> Result<Value, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::bad_request("nested too deep"));
    }
    Ok(match json {
        Json::Null if null == Null::Void => Value::Void,
        Json::Null => Value::LongStr(Vec::new()),
        Json::Bool(bit) => Value::Bool(*bit),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::I64(whole),
            None => Value::F64(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::LongStr(text.as_bytes().to_vec()),
        Json::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| value(item, null, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Json::Object(object) => Value::Table(table(object, null, depth + 1)?),
    })
}

/// Shows a table as an object. Of several values with one name the last is seen, as in RabbitMQ.
pub(crate) fn table_to_json(table: &Table) -> Json {
    let entry = |(name, value): (&ShortStr, &Value)| {
        (name.to_str_lossy().into_owned(), value_to_json(value))
    };
    Json::Object(table.iter().map(entry).collect())
}

/// Shows a value.
pub(crate) fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Bool(bit) => json!(bit),
        Value::F32(number) => json!(number),
        Value::F64(number) => json!(number),
        Value::Decimal { scale, value } => json!(f64::from(*value) / 10f64.powi((*scale).into())),
        Value::LongStr(bytes) | Value::Binary(bytes) => Json::String(text(bytes)),
        Value::Array(values) => values.iter().map(value_to_json).collect(),
        Value::Timestamp(seconds) => json!(seconds),
        Value::Table(table) => table_to_json(table),
        Value::Void => Json::Null,
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_) => json!(value.as_i64()),
    }
}

/// Shows bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("Not UTF-8, base64 is: {}", STANDARD.encode(bytes)),
    }
}

/// Reads the properties of a message.
pub(crate) fn properties_from_json(json: &Json) -> Result<Properties, Error> {
    let empty = Object::new();
    let object = match json {
        Json::Object(object) => object,
        Json::Array(items) if items.is_empty() => &empty,
        _ => return Err(Error::bad_request("properties is not an object")),
    };
    let text = |key: &str| match object.get(key) {
        None => Ok(None),
        Some(Json::String(text)) => ShortStr::try_from(text.as_str())
            .map(Some)
            .map_err(|_| Error::bad_request(format!("property is too long: {key}"))),
        Some(_) => Err(Error::bad_request(json!(["not_string", key]))),
    };
    let whole = |key: &str| match object.get(key) {
        None => Ok(None),
        Some(json) => match json.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(Error::bad_request(json!(["not_int", key]))),
        },
    };
    let octet = |key: &str| match whole(key)?.map(u8::try_from) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(Error::bad_request(format!("property is too large: {key}"))),
    };
    Ok(Properties {
        content_type: text("content_type")?,
        content_encoding: text("content_encoding")?,
        headers: object.get("headers").map(arguments_from_json).transpose()?,
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: text("correlation_id")?,
        reply_to: text("reply_to")?,
        expiration: text("expiration")?,
        message_id: text("message_id")?,
        timestamp: whole("timestamp")?,
        message_type: text("type")?,
        user_id: text("user_id")?,
        app_id: text("app_id")?,
        cluster_id: text("cluster_id")?,
    })
}

/// Shows the properties that a message has.
pub(crate) fn properties_to_json(properties: &Properties) -> Json {
    let show = |value: &Option<ShortStr>| value.as_ref().map(|value| json!(text(value)));
    let all = [
        ("app_id", show(&properties.app_id)),
        ("cluster_id", show(&properties.cluster_id)),
        ("content_encoding", show(&properties.content_encoding)),
        ("content_type", show(&properties.content_type)),
        ("correlation_id", show(&properties.correlation_id)),
        ("delivery_mode", properties.delivery_mode.map(Json::from)),
        ("expiration", show(&properties.expiration)),
        ("headers", properties.headers.as_ref().map(table_to_json)),
        ("message_id", show(&properties.message_id)),
        ("priority", properties.priority.map(Json::from)),
        ("reply_to", show(&properties.reply_to)),
        ("timestamp", properties.timestamp.map(Json::from)),
        ("type", show(&properties.message_type)),
        ("user_id", show(&properties.user_id)),
    ];
    let present = |(key, value): (&str, Option<Json>)| Some((key.to_owned(), value?));
    Json::Object(all.into_iter().filter_map(present).collect())
}

/// What RabbitMQ says of a value that should be a number.
pub(crate) fn not_a_number(what: &str, value: &Json) -> String {
    let given = value.as_str().map_or_else(|| value.to_string(), |text| format!("<<\"{text}\">>"));
    format!("{what} should be a number, actually was {given}")
}

#[cfg(test)]
mod tests;
