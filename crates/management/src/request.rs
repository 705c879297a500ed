//! A request after the gates: who asks, what the path and the query say, and the body.

use std::sync::Arc;

use axum::http::HeaderMap;
use broker::Name;
use broker::metadata::{Exchange, Queue, Tables, Vhost};
use broker::permission::{Resource, Right};
use bytes::Bytes;
use serde_json::Value as Json;

use crate::access;
use crate::error::Error;
use crate::identity::Identity;
use crate::node::Node;
use crate::service::App;
use crate::value::Object;

/// What a handler works on.
pub(crate) struct Request {
    pub(crate) app: Arc<App>,
    pub(crate) identity: Identity,
    /// The metadata as they were when the request was admitted.
    pub(crate) tables: Arc<Tables>,
    /// Names in the path, decoded.
    pub(crate) params: Vec<(String, String)>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The decoded query. Of several values with one key the first counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Query {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced)
                .decode_utf8_lossy()
                .into_owned()
        };
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        };
        Query(
            query
                .split('&')
                .filter(|part| !part.is_empty())
                .map(pair)
                .collect(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the value is `true`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }
}

impl Request {
    pub(crate) fn node(&self) -> &dyn Node {
        &*self.app.node
    }

    /// A name in the path.
    ///
    /// # Panics
    /// When the route has no such name: a mistake in the table of routes.
    pub(crate) fn param(&self, key: &str) -> &str {
        self.find_param(key).expect("the route has this parameter")
    }

    pub(crate) fn find_param(&self, key: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The name of an exchange in the path: the default exchange is written `amq.default`.
    pub(crate) fn exchange_param(&self, key: &str) -> &str {
        match self.param(key) {
            "amq.default" => "",
            name => name,
        }
    }

    /// The virtual host in the path.
    pub(crate) fn vhost(&self) -> Result<&Arc<Vhost>, Error> {
        self.tables
            .vhosts
            .get(self.param("vhost"))
            .ok_or_else(Error::object_not_found)
    }

    /// The virtual host that something is to be put into.
    pub(crate) fn vhost_for_change(&self) -> Result<&Arc<Vhost>, Error> {
        let vhost = self.tables.vhosts.get(self.param("vhost"));
        vhost.ok_or_else(|| Error::not_found("vhost_not_found"))
    }

    /// The virtual hosts that a list is about: the one in the path or in the header `X-Vhost`, else
    /// all that `who` may read.
    pub(crate) fn vhosts(&self) -> Result<Vec<&Arc<Vhost>>, Error> {
        let header = self
            .headers
            .get("x-vhost")
            .and_then(|value| value.to_str().ok());
        let named = self
            .find_param("vhost")
            .or(header.filter(|name| !name.is_empty()));
        if let Some(name) = named {
            let vhost = self
                .tables
                .vhosts
                .get(name)
                .ok_or_else(Error::object_not_found)?;
            let readable = access::is_readable(&self.identity, &self.tables, name);
            return Ok(if readable { vec![vhost] } else { Vec::new() });
        }
        let readable =
            |vhost: &&Arc<Vhost>| access::is_readable(&self.identity, &self.tables, &vhost.name);
        Ok(self.tables.vhosts.values().filter(readable).collect())
    }

    /// The queue in the path.
    pub(crate) fn queue(&self) -> Result<&Arc<Queue>, Error> {
        self.vhost()?
            .queues
            .get(self.param("queue"))
            .ok_or_else(Error::object_not_found)
    }

    /// The exchange in the path.
    pub(crate) fn exchange(&self) -> Result<&Arc<Exchange>, Error> {
        let name = self.exchange_param("exchange");
        self.vhost()?
            .exchanges
            .get(name)
            .ok_or_else(Error::object_not_found)
    }

    /// Checks an AMQP permission in the virtual host of the path.
    pub(crate) fn permit(&self, right: Right, resource: Resource<'_>) -> Result<(), Error> {
        let vhost = self.param("vhost");
        access::check_right(&self.identity, &self.tables, vhost, right, resource)
    }

    /// What is sampled.
    pub(crate) fn rates_mode(&self) -> &'static str {
        self.app.settings.rates_mode
    }

    /// Whether only definitions are wanted, without statistics.
    pub(crate) fn stats_disabled(&self) -> bool {
        self.app.settings.disable_stats || self.query.flag("disable_stats")
    }

    /// Whether numbers of messages are wanted all the same.
    pub(crate) fn wants_queue_totals(&self) -> bool {
        self.app.settings.enable_queue_totals || self.query.flag("enable_queue_totals")
    }

    /// The name for `user_who_performed_action` and the like.
    pub(crate) fn user(&self) -> Name {
        self.identity
            .user()
            .map_or_else(|| Name::from("operator"), Name::clone)
    }

    /// The body as an object; an empty one stands for an empty object.
    pub(crate) fn json(&self) -> Result<Object, Error> {
        json(&self.body)
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A body as an object; an empty one stands for an empty object.
pub(crate) fn json(body: &[u8]) -> Result<Object, Error> {
    match body {
        b"" | b"null" | b"undefined" => return Ok(Object::new()),
        _ => {}
    }
    match serde_json::from_slice(body) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(Json::String(_)) => Err(Error::bad_request(
            "invalid payload: the request body JSON-decoded to a string. Is the input \
             doubly-JSON-encoded?",
        )),
        Ok(_) | Err(_) => Err(Error::bad_request("not_json")),
    }
}

/// Reading fields of a body, with RabbitMQ's complaints.
pub(crate) trait Fields {
    /// A field that must be there.
    fn required(&self, key: &str) -> Result<&Json, Error>;
    /// A text that must be there.
    fn text(&self, key: &str) -> Result<&str, Error>;
    /// A text, if it is there.
    fn optional_text(&self, key: &str) -> Result<Option<&str>, Error>;
    /// A truth value; also accepted as text.
    fn boolean(&self, key: &str) -> Result<Option<bool>, Error>;
    /// A whole number; also accepted as text.
    fn whole(&self, key: &str) -> Result<Option<i64>, Error>;
}

impl Fields for Object {
    fn required(&self, key: &str) -> Result<&Json, Error> {
        self.get(key).ok_or_else(|| Error::key_missing(key))
    }

    fn text(&self, key: &str) -> Result<&str, Error> {
        let value = self.required(key)?;
        value
            .as_str()
            .ok_or_else(|| Error::bad_request(serde_json::json!(["not_string", value])))
    }

    fn optional_text(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(_) => self.text(key).map(Some),
        }
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Bool(bit)) => Ok(Some(*bit)),
            Some(Json::String(text)) if text == "true" => Ok(Some(true)),
            Some(Json::String(text)) if text == "false" => Ok(Some(false)),
            Some(other) => Err(Error::bad_request(serde_json::json!([
                "not_boolean",
                other
            ]))),
        }
    }

    fn whole(&self, key: &str) -> Result<Option<i64>, Error> {
        let number = match self.get(key) {
            None | Some(Json::Null) => return Ok(None),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturates, and limits are checked"
            )]
            Some(Json::Number(number)) => number
                .as_i64()
                .or_else(|| number.as_f64().map(|number| number as i64)),
            Some(Json::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number
            .map(Some)
            .ok_or_else(|| Error::bad_request(serde_json::json!(["not_integer", self.get(key)])))
    }
}
