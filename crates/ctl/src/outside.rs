//! Everything a command needs from the world: the node, the terminal, the clock, other processes.
//! Tests put a small fake in its place.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cluster::handshake::HandshakeError;
use serde_json::Value as Json;

use crate::Refused;
use crate::cookie::{Found, NoCookie};
use crate::target::Target;

/// What is done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

/// A question to the node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// With `/api` in front and a query behind.
    pub(crate) path: String,
    pub(crate) body: Option<Json>,
    /// Why a connection is closed.
    pub(crate) reason: Option<String>,
}

/// The node's answer. The body is null when there is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Json,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trouble {
    /// The host has no address.
    Unresolved(String),
    /// Nothing listens there, or it cannot be reached.
    Unreachable(String),
    /// Somebody listens, but the handshake failed.
    Handshake(HandshakeError),
    /// Somebody listens, but does not complete the handshake.
    Silent,
    NoCookie(NoCookie),
    /// The connection broke after the handshake.
    Broken(String),
    /// The time of the command is up.
    TimedOut,
}

/// The world.
pub(crate) trait Outside {
    /// Connects to the node, both proving that they know the cookie, unless that is done.
    fn connect(
        &mut self,
        target: &Target,
        cookie: Result<Found, NoCookie>,
        limit: Option<Duration>,
    ) -> Result<(), Trouble>;

    /// Asks the node over that connection.
    fn ask(&mut self, request: &Request, limit: Option<Duration>) -> Result<Answer, Trouble>;

    /// Prints to standard output, as it is.
    fn print(&mut self, text: &str);

    /// Prints to standard error, as it is.
    fn complain(&mut self, text: &str);

    /// A line from standard input without its end; `None` at the end of the input.
    fn read_line(&mut self) -> Option<String>;

    /// All of standard input.
    fn read_all(&mut self) -> std::io::Result<Vec<u8>>;

    /// The variables of the environment.
    fn variables(&self) -> &BTreeMap<String, String>;

    /// The name of this machine, with its domain if it has one.
    fn host_name(&self) -> String;

    /// The number of this process.
    fn process(&self) -> u32;

    /// Whether a process of this machine runs.
    fn is_running(&self, process: u32) -> bool;

    /// Whether a TCP connection can be made.
    fn can_connect(&mut self, host: &str, port: u16, limit: Duration) -> bool;

    /// The addresses of a host.
    fn resolve(&mut self, host: &str) -> Vec<IpAddr>;

    /// Has a node of which no process runs give up another one.
    fn forget_offline(&mut self, own: &str, other: &str) -> Result<(), Refused>;

    /// Time since some moment in the past.
    fn now(&self) -> Duration;

    fn sleep(&mut self, span: Duration);
}
