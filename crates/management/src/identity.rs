//! Who asks: a user of the broker with its tags, or the operator who came over the node port.
//!
//! Invariant: the operator's identity is set by the server alone, as a request extension. Nothing in
//! a request's bytes can make it.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::Name;

use crate::error::Error;
use crate::node::{Login, Node};

/// Who asks. The server inserts [`Identity::Operator`] into the extensions of requests that came over
/// the node port; everybody else is asked for a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// May do everything, without a password and without permissions.
    Operator,
    /// A user of the broker.
    User { name: Name, tags: Tags },
}

/// The address a request came from, as a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The tags of a user that mean something to the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    pub administrator: bool,
    pub monitoring: bool,
    pub policymaker: bool,
    pub management: bool,
}

impl Tags {
    /// Picks the known tags; others give nothing.
    #[must_use]
    pub fn of(names: &[Name]) -> Tags {
        let has = |tag: &str| names.iter().any(|name| **name == *tag);
        Tags {
            administrator: has("administrator"),
            monitoring: has("monitoring"),
            policymaker: has("policymaker"),
            management: has("management"),
        }
    }

    /// May use the API at all.
    const fn any(self) -> bool {
        self.administrator || self.monitoring || self.policymaker || self.management
    }
}

impl Identity {
    /// Finds out who sent a request with these headers.
    pub(crate) async fn authenticate(
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        node: &dyn Node,
    ) -> Result<Identity, Error> {
        let (user, password) = basic(headers).ok_or_else(Error::login_failed)?;
        match node.authenticate(&user, &password, peer).await {
            Login::Accepted => {}
            Login::Refused => return Err(Error::login_failed()),
            Login::LoopbackOnly => {
                return Err(Error::not_authorised("User can only log in via localhost"));
            }
        }
        let tables = node.tables();
        let Some(user) = tables.users.get(user.as_str()) else {
            return Err(Error::login_failed());
        };
        let tags = Tags::of(&user.tags);
        if !tags.any() {
            return Err(Error::not_authorised("Not management user"));
        }
        Ok(Identity::User {
            name: Name::clone(&user.name),
            tags,
        })
    }

    /// The user's name; `None` for the operator.
    pub(crate) const fn user(&self) -> Option<&Name> {
        match self {
            Identity::Operator => None,
            Identity::User { name, .. } => Some(name),
        }
    }

    pub(crate) const fn is_administrator(&self) -> bool {
        match self {
            Identity::Operator => true,
            Identity::User { tags, .. } => tags.administrator,
        }
    }

    /// Sees other users' connections and all virtual hosts.
    pub(crate) const fn is_monitor(&self) -> bool {
        match self {
            Identity::Operator => true,
            Identity::User { tags, .. } => tags.administrator || tags.monitoring,
        }
    }

    pub(crate) const fn is_policymaker(&self) -> bool {
        match self {
            Identity::Operator => true,
            Identity::User { tags, .. } => tags.administrator || tags.policymaker,
        }
    }
}

/// User and password of a Basic authorization header.
fn basic(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(credentials.trim()).ok()?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(bytes[..colon].to_vec()).ok()?;
    Some((user, bytes[colon + 1..].to_vec()))
}
