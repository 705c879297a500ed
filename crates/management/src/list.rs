//! Lists: filtered by name, sorted, cut into pages, reduced to columns.
//!
//! Only what the answer shows is rendered where that can be known before: a page of queues sorted by
//! name costs a page, not all queues. Name patterns run on a linear-time engine.

use std::cmp::Ordering;
use std::fmt::Write;

use regex::{Regex, RegexBuilder};
use serde_json::{Value as Json, json};

use crate::error::Error;
use crate::reply::Reply;
use crate::request::Query;
use crate::value::Object;

const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 500;
/// Bytes that a compiled name pattern may take.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// Answers with a list whose items have a virtual host and a name, by which it is sorted unless the
/// query says otherwise. `head` gives the two, `render` the whole item.
pub(crate) fn paged<T>(
    query: &Query,
    mut items: Vec<T>,
    head: impl Fn(&T) -> (&str, &str),
    mut render: impl FnMut(&T) -> Json,
) -> Result<Reply, Error> {
    let page = Page::of(query)?;
    let total_count = items.len();
    if let Some(filter) = page
        .as_ref()
        .map(|_| Filter::of(query))
        .transpose()?
        .flatten()
    {
        items.retain(|item| filter.is_match(head(item).1));
    }
    let order = Order::of(query);
    // Sorting by what the head has needs no rendering.
    let key = match order.by.as_deref() {
        None => Some(0),
        Some("vhost") => Some(1),
        Some("name") => Some(2),
        Some(_) => None,
    };
    let Some(key) = key else {
        let mut rendered: Vec<Json> = items.iter().map(render).collect();
        order.sort(&mut rendered, &["vhost", "name"]);
        return answer(query, page, rendered, total_count, Json::clone);
    };
    items.sort_by(|a, b| {
        let ((vhost_a, name_a), (vhost_b, name_b)) = (head(a), head(b));
        match key {
            2 => (name_a, vhost_a).cmp(&(name_b, vhost_b)),
            _ => (vhost_a, name_a).cmp(&(vhost_b, name_b)),
        }
    });
    if order.reverse {
        items.reverse();
    }
    answer(query, page, items, total_count, |item| render(item))
}

/// Answers with a list that is never cut into pages, sorted by `by` unless the query says otherwise.
pub(crate) fn whole(query: &Query, mut items: Vec<Json>, by: &[&str]) -> Result<Reply, Error> {
    Order::of(query).sort(&mut items, by);
    answer(query, None, items, 0, Json::clone)
}

/// Answers with one object, reduced to the columns asked for.
pub(crate) fn one(query: &Query, item: Json) -> Result<Reply, Error> {
    Ok(Reply::ok(Columns::of(query).apply(item)))
}

fn answer<T>(
    query: &Query,
    page: Option<Page>,
    items: Vec<T>,
    total_count: usize,
    mut render: impl FnMut(&T) -> Json,
) -> Result<Reply, Error> {
    let columns = Columns::of(query);
    let Some(Page { number, size }) = page else {
        // Item by item: a list may be long, and its text is much smaller than its values.
        let mut text = String::from("[");
        for item in &items {
            let item = columns.apply(render(item));
            let comma = if text.len() > 1 { "," } else { "" };
            write!(text, "{comma}{item}").expect("writing to a string cannot fail");
        }
        text.push(']');
        return Ok(Reply::written(text));
    };
    let filtered_count = items.len();
    let start = (number - 1).saturating_mul(size);
    if start > filtered_count {
        return Err(Error::bad_query(
            "page_out_of_range",
            format!("Page out of range, page: {number} page size: {size}, len: {filtered_count}"),
        ));
    }
    let end = filtered_count.min(start.saturating_add(size));
    let shown: Vec<Json> = items[start..end]
        .iter()
        .map(|item| columns.apply(render(item)))
        .collect();
    Ok(Reply::ok(json!({
        "filtered_count": filtered_count,
        "item_count": shown.len(),
        "items": shown,
        "page": number,
        "page_count": filtered_count.div_ceil(size),
        "page_size": size,
        "total_count": total_count,
    })))
}

/// The page asked for, counted from 1.
struct Page {
    number: usize,
    size: usize,
}

impl Page {
    /// `None` when the query asks for no page.
    fn of(query: &Query) -> Result<Option<Page>, Error> {
        let number = |key: &str| match query.get(key) {
            None => Ok(None),
            Some(text) => text
                .parse::<usize>()
                .map(Some)
                .map_err(|_| Error::bad_request("Pagination parameters are invalid")),
        };
        let (page, size) = (number("page")?, number("page_size")?);
        let Some(page) = page else { return Ok(None) };
        let size = size.unwrap_or(PAGE_SIZE_DEFAULT);
        if page == 0 || !(1..=PAGE_SIZE_MAX).contains(&size) {
            return Err(Error::bad_query(
                "invalid_pagination_parameters",
                format!("Invalid pagination parameters: page number {page}, page size {size}"),
            ));
        }
        Ok(Some(Page { number: page, size }))
    }
}

/// Which names are shown.
enum Filter {
    /// Lower-case text somewhere in the name.
    Contains(String),
    Matches(Regex),
}

impl Filter {
    fn of(query: &Query) -> Result<Option<Filter>, Error> {
        let Some(name) = query.get("name").filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        if query.get("use_regex") != Some("true") {
            return Ok(Some(Filter::Contains(name.to_lowercase())));
        }
        RegexBuilder::new(name)
            .case_insensitive(true)
            .size_limit(PATTERN_SIZE_MAX)
            .build()
            .map(|regex| Some(Filter::Matches(regex)))
            .map_err(|_| Error::bad_request(format!("invalid regular expression: {name}")))
    }

    fn is_match(&self, name: &str) -> bool {
        match self {
            Filter::Contains(text) => name.to_lowercase().contains(text),
            Filter::Matches(regex) => regex.is_match(name),
        }
    }
}

/// How a list is sorted.
struct Order {
    /// A column, dots lead into objects.
    by: Option<String>,
    reverse: bool,
}

impl Order {
    fn of(query: &Query) -> Order {
        Order {
            by: query
                .get("sort")
                .filter(|by| !by.is_empty())
                .map(str::to_owned),
            reverse: query.get("sort_reverse") == Some("true"),
        }
    }

    fn sort(&self, items: &mut [Json], by: &[&str]) {
        let columns: Vec<&str> = self
            .by
            .as_deref()
            .into_iter()
            .chain(by.iter().copied())
            .collect();
        items.sort_by(|a, b| {
            let compared = columns
                .iter()
                .map(|column| compare(value_at(a, column), value_at(b, column)));
            compared.fold(Ordering::Equal, Ordering::then)
        });
        if self.reverse {
            items.reverse();
        }
    }
}

/// The value at a dotted path; nothing counts as the number 0.
fn value_at<'a>(item: &'a Json, path: &str) -> &'a Json {
    static NOTHING: Json = Json::Null;
    path.split('.')
        .try_fold(item, |item, key| item.get(key))
        .unwrap_or(&NOTHING)
}

/// Numbers before words, words before objects, objects before lists, lists before texts.
fn compare(a: &Json, b: &Json) -> Ordering {
    const fn rank(json: &Json) -> u8 {
        match json {
            Json::Null | Json::Number(_) => 0,
            Json::Bool(_) => 1,
            Json::Object(_) => 2,
            Json::Array(_) => 3,
            Json::String(_) => 4,
        }
    }
    let number = |json: &Json| json.as_f64().unwrap_or_default();
    match (a, b) {
        (Json::String(a), Json::String(b)) => a.cmp(b),
        (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
        _ if rank(a) == 0 && rank(b) == 0 => number(a).total_cmp(&number(b)),
        (Json::Array(a), Json::Array(b)) => {
            let differs = a
                .iter()
                .zip(b)
                .map(|(a, b)| compare(a, b))
                .find(|order| order.is_ne());
            differs.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

/// The columns that are shown: paths into objects. `None` shows everything.
struct Columns(Option<Vec<Vec<String>>>);

impl Columns {
    fn of(query: &Query) -> Columns {
        let path = |column: &str| column.split('.').map(str::to_owned).collect();
        Columns(query.get("columns").map(|columns| {
            columns
                .split(',')
                .filter(|column| !column.is_empty())
                .map(path)
                .collect()
        }))
    }

    fn apply(&self, item: Json) -> Json {
        match &self.0 {
            None => item,
            Some(paths) => {
                let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
                reduce(item, &paths)
            }
        }
    }
}

fn reduce(item: Json, paths: &[&[String]]) -> Json {
    match item {
        Json::Object(object) => {
            let wanted = |(key, value): (String, Json)| {
                let below: Vec<&[String]> = paths
                    .iter()
                    .filter(|path| path.first() == Some(&key))
                    .map(|path| &path[1..])
                    .collect();
                if below.is_empty() {
                    return None;
                }
                let whole = below.iter().any(|path| path.is_empty());
                Some((key, if whole { value } else { reduce(value, &below) }))
            };
            Json::Object(object.into_iter().filter_map(wanted).collect::<Object>())
        }
        Json::Array(items) => items.into_iter().map(|item| reduce(item, paths)).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
