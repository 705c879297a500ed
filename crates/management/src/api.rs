//! The handlers, one file per resource, and what several of them show.

pub(crate) mod aliveness;
pub(crate) mod bindings;
pub(crate) mod channels;
pub(crate) mod cluster;
pub(crate) mod connections;
pub(crate) mod consumers;
pub(crate) mod definitions;
pub(crate) mod exchanges;
pub(crate) mod features;
pub(crate) mod health;
pub(crate) mod host;
pub(crate) mod internal;
pub(crate) mod limits;
pub(crate) mod messages;
pub(crate) mod nodes;
pub(crate) mod overview;
pub(crate) mod parameters;
pub(crate) mod permissions;
pub(crate) mod policies;
pub(crate) mod queues;
pub(crate) mod users;
pub(crate) mod vhosts;

use broker::Name;
use serde_json::{Value as Json, json};

use crate::error::Error;
use crate::reply::Reply;
use crate::value::Object;

/// What a handler answers.
pub(crate) type Outcome = Result<Reply, Error>;

/// Work of the runtime, which tools expect and Warren does not count. Some read strictly and take no
/// negative numbers.
pub(crate) fn put_runtime(object: &mut Object) {
    let garbage_collection = json!({
        "fullsweep_after": 0,
        "max_heap_size": 0,
        "min_bin_vheap_size": 0,
        "min_heap_size": 0,
        "minor_gcs": 0,
    });
    object.insert("garbage_collection".to_owned(), garbage_collection);
    object.insert("reductions".to_owned(), json!(0));
    object.insert("reductions_details".to_owned(), json!({"rate": 0.0}));
}

/// Turns a `json!` object into a map that can be extended.
///
/// # Panics
/// When it is no object.
pub(crate) fn object(json: Json) -> Object {
    match json {
        Json::Object(object) => object,
        _ => unreachable!("a JSON object is written in place"),
    }
}

/// Whether two names mean the same node: a port behind the host does not count.
pub(crate) fn is_same_node(one: &str, other: &str) -> bool {
    fn without_port(node: &str) -> &str {
        match node.rsplit_once(':') {
            Some((rest, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => rest,
            _ => node,
        }
    }
    without_port(one) == without_port(other)
}

/// Reads tags: a list, or a text with commas.
pub(crate) fn tags_from_json(json: &Json) -> Result<Vec<Name>, Error> {
    let invalid = || Error::bad_request(format!("invalid tags: {json}"));
    match json {
        Json::String(text) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(Name::from)
            .collect()),
        Json::Array(tags) => tags
            .iter()
            .map(|tag| tag.as_str().map(Name::from).ok_or_else(invalid))
            .collect(),
        _ => Err(invalid()),
    }
}
