//! Which tag opens which route, and which permissions a request needs besides.
//!
//! Two layers, as in RabbitMQ. The class of a route looks at tags and at access to the virtual host in
//! the path. What a request then does to queues, exchanges and messages needs the same permissions as
//! over AMQP, for administrators too. Refusals are 401, never 403.

use broker::Name;
use broker::metadata::Tables;
use broker::permission::{self, Resource, Right};

use crate::error::Error;
use crate::identity::Identity;

/// What a route asks of whoever calls it. A virtual host in the path that does not exist passes every
/// check: the answer is 404 then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Nothing, not even a password.
    Open,
    /// Any of the four tags.
    Management,
    /// The tag `monitoring` or `administrator`.
    Monitoring,
    /// A permission in the virtual host, or `administrator`.
    Vhost,
    /// As [`Access::Vhost`], but `monitoring` sees all virtual hosts.
    VhostVisible,
    /// The tag `policymaker` and a permission in the virtual host, or `administrator`.
    VhostPolicymaker,
    /// The tag `policymaker` or `administrator`.
    Policymaker,
    /// Any tag here; the handler admits the owner of the object, and others by tag.
    Owner,
    /// The tag `administrator`.
    Administrator,
    /// Nobody but the operator; for others the route does not exist.
    Operator,
}

impl Access {
    /// Says yes, or why not. `vhost` is the one named in the path.
    pub(crate) fn check(
        self,
        who: &Identity,
        vhost: Option<&str>,
        tables: &Tables,
    ) -> Result<(), Error> {
        let Identity::User { name, .. } = who else {
            return Ok(());
        };
        let may_enter = || {
            vhost.is_none_or(|vhost| {
                !tables.vhosts.contains_key(vhost)
                    || permission::vhost_access(tables, name, vhost).is_ok()
            })
        };
        let (allowed, reason) = match self {
            Access::Open | Access::Management | Access::Owner => (true, ""),
            Access::Monitoring => (who.is_monitor(), "Not monitor user"),
            Access::Vhost => (who.is_administrator() || may_enter(), NO_VHOST),
            Access::VhostVisible => (who.is_monitor() || may_enter(), NO_VHOST),
            Access::VhostPolicymaker => (
                who.is_administrator() || (who.is_policymaker() && may_enter()),
                "User not authorised to access object",
            ),
            Access::Policymaker => (who.is_policymaker(), "User not authorised to access object"),
            Access::Administrator => (who.is_administrator(), "Not administrator user"),
            Access::Operator => return Err(Error::object_not_found()),
        };
        if allowed {
            Ok(())
        } else {
            Err(Error::not_authorised(reason))
        }
    }
}

const NO_VHOST: &str = "User not authorised to access virtual host";

/// Checks that `who` may see or (`write`) close an object of `owner`.
pub(crate) fn check_owner(who: &Identity, owner: &str, write: bool) -> Result<(), Error> {
    let by_tag = if write {
        who.is_administrator()
    } else {
        who.is_monitor()
    };
    if by_tag || who.user().is_some_and(|name| **name == *owner) {
        Ok(())
    } else {
        Err(Error::not_authorised(
            "User not authorised to access object",
        ))
    }
}

/// Checks an AMQP permission.
pub(crate) fn check_right(
    who: &Identity,
    tables: &Tables,
    vhost: &str,
    right: Right,
    resource: Resource<'_>,
) -> Result<(), Error> {
    let Some(user) = who.user() else {
        return Ok(());
    };
    permission::access(tables, user, vhost, right, resource).map_err(Error::access_refused)
}

/// Checks a routing key, where the exchange is of type topic.
pub(crate) fn check_topic(
    who: &Identity,
    tables: &Tables,
    vhost: &str,
    right: Right,
    exchange: &Name,
    routing_key: &[u8],
) -> Result<(), Error> {
    let Some(user) = who.user() else {
        return Ok(());
    };
    let is_topic = tables
        .exchange(vhost, exchange)
        .is_some_and(|exchange| exchange.kind.is_topic());
    if !is_topic {
        return Ok(());
    }
    permission::topic_access(tables, user, vhost, right, exchange, routing_key)
        .map_err(Error::access_refused)
}

/// The virtual hosts that `who` may know of, in order of name.
pub(crate) fn is_visible(who: &Identity, tables: &Tables, vhost: &str) -> bool {
    who.is_monitor() || may_enter(who, tables, vhost)
}

/// Whether `who` may see what is in a virtual host: its queues, exchanges and bindings.
pub(crate) fn is_readable(who: &Identity, tables: &Tables, vhost: &str) -> bool {
    who.is_administrator() || may_enter(who, tables, vhost)
}

fn may_enter(who: &Identity, tables: &Tables, vhost: &str) -> bool {
    who.user()
        .is_none_or(|user| permission::vhost_access(tables, user, vhost).is_ok())
}
