//! Fields of the node's answers. What is missing is empty, nought or false.

use serde_json::Value as Json;

pub(crate) fn text<'a>(object: &'a Json, key: &str) -> &'a str {
    object.get(key).and_then(Json::as_str).unwrap_or_default()
}

pub(crate) fn whole(object: &Json, key: &str) -> u64 {
    object.get(key).and_then(Json::as_u64).unwrap_or_default()
}

pub(crate) fn flag(object: &Json, key: &str) -> bool {
    object.get(key).and_then(Json::as_bool).unwrap_or_default()
}

pub(crate) fn items<'a>(object: &'a Json, key: &str) -> &'a [Json] {
    object
        .get(key)
        .and_then(Json::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The texts of a list.
pub(crate) fn texts<'a>(object: &'a Json, key: &str) -> Vec<&'a str> {
    items(object, key).iter().filter_map(Json::as_str).collect()
}

/// An object with its keys sorted, all the way down.
pub(crate) fn sorted(json: &Json) -> Json {
    match json {
        Json::Object(object) => {
            let mut entries: Vec<(&String, &Json)> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Json::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.clone(), sorted(value)))
                    .collect(),
            )
        }
        Json::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
