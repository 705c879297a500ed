//! From the protocol header to `connection.open-ok`: who is it, and may it come in.

use std::sync::Arc;

use amqp::method::connection;
use amqp::{ConnectionError, Method, ShortStr, Table, Value};

use super::{Connection, ConnectionEffects, Context, DOOM, Note, State, capability};
use crate::user;

impl Connection {
    /// Reads the protocol header; an unknown one is answered with ours.
    pub(super) fn header(&mut self, context: &Context, bytes: &[u8]) -> usize {
        let seen = &bytes[..bytes.len().min(8)];
        let known = [*b"AMQP\0\0\x09\x01", *b"AMQP\x01\x01\0\x09", *b"AMQP\x01\x01\x08\0"];
        if !known.iter().any(|header| header.starts_with(seen)) {
            self.out.extend_from_slice(amqp::frame::PROTOCOL_HEADER);
            self.state = State::Closed;
            return bytes.len();
        }
        if seen.len() < 8 {
            return 0;
        }
        let mut server_properties = self.limits.server_properties.clone();
        if let Some(name) = context.tables.cluster_name() {
            server_properties.insert(ShortStr::truncated("cluster_name"), Value::from(name));
        }
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties,
            mechanisms: self.mechanisms().into_bytes(),
            locales: b"en_US".to_vec(),
        };
        self.send(0, &start.into());
        self.state = State::Starting;
        8
    }

    fn mechanisms(&self) -> String {
        let offered = self.limits.mechanisms.iter();
        let offered: Vec<&str> =
            offered.copied().filter(|m| self.can_use(m)).collect();
        offered.join(" ")
    }

    /// Whether a mechanism can succeed at all.
    fn can_use(&self, mechanism: &str) -> bool {
        match mechanism {
            "EXTERNAL" => self.peer.certificate_name.is_some(),
            "ANONYMOUS" => self.limits.anonymous.is_some(),
            _ => true,
        }
    }

    pub(super) fn handshake(
        &mut self,
        context: &Context,
        method: Method,
        fx: &mut ConnectionEffects,
    ) -> Result<(), ConnectionError> {
        match (&self.state, method) {
            (State::Starting, Method::ConnectionStartOk(ok)) => self.start_ok(context, ok, fx),
            (State::Tuning, Method::ConnectionTuneOk(ok)) => self.tune_ok(&ok),
            (State::Opening, Method::ConnectionOpen(open)) => self.open(context, &open, fx),
            (_, method) => {
                Err(ConnectionError::command_invalid(format_args!("unexpected method {}", method.name())))
            }
        }
    }

    fn start_ok(
        &mut self,
        context: &Context,
        ok: connection::StartOk,
        fx: &mut ConnectionEffects,
    ) -> Result<(), ConnectionError> {
        self.client_properties = Arc::new(ok.client_properties);
        let mechanism = ok.mechanism.to_str_lossy().into_owned();
        let offered = self.mechanisms();
        let Some(mechanism) =
            self.limits.mechanisms.iter().copied().find(|m| *m == mechanism && offered.split(' ').any(|o| o == *m))
        else {
            return Err(ConnectionError::command_invalid(format_args!("unknown authentication mechanism '{mechanism}'")));
        };
        self.mechanism = mechanism;
        let login = match mechanism {
            "PLAIN" => plain(&ok.response),
            "AMQPLAIN" => amqplain(&ok.response),
            "ANONYMOUS" => self.limits.anonymous.clone().map(|(name, password)| (name, Some(password.into_bytes()))),
            _ => self.peer.certificate_name.clone().map(|name| (name, None)),
        };
        let Some((name, password)) = login else {
            return Err(ConnectionError::syntax_error("malformed authentication response"));
        };
        match self.authenticate(context, &name, password.as_deref()) {
            Ok(()) => {
                self.user = name.into();
                let tune = connection::Tune {
                    channel_max: self.limits.channel_max,
                    frame_max: self.limits.frame_max,
                    heartbeat: self.limits.heartbeat,
                };
                self.send(0, &tune.into());
                self.state = State::Tuning;
            }
            Err(reason) => {
                fx.notes.push(Note::LoginRefused { user: name, reason });
                self.refuse_login(context);
            }
        }
        Ok(())
    }

    fn authenticate(&self, context: &Context, name: &str, password: Option<&[u8]>) -> Result<(), &'static str> {
        let user = context.tables.users.get(name);
        match password {
            Some(password) if !user::authenticate(user.map(|u| &**u), password) => return Err("invalid credentials"),
            None if user.is_none() => return Err("no such user"),
            _ => {}
        }
        let loopback_only = self.limits.loopback_users.iter().any(|u| u == name);
        if loopback_only && !self.peer.address.ip().to_canonical().is_loopback() {
            return Err("user can only connect via localhost");
        }
        Ok(())
    }

    fn refuse_login(&mut self, context: &Context) {
        if capability(&self.client_properties, "authentication_failure_close") {
            let text = format!(
                "ACCESS_REFUSED - Login was refused using authentication mechanism {}. \
                 For details see the broker logfile.",
                self.mechanism
            );
            let close = connection::Close {
                reply_code: 403,
                reply_text: ShortStr::truncated(&text),
                class_id: 0,
                method_id: 0,
            };
            self.send(0, &close.into());
            self.state = State::Closing { until: context.now + DOOM };
        } else {
            self.state = State::Doomed { until: context.now + DOOM };
        }
    }

    fn tune_ok(&mut self, ok: &connection::TuneOk) -> Result<(), ConnectionError> {
        negotiated("frame_max", amqp::frame::FRAME_MIN_SIZE, self.limits.frame_max, ok.frame_max)?;
        negotiated("channel_max", 1, u32::from(self.limits.channel_max), u32::from(ok.channel_max))?;
        self.frame_max = ok.frame_max;
        self.channel_max = ok.channel_max;
        self.heartbeat = ok.heartbeat;
        self.state = State::Opening;
        Ok(())
    }

    fn open(
        &mut self,
        context: &Context,
        open: &connection::Open,
        fx: &mut ConnectionEffects,
    ) -> Result<(), ConnectionError> {
        let name = open.virtual_host.to_str_lossy().into_owned();
        let counts = self.counts.take().unwrap_or_default();
        if counts.node_max.is_some_and(|max| counts.of_node > max) {
            let max = counts.node_max.unwrap_or(0);
            return Err(ConnectionError::not_allowed(format_args!(
                "connection refused: node connection limit ({max}) is reached"
            )));
        }
        let Some(vhost) = context.tables.vhosts.get(name.as_str()) else {
            return Err(ConnectionError::not_allowed(format_args!("vhost {name} not found")));
        };
        if let Some(max) = vhost.limits.max_connections
            && counts.of_vhost >= max
        {
            return Err(ConnectionError::not_allowed(format_args!(
                "access to vhost '{name}' refused for user '{}': connection limit ({max}) is reached",
                self.user
            )));
        }
        let user = context.tables.users.get(&self.user);
        if let Some(max) = user.and_then(|u| u.limits.max_connections)
            && counts.of_user >= max
        {
            return Err(ConnectionError::not_allowed(format_args!(
                "connection refused for user '{}': user connection limit ({max}) is reached",
                self.user
            )));
        }
        if vhost.permissions.get(&self.user).is_none() {
            return Err(ConnectionError::not_allowed(format_args!(
                "access to vhost '{name}' refused for user '{}'",
                self.user
            )));
        }
        self.vhost = Arc::clone(&vhost.name);
        self.state = State::Running;
        self.send(0, &connection::OpenOk {}.into());
        fx.notes.push(Note::Authenticated);
        Ok(())
    }
}

/// RabbitMQ's rule for a tuned number: not below the minimum, and not above what the server offered.
fn negotiated(field: &str, min: u32, server: u32, client: u32) -> Result<(), ConnectionError> {
    if client != 0 && client < min {
        return Err(ConnectionError::not_allowed(format_args!(
            "negotiated {field} = {client} is lower than the minimum allowed value ({min})"
        )));
    }
    if server != 0 && (client == 0 || client > server) {
        return Err(ConnectionError::not_allowed(format_args!(
            "negotiated {field} = {client} is higher than the maximum allowed value ({server})"
        )));
    }
    Ok(())
}

/// RFC 4616: authorization id, authentication id and password, separated by NUL.
fn plain(response: &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    let mut parts = response.splitn(3, |b| *b == 0);
    let (_, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((String::from_utf8(name.to_vec()).ok()?, Some(password.to_vec())))
}

/// AMQPLAIN: a field table without its length, with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    let table = Table::decode(response).ok()?;
    let name = table.get("LOGIN").and_then(Value::as_str)?.to_owned();
    let password = table.get("PASSWORD").and_then(Value::as_bytes)?.to_vec();
    Some((name, Some(password)))
}
