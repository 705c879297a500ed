//! Everything that is not a good answer, and the one place where refusals become HTTP.
//!
//! The body is RabbitMQ's: `{"error": <kind>, "reason": <text or list>}`. Reasons name what is at
//! fault; texts of the metadata pass through unchanged, except that those of validations are escaped
//! for HTML, since browsers show them.

use std::fmt;

use axum::http::StatusCode;
use broker::metadata::Refusal;
use broker::permission::Refused;
use serde_json::{Value as Json, json};

use crate::host::HostFailure;
use crate::node::Failure;

/// An answer with a status of 400 or more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Error {
    pub(crate) status: StatusCode,
    /// The value of `error`.
    pub(crate) kind: &'static str,
    pub(crate) reason: Json,
    /// Asks the client for a password.
    pub(crate) challenge: bool,
    /// Further fields of the body.
    pub(crate) more: Vec<(&'static str, Json)>,
}

impl Error {
    fn new(status: StatusCode, kind: &'static str, reason: impl Into<Json>) -> Error {
        Error {
            status,
            kind,
            reason: reason.into(),
            challenge: false,
            more: Vec::new(),
        }
    }

    /// No password, or a wrong one.
    pub(crate) fn login_failed() -> Error {
        let error = Error::new(StatusCode::UNAUTHORIZED, "not_authorized", "Login failed");
        Error {
            challenge: true,
            ..error
        }
    }

    /// The user is known and may not do this.
    pub(crate) fn not_authorised(reason: &str) -> Error {
        Error::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// An AMQP permission is missing.
    pub(crate) fn access_refused(refused: Refused) -> Error {
        Error::not_authorised(&format!("ACCESS_REFUSED - {}", refused.0))
    }

    /// The object in the path does not exist.
    pub(crate) fn object_not_found() -> Error {
        Error::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// Something that the request needs does not exist.
    pub(crate) fn not_found(reason: impl fmt::Display) -> Error {
        Error::new(StatusCode::NOT_FOUND, "not_found", reason.to_string())
    }

    /// The request is at fault.
    pub(crate) fn bad_request(reason: impl Into<Json>) -> Error {
        Error::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// A value that RabbitMQ validates is not valid.
    pub(crate) fn invalid(reason: &str) -> Error {
        Refusal::Invalid(format!("Validation failed\n\n{reason}\n")).into()
    }

    /// The query is at fault in a way that has a name of its own (`page_out_of_range`).
    pub(crate) fn bad_query(kind: &'static str, reason: String) -> Error {
        Error::new(StatusCode::BAD_REQUEST, kind, reason)
    }

    /// A field that the body must have is not there.
    pub(crate) fn key_missing(key: &str) -> Error {
        Error::bad_request(format!("[{{key_missing,{key}}}]"))
    }

    /// The method is not served on this path. The router adds the header that lists those that are.
    pub(crate) fn method_not_allowed() -> Error {
        Error::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method Not Allowed",
        )
    }

    fn unavailable(reason: String) -> Error {
        Error::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            reason,
        )
    }

    /// Adds a field to the body.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Json>) -> Error {
        self.more.push((key, value.into()));
        self
    }

    /// The body.
    pub(crate) fn to_json(&self) -> Json {
        let mut body = json!({"error": self.kind, "reason": self.reason});
        for (key, value) in &self.more {
            body[*key] = value.clone();
        }
        body
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Unavailable(reason) => Error::unavailable(reason),
            Failure::Closed(code, text) => Error::bad_request(format!("{code} {text}")),
            Failure::Rejected => {
                Error::bad_request("rejected Unable to publish message. Check queue limits.")
            }
            Failure::Host(failure) => failure.into(),
        }
    }
}

/// The body has `exit_code` besides, for `ctl` to end with.
impl From<HostFailure> for Error {
    fn from(failure: HostFailure) -> Error {
        let status = match &failure {
            HostFailure::AppStopped
            | HostFailure::Temporary(_)
            | HostFailure::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            HostFailure::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Error::new(status, failure.tag(), failure.to_string())
            .with("exit_code", failure.exit_code())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::NoSuchVhost(_) => Error::not_found("vhost_not_found"),
            Refusal::NoSuchUser(name) => Error::not_found(format!("no user '{name}'")),
            Refusal::NoSuchExchange { vhost, name } => {
                Error::not_found(format!("no exchange '{name}' in vhost '{vhost}'"))
            }
            Refusal::NoSuchQueue { vhost, name } => {
                Error::not_found(format!("no queue '{name}' in vhost '{vhost}'"))
            }
            Refusal::NoSuchParameter | Refusal::NoSuchPolicy(_) => Error::object_not_found(),
            Refusal::UserExists(name) => {
                Error::bad_request(format!("user '{name}' already exists"))
            }
            Refusal::Invalid(text) => Error::bad_request(escape_html(&text)),
            Refusal::Inequivalent(text)
            | Refusal::InvalidArgument(text)
            | Refusal::NotImplemented(text)
            | Refusal::InUse(text)
            | Refusal::LimitReached(text) => Error::bad_request(text),
            Refusal::ExclusiveOwner { vhost, name } => Error::bad_request(format!(
                "cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'"
            )),
            Refusal::UnknownExchangeType(name) => {
                Error::bad_request(format!("unknown exchange type '{name}'"))
            }
            Refusal::AccessRefused(text) => {
                Error::not_authorised(&format!("ACCESS_REFUSED - {text}"))
            }
            Refusal::InconsistentCluster(text) => Error::bad_request(text),
            Refusal::NoSuchNode(node) => Error::not_found(format!("no node with number {node}")),
            Refusal::NodeIsUp(name) => Error::bad_request(format!(
                "node '{name}' is running: it must be stopped before it can be removed"
            )),
            Refusal::OnlyDiscNode(name) => Error::bad_request(format!(
                "node '{name}' is the only disc node of the cluster"
            )),
            Refusal::StaleIncarnation { incarnation } => Error::bad_request(format!(
                "that life of the node has ended; the last one is number {incarnation}"
            )),
            Refusal::StaleView { epoch } => Error::bad_request(format!(
                "the view of the queue has changed meanwhile: its epoch is {epoch}"
            )),
            Refusal::QueueGone(_) => Error::object_not_found(),
            Refusal::LastCopies { queues, total } => Error::bad_request(last_copies(&queues, total)),
        }
    }
}

fn last_copies(queues: &[String], total: u64) -> String {
    let more = total.saturating_sub(queues.len() as u64);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let queues = queues.join(", ");
    format!("the node holds the last copy in sync of {queues}{more}: it is forgotten only by force")
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
