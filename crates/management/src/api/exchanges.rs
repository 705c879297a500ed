//! Exchanges.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::Name;
use broker::metadata::{Command, Exchange, ExchangeSpec, Outcome as Applied};
use broker::permission::{Resource, Right};
use serde_json::{Value as Json, json};

use super::{Outcome, object};
use crate::counters::{self, Rates};
use crate::error::Error;
use crate::list;
use crate::node::ExchangeCounters;
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::stats::{Key, Ranges};
use crate::value::{arguments_from_json, table_to_json};

type Counters = BTreeMap<(Name, Name), ExchangeCounters>;

/// `GET /api/exchanges` and `/:vhost`
pub(crate) async fn index(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let counters = counters(&request).await;
    let vhosts = request.vhosts()?;
    let exchanges: Vec<&Arc<Exchange>> = vhosts
        .into_iter()
        .flat_map(|vhost| vhost.exchanges.values())
        .collect();
    list::paged(
        &request.query,
        exchanges,
        |exchange| (&exchange.vhost, &exchange.name),
        |exchange| render(&request, exchange, &counters, ranges),
    )
}

/// `GET /api/exchanges/:vhost/:exchange`
pub(crate) async fn show(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let exchange = request.exchange()?;
    let counters = counters(&request).await;
    let mut shown = object(render(&request, exchange, &counters, ranges));
    // Flows between one channel or queue and one exchange are not counted (rates mode `basic`).
    shown.insert("incoming".to_owned(), json!([]));
    shown.insert("outgoing".to_owned(), json!([]));
    list::one(&request.query, Json::Object(shown))
}

async fn counters(request: &Request) -> Counters {
    if request.stats_disabled() {
        return Counters::new();
    }
    let all = request.node().totals().await.exchanges.into_iter();
    all.map(|it| ((Name::clone(&it.vhost), Name::clone(&it.exchange)), it))
        .collect()
}

fn render(request: &Request, exchange: &Exchange, counters: &Counters, ranges: Ranges) -> Json {
    let mut shown = object(definition(exchange));
    shown.insert(
        "user_who_performed_action".to_owned(),
        json!("rmq-internal"),
    );
    if let Some(policy) = &exchange.policy {
        shown.insert("policy".to_owned(), json!(policy.spec.name));
    }
    let key = (Name::clone(&exchange.vhost), Name::clone(&exchange.name));
    if let Some(counters) = counters.get(&key) {
        let sampler = request.app.sampler();
        let series = sampler.series(&Key::Exchange(key.0, key.1));
        let rates = Rates {
            series,
            range: ranges.messages,
        };
        counters::put_exchange_messages(&mut shown, counters, rates);
    }
    Json::Object(shown)
}

/// What is fixed by the declaration.
pub(crate) fn definition(exchange: &Exchange) -> Json {
    json!({
        "name": exchange.name,
        "vhost": exchange.vhost,
        "type": exchange.kind.name(),
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": table_to_json(&exchange.arguments),
    })
}

/// `PUT /api/exchanges/:vhost/:exchange`
pub(crate) async fn put(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost_for_change()?.name);
    let name = request.exchange_param("exchange");
    if name.len() > amqp::short_str::SHORT_STR_BYTES_MAX {
        return Err(Error::bad_request("exchange name is longer than 255 bytes"));
    }
    let body = request.json()?;
    let spec = ExchangeSpec {
        name: Name::from(name),
        kind: Name::from(body.optional_text("type")?.unwrap_or("direct")),
        durable: body.boolean("durable")?.unwrap_or(false),
        auto_delete: body.boolean("auto_delete")?.unwrap_or(false),
        internal: body.boolean("internal")?.unwrap_or(false),
        arguments: body
            .get("arguments")
            .map(arguments_from_json)
            .transpose()?
            .unwrap_or_default(),
    };
    let existed = request.tables.exchange(&vhost, name).is_some();
    request.permit(Right::Configure, Resource::Exchange(name))?;
    if let (false, Some(alternate)) = (existed, spec.arguments.get("alternate-exchange")) {
        request.permit(Right::Read, Resource::Exchange(name))?;
        request.permit(
            Right::Write,
            Resource::Exchange(alternate.as_str().unwrap_or_default()),
        )?;
    }
    match request
        .node()
        .propose(Command::DeclareExchange { vhost, spec })
        .await?
    {
        Applied::Declared(declared) => Ok(Reply::put(!declared.created)),
        _ => Ok(Reply::put(existed)),
    }
}

/// `DELETE /api/exchanges/:vhost/:exchange`
pub(crate) async fn delete(request: Request) -> Outcome {
    let exchange = request.exchange()?;
    request.permit(Right::Configure, Resource::Exchange(&exchange.name))?;
    let command = Command::DeleteExchange {
        vhost: Name::clone(&exchange.vhost),
        name: Name::clone(&exchange.name),
        if_unused: request.query.flag("if-unused"),
    };
    request.node().propose(command).await?;
    Ok(Reply::no_content())
}
