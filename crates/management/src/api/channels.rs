//! Channels, found with the connections that they are part of.

use broker::status::ChannelStatus;
use serde_json::{Value as Json, json};

use super::{Outcome, connections, consumers, object, put_runtime};
use crate::access;
use crate::counters::{self, Rates};
use crate::error::Error;
use crate::list;
use crate::node::ConnectionReport;
use crate::request::Request;
use crate::stats::{Key, Ranges};
use crate::timestamp::rfc3339;

/// `GET /api/channels`
pub(crate) async fn index(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let reports = connections::visible(&request).await;
    let channels = reports.iter().flat_map(|report| {
        let all = report.status.channels.iter();
        all.map(move |channel| (report, channel.number, name(report, channel.number)))
    });
    list::paged(
        &request.query,
        channels.collect(),
        |(_, _, name)| ("", name),
        |(report, number, _)| render(&request, report, *number, ranges).unwrap_or_default(),
    )
}

/// `GET /api/vhosts/:vhost/channels`
pub(crate) async fn of_vhost(request: Request) -> Outcome {
    request.vhost()?;
    index(request).await
}

/// `GET /api/channels/:channel`
pub(crate) async fn show(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let wanted = request.param("channel");
    let reports = request.node().connections().await;
    let found = reports.iter().find_map(|report| {
        let mut all = report.status.channels.iter().map(|channel| channel.number);
        all.find(|number| name(report, *number) == *wanted)
            .map(|number| (report, number))
    });
    let (report, number) = found.ok_or_else(Error::object_not_found)?;
    access::check_owner(&request.identity, &report.status.user, false)?;
    let mut shown = object(render(&request, report, number, ranges).unwrap_or_default());
    let consumers = consumers::of_channel(&request, report.status.id, number).await;
    shown.insert("consumer_details".to_owned(), Json::Array(consumers));
    // Flows between one channel and one exchange or queue are not counted (rates mode `basic`).
    shown.insert("publishes".to_owned(), json!([]));
    shown.insert("deliveries".to_owned(), json!([]));
    list::one(&request.query, Json::Object(shown))
}

/// `127.0.0.1:54248 -> 127.0.0.1:5672 (1)`
fn name(report: &ConnectionReport, number: u16) -> String {
    format!("{} ({number})", report.status.name)
}

/// The channel as consumers point to it.
pub(crate) fn details(report: &ConnectionReport, number: u16) -> Json {
    let mut shown = object(connections::details(&report.status));
    shown.insert("connection_name".to_owned(), json!(report.status.name));
    shown.insert("name".to_owned(), json!(name(report, number)));
    shown.insert("node".to_owned(), json!(report.node));
    shown.insert("number".to_owned(), json!(number));
    shown.insert("user".to_owned(), json!(report.status.user));
    Json::Object(shown)
}

/// A channel of a connection, if it is there.
pub(crate) fn render(
    request: &Request,
    report: &ConnectionReport,
    number: u16,
    ranges: Ranges,
) -> Option<Json> {
    let channel = report
        .status
        .channels
        .iter()
        .find(|channel| channel.number == number)?;
    let mut shown = object(facts(report, channel));
    if let Some(idle_since) = channel.idle_since {
        shown.insert("idle_since".to_owned(), json!(rfc3339(idle_since)));
    }
    put_runtime(&mut shown);
    let sampler = request.app.sampler();
    let series = sampler.series(&Key::Channel(report.status.id, number));
    let rates = Rates {
        series,
        range: ranges.messages,
    };
    counters::put_channel_messages(&mut shown, &channel.counters, rates);
    Some(Json::Object(shown))
}

fn facts(report: &ConnectionReport, channel: &ChannelStatus) -> Json {
    json!({
        "name": name(report, channel.number),
        "number": channel.number,
        "node": report.node,
        "vhost": report.status.vhost,
        "user": report.status.user,
        "user_who_performed_action": report.status.user,
        "connection_details": connections::details(&report.status),
        "state": channel.state,
        "confirm": channel.confirm,
        "transactional": channel.transactional,
        "consumer_count": channel.consumers,
        "messages_unacknowledged": channel.messages_unacked,
        "messages_unconfirmed": channel.messages_unconfirmed,
        "messages_uncommitted": channel.messages_uncommitted,
        "acks_uncommitted": channel.acks_uncommitted,
        "prefetch_count": channel.prefetch_count,
        "global_prefetch_count": channel.global_prefetch_count,
        "pending_raft_commands": 0,
    })
}
