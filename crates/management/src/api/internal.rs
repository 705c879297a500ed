//! What only the operator may ask for: the routes behind `warren ctl` that RabbitMQ's API has not.

use broker::Name;
use broker::metadata::{Command, UserSpec};
use serde_json::{Value as Json, json};

use super::host::put_app;
use super::queues::mirrors;
use super::{Outcome, health, nodes, object, overview, tags_from_json, users};
use crate::error::Error;
use crate::list;
use crate::node::{Listener, Login, NodeStatus, Watermark};
use crate::reply::Reply;
use crate::request::{Fields, Request};
use crate::value::Object;
use crate::{PRODUCT_NAME, RABBITMQ_VERSION};

/// `POST /api/internal/authenticate-user` with `username` and `password`
pub(crate) async fn authenticate_user(request: Request) -> Outcome {
    let body = request.json()?;
    let (user, password) = (body.text("username")?, body.text("password")?);
    let login = request
        .node()
        .authenticate(user, password.as_bytes(), None)
        .await;
    // Where the user may log in from is not the question here.
    let authenticated = login != Login::Refused;
    Ok(Reply::ok(json!({"authenticated": authenticated})))
}

/// `POST /api/internal/users/:user`: makes a user, and refuses when it is there.
pub(crate) async fn add_user(request: Request) -> Outcome {
    let mut body = request.json()?;
    body.entry("tags").or_insert_with(|| json!([]));
    let spec = users::spec_from_json(request.param("user"), &body, request.node())?;
    let spec = UserSpec {
        create_only: true,
        ..spec
    };
    request.node().propose(Command::PutUser(spec)).await?;
    Ok(Reply::created())
}

/// `PUT /api/internal/users/:user/password` with `password`, `password_hash` or neither, which leaves
/// no password that opens the account
pub(crate) async fn change_password(request: Request) -> Outcome {
    let name = request.param("user");
    let user = request.tables.users.get(name);
    let user = user.ok_or_else(|| Error::not_found(format!("no user '{name}'")))?;
    let mut body = request.json()?;
    body.insert("tags".to_owned(), json!(user.tags));
    let spec = users::spec_from_json(name, &body, request.node())?;
    request.node().propose(Command::PutUser(spec)).await?;
    Ok(Reply::no_content())
}

/// `PUT /api/internal/users/:user/tags` with `tags`
pub(crate) async fn set_tags(request: Request) -> Outcome {
    let tags = tags_from_json(request.json()?.required("tags")?)?;
    let user = Name::from(request.param("user"));
    request
        .node()
        .propose(Command::SetUserTags { user, tags })
        .await?;
    Ok(Reply::no_content())
}

/// `DELETE /api/internal/user-limits/:user`: all of them
pub(crate) async fn clear_user_limits(request: Request) -> Outcome {
    let user = Name::from(request.param("user"));
    request
        .node()
        .propose(Command::ClearUserLimits { user, limit: None })
        .await?;
    Ok(Reply::no_content())
}

/// `DELETE /api/internal/vhost-limits/:vhost`: all of them
pub(crate) async fn clear_vhost_limits(request: Request) -> Outcome {
    let vhost = Name::clone(&request.vhost_for_change()?.name);
    request
        .node()
        .propose(Command::ClearVhostLimits { vhost, limit: None })
        .await?;
    Ok(Reply::no_content())
}

/// `DELETE /api/internal/queues/:vhost/:queue`, `?if-empty=true&if-unused=true`: also exclusive ones;
/// says how many messages were ready
pub(crate) async fn delete_queue(request: Request) -> Outcome {
    let queue = request.queue()?.id;
    let (if_unused, if_empty) = (
        request.query.flag("if-unused"),
        request.query.flag("if-empty"),
    );
    let messages = request
        .node()
        .delete_queue(queue, if_unused, if_empty)
        .await?;
    Ok(Reply::ok(json!({"messages": messages})))
}

/// `DELETE /api/internal/queues/:vhost/:queue/contents`: says how many messages went
pub(crate) async fn purge_queue(request: Request) -> Outcome {
    let messages = request.node().purge(request.queue()?.id).await?;
    Ok(Reply::ok(json!({"messages": messages})))
}

/// `POST /api/internal/close-connections` with `reason`, and perhaps `vhost`, `user`, `node`, `limit`
/// (0 is no limit)
pub(crate) async fn close_connections(request: Request) -> Outcome {
    let body = request.json()?;
    let reason = body.text("reason")?;
    let limit = body.whole("limit")?.unwrap_or(0);
    let limit = usize::try_from(limit)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX);
    let (vhost, user) = (body.optional_text("vhost")?, body.optional_text("user")?);
    let node = body.optional_text("node")?;
    let mut reports = request.node().connections().await;
    reports.retain(|report| {
        vhost.is_none_or(|vhost| *report.status.vhost == *vhost)
            && user.is_none_or(|user| *report.status.user == *user)
            && node.is_none_or(|node| *report.node == *node)
    });
    let mut closed = 0;
    for report in reports.iter().take(limit) {
        if request
            .node()
            .close_connection(report.status.id, reason)
            .await
        {
            closed += 1;
        }
    }
    Ok(Reply::ok(json!({"closed": closed})))
}

/// `PUT /api/internal/memory-watermark` with `relative` or `absolute` (bytes)
pub(crate) async fn set_memory_watermark(request: Request) -> Outcome {
    let watermark = watermark(&request.json()?)?;
    if matches!(watermark, Watermark::Relative(share) if share > 1.0) {
        return Err(Error::bad_request("memory watermark is above 1"));
    }
    request.node().set_memory_watermark(watermark).await?;
    Ok(Reply::no_content())
}

/// `PUT /api/internal/disk-free-limit` with `relative` (to memory) or `absolute` (bytes)
pub(crate) async fn set_disk_free_limit(request: Request) -> Outcome {
    request
        .node()
        .set_disk_free_limit(watermark(&request.json()?)?)
        .await?;
    Ok(Reply::no_content())
}

fn watermark(body: &Object) -> Result<Watermark, Error> {
    let invalid =
        || Error::bad_request("relative or absolute should be a number that is not negative");
    match (body.get("relative"), body.get("absolute")) {
        (Some(share), None) => {
            let share = share.as_f64().filter(|share| *share >= 0.0);
            share.map(Watermark::Relative).ok_or_else(invalid)
        }
        (None, Some(bytes)) => bytes.as_u64().map(Watermark::Absolute).ok_or_else(invalid),
        _ => Err(invalid()),
    }
}

/// `PUT /api/internal/log-level` with `level`
pub(crate) async fn set_log_level(request: Request) -> Outcome {
    const LEVELS: &[&str] = &["debug", "info", "warning", "error", "critical", "none"];
    let body = request.json()?;
    let level = body.text("level")?;
    if !LEVELS.contains(&level) {
        return Err(Error::bad_request(format!("unknown log level: {level}")));
    }
    request.node().set_log_level(level).await?;
    Ok(Reply::no_content())
}

/// `GET /api/internal/environment`
pub(crate) async fn environment(request: Request) -> Outcome {
    overview::configuration(request).await
}

/// `GET /api/internal/status`: what `status --formatter json` shows
pub(crate) async fn status(request: Request) -> Outcome {
    let node = request.node().status().await;
    let connections = request.node().connections().await;
    let local = connections
        .iter()
        .filter(|report| report.node == node.name)
        .count();
    let mut shown = object(json!({
        "os": std::env::consts::OS,
        "pid": node.os_pid,
        "product_name": PRODUCT_NAME,
        "product_version": node.version,
        "product_base_name": "RabbitMQ",
        "product_base_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "release_series_support_status": "supported",
        "node_name": node.name,
        "erlang_version": nodes::erlang_full_version(&node),
        "crypto_lib_info": "",
        "uptime": node.uptime.as_secs(),
        "is_booted": node.in_service,
        "is_under_maintenance": node.being_drained,
        "processes": {"limit": 1_048_576, "used": node.tasks},
        "run_queue": node.run_queue,
        "net_ticktime": 60,
        "active_plugins": ["rabbitmq_management", "rabbitmq_prometheus"],
        "enabled_plugin_file": "",
    }));
    let watermark = match node.memory_watermark {
        Some(share) => json!(share),
        None => json!({"absolute": node.memory_limit}),
    };
    shown.append(&mut object(json!({
        "data_directory": node.data_dir,
        "raft_data_directory": node.data_dir,
        "config_files": node.config_files,
        "log_files": node.log_files,
        "alarms": health::alarms_of(std::slice::from_ref(&node)),
        "memory": nodes::memory_breakdown(&node),
        "vm_memory_calculation_strategy": "rss",
        "vm_memory_high_watermark_setting": watermark,
        "vm_memory_high_watermark_limit": node.memory_limit,
        "file_descriptors": {
            "total_limit": node.fds_total,
            "total_used": node.fds_used,
            "sockets_limit": node.sockets_total,
            "sockets_used": node.sockets_used,
        },
        "disk_free": node.disk_free,
        "disk_free_limit": node.disk_free_limit,
        "totals": {
            "connection_count": local,
            "queue_count": request.tables.queues.size(),
            "virtual_host_count": request.tables.vhosts.size(),
        },
        "listeners": listeners(&node),
    })));
    put_app(&mut shown, &request.app.host.app());
    Ok(Reply::ok(Json::Object(shown)))
}

/// `GET /api/internal/certificates`: what the listeners of this node show to clients
pub(crate) async fn certificates(request: Request) -> Outcome {
    let node = request.node().name();
    let all = request.node().certificates().await;
    let items = all
        .iter()
        .map(|it| health::certificate(&node, it))
        .collect();
    list::whole(&request.query, items, &["port", "protocol"])
}

/// `GET /api/internal/last-copies`: mirrored queues that only this node has in sync
pub(crate) async fn last_copies(request: Request) -> Outcome {
    let nodes = request.node().nodes().await;
    let queues = mirrors::last_copies(&request.tables, &request.node().name(), &nodes);
    list::whole(&request.query, queues, &["virtual_host", "name"])
}

pub(crate) fn listeners(node: &NodeStatus) -> Json {
    let purpose = |protocol: &str| match protocol {
        "amqp" => "AMQP 0-9-1",
        "amqp/ssl" => "AMQP 0-9-1 over TLS",
        "http" => "HTTP API",
        "https" => "HTTP API over TLS (HTTPS)",
        "http/prometheus" => "Prometheus exporter API over HTTP",
        "https/prometheus" => "Prometheus exporter API over TLS (HTTPS)",
        "clustering" => "inter-node and CLI tool communication",
        _ => "",
    };
    let interface = |interface: &str| {
        if interface.contains(':') {
            format!("[{interface}]")
        } else {
            interface.to_owned()
        }
    };
    let show = |listener: &Listener| {
        json!({
            "interface": interface(&listener.interface),
            "node": node.name,
            "port": listener.port,
            "protocol": listener.protocol,
            "purpose": purpose(listener.protocol),
        })
    };
    node.listeners.iter().map(show).collect()
}
