//! Definitions in: a file becomes commands, stage by stage.
//!
//! Later stages need what earlier ones make, and a stage that is refused ends the import with what was
//! refused; stages before it stay, as in RabbitMQ. Within a stage everything is tried. Queues and
//! exchanges that exist stay as they are.

use broker::Name;
use broker::metadata::{
    Command, Destination, ExchangeSpec, Outcome as Applied, PolicyKind, QueueSpec, VhostSpec,
};
use broker::user::Hashing;
use serde_json::{Value as Json, json};

use crate::api::{limits, parameters, policies, tags_from_json, users, vhosts};
use crate::error::Error;
use crate::request::{Fields, Request};
use crate::value::{Object, arguments_from_json};

/// Commands in one entry of the log.
const BATCH_MAX: usize = 500;

/// Imports a file. With `target`, everything goes into that virtual host, and what belongs to no
/// virtual host is ignored.
pub(super) async fn apply(
    request: &Request,
    definitions: &Object,
    target: Option<&Name>,
) -> Result<(), Error> {
    let import = Import {
        request,
        definitions,
        target,
    };
    if target.is_none() {
        import.check_vhosts_are_named()?;
        import.stage("users", |user| import.user(user)).await?;
        import.stage("vhosts", Import::vhost).await?;
        import.stage("permissions", Import::permission).await?;
        import
            .stage("topic_permissions", Import::topic_permission)
            .await?;
        import
            .stage("global_parameters", Import::global_parameter)
            .await?;
    }
    import
        .stage("exchanges", |exchange| import.exchange(exchange))
        .await?;
    import
        .stage("parameters", |parameter| import.parameter(parameter))
        .await?;
    import
        .stage("policies", |policy| import.policy(policy))
        .await?;
    import.stage("queues", |queue| import.queue(queue)).await?;
    import
        .stage("bindings", |binding| import.binding(binding))
        .await
}

struct Import<'a> {
    request: &'a Request,
    definitions: &'a Object,
    target: Option<&'a Name>,
}

impl Import<'_> {
    /// A file of one virtual host cannot be imported as if it were of a whole cluster.
    fn check_vhosts_are_named(&self) -> Result<(), Error> {
        for section in ["queues", "exchanges", "bindings", "policies"] {
            let items = self.definitions.get(section).and_then(Json::as_array);
            if items
                .into_iter()
                .flatten()
                .any(|item| item.get("vhost").is_none())
            {
                return Err(Error::bad_request("invalid_definitions_file"));
            }
        }
        Ok(())
    }

    /// Imports one section of the file.
    async fn stage(
        &self,
        section: &str,
        read: impl Fn(&Object) -> Result<Vec<Command>, Error>,
    ) -> Result<(), Error> {
        let items = match self.definitions.get(section) {
            None | Some(Json::Null) => return Ok(()),
            Some(Json::Array(items)) => items,
            Some(_) => return Err(Error::bad_request(format!("{section} is not a list"))),
        };
        let mut commands = Vec::new();
        for item in items.iter().filter_map(Json::as_object) {
            commands.extend(read(item).map_err(|error| in_context(error, section, item))?);
        }
        for batch in commands.chunks(BATCH_MAX) {
            let applied = self
                .request
                .node()
                .propose(Command::Batch(batch.to_vec()))
                .await?;
            let Applied::Batch(answers) = applied else {
                continue;
            };
            if let Some(refusal) = answers.into_iter().find_map(Result::err) {
                return Err(as_bad_request(Error::from(refusal)));
            }
        }
        Ok(())
    }

    fn vhost_of(&self, item: &Object) -> Result<Name, Error> {
        match self.target {
            Some(target) => Ok(Name::clone(target)),
            None => item.text("vhost").map(Name::from),
        }
    }

    fn user(&self, item: &Object) -> Result<Vec<Command>, Error> {
        let name = item.text("name")?;
        let mut spec = users::spec_from_json(name, item, self.request.node())?;
        if !item.contains_key("hashing_algorithm") && self.is_older_than_3_6() {
            spec.hashing_algorithm = Name::from(Hashing::Md5.name());
        }
        let mut commands = vec![Command::PutUser(spec)];
        if let Some(limits) = item
            .get("limits")
            .filter(|limits| limits.as_object().is_some())
        {
            let limits = limits::limits_from_json(limits)?;
            if !limits.is_empty() {
                commands.push(Command::SetUserLimits {
                    user: Name::from(name),
                    limits,
                });
            }
        }
        Ok(commands)
    }

    /// Until 3.6 all hashes were MD5, and files did not say so.
    fn is_older_than_3_6(&self) -> bool {
        let version = self.definitions.get("rabbitmq_version");
        let version = version.or_else(|| self.definitions.get("rabbit_version"));
        let mut parts = version
            .and_then(Json::as_str)
            .unwrap_or_default()
            .split('.');
        let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
        matches!((next(), next()), (Some(major), Some(minor)) if (major, minor) < (3, 6))
    }

    fn vhost(item: &Object) -> Result<Vec<Command>, Error> {
        let none = Object::new();
        let metadata = item
            .get("metadata")
            .and_then(Json::as_object)
            .unwrap_or(&none);
        let text = |key: &str| match item.optional_text(key)? {
            Some(text) => Ok(Some(text)),
            None => metadata.optional_text(key),
        };
        let name = Name::from(item.text("name")?);
        let tags = item
            .get("tags")
            .or_else(|| metadata.get("tags"))
            .filter(|tags| !tags.is_null());
        let queue_type = text("default_queue_type")?.filter(|queue_type| *queue_type != "undefined");
        let queue_type = queue_type.map(|queue_type| {
            if vhosts::is_served(queue_type) {
                return queue_type;
            }
            tracing::warn!(
                "imported virtual host '{name}': its default queue type '{queue_type}' is not served, \
                 queues there are 'classic'"
            );
            "classic"
        });
        let spec = VhostSpec {
            name: Name::clone(&name),
            description: text("description")?.map(str::to_owned),
            tags: tags.map(tags_from_json).transpose()?,
            default_queue_type: queue_type.map(Name::from),
            tracing: item.boolean("tracing")?,
        };
        Ok(vec![Command::PutVhost(spec)])
    }

    fn permission(item: &Object) -> Result<Vec<Command>, Error> {
        Ok(vec![Command::SetPermission {
            vhost: Name::from(item.text("vhost")?),
            user: Name::from(item.text("user")?),
            configure: item.text("configure")?.to_owned(),
            write: item.text("write")?.to_owned(),
            read: item.text("read")?.to_owned(),
        }])
    }

    fn topic_permission(item: &Object) -> Result<Vec<Command>, Error> {
        Ok(vec![Command::SetTopicPermission {
            vhost: Name::from(item.text("vhost")?),
            user: Name::from(item.text("user")?),
            exchange: Name::from(item.text("exchange")?),
            write: item.text("write")?.to_owned(),
            read: item.text("read")?.to_owned(),
        }])
    }

    fn global_parameter(item: &Object) -> Result<Vec<Command>, Error> {
        Ok(vec![Command::SetGlobalParameter {
            name: Name::from(item.text("name")?),
            value: crate::value::value_from_json(item.required("value")?)?,
        }])
    }

    fn parameter(&self, item: &Object) -> Result<Vec<Command>, Error> {
        let (component, name) = (item.text("component")?, item.text("name")?);
        let vhost = self.vhost_of(item)?;
        let command =
            parameters::command_from_json(&vhost, component, name, item.required("value")?)?;
        Ok(vec![command])
    }

    fn policy(&self, item: &Object) -> Result<Vec<Command>, Error> {
        let policy = policies::spec_from_json(item.text("name")?, item)?;
        Ok(vec![Command::SetPolicy {
            vhost: self.vhost_of(item)?,
            kind: PolicyKind::User,
            policy,
        }])
    }

    fn exchange(&self, item: &Object) -> Result<Vec<Command>, Error> {
        let (vhost, name) = (self.vhost_of(item)?, Name::from(item.text("name")?));
        if self
            .request
            .node()
            .tables()
            .exchange(&vhost, &name)
            .is_some()
        {
            return Ok(Vec::new());
        }
        let spec = ExchangeSpec {
            name,
            kind: Name::from(item.text("type")?),
            durable: item.boolean("durable")?.unwrap_or(true),
            auto_delete: item.boolean("auto_delete")?.unwrap_or(false),
            internal: item.boolean("internal")?.unwrap_or(false),
            arguments: arguments(item)?,
        };
        Ok(vec![Command::DeclareExchange { vhost, spec }])
    }

    fn queue(&self, item: &Object) -> Result<Vec<Command>, Error> {
        let (vhost, name) = (self.vhost_of(item)?, Name::from(item.text("name")?));
        if self.request.node().tables().queue(&vhost, &name).is_some() {
            return Ok(Vec::new());
        }
        let spec = QueueSpec {
            name,
            durable: item.boolean("durable")?.unwrap_or(true),
            auto_delete: item.boolean("auto_delete")?.unwrap_or(false),
            exclusive: false,
            connection: None,
            arguments: arguments(item)?,
            node: self.request.node().name(),
        };
        Ok(vec![Command::DeclareQueue { vhost, spec }])
    }

    fn binding(&self, item: &Object) -> Result<Vec<Command>, Error> {
        let name = Name::from(item.text("destination")?);
        let destination = match item.text("destination_type")? {
            "queue" => Destination::Queue(name),
            "exchange" => Destination::Exchange(name),
            other => {
                return Err(Error::bad_request(json!([
                    "unknown_destination_type",
                    other
                ])));
            }
        };
        Ok(vec![Command::Bind {
            vhost: self.vhost_of(item)?,
            source: Name::from(item.text("source")?),
            destination,
            routing_key: item
                .optional_text("routing_key")?
                .unwrap_or_default()
                .as_bytes()
                .to_vec(),
            arguments: arguments(item)?,
        }])
    }
}

fn arguments(item: &Object) -> Result<amqp::Table, Error> {
    item.get("arguments")
        .map_or_else(|| Ok(amqp::Table::new()), arguments_from_json)
}

/// Says which entry of the file is at fault.
fn in_context(error: Error, section: &str, item: &Object) -> Error {
    let name = item.get("name").and_then(Json::as_str).unwrap_or("?");
    let reason = match &error.reason {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    Error::bad_request(format!("{reason} ({section}/{name})"))
}

/// Whatever the reason, it is the file that is at fault.
fn as_bad_request(error: Error) -> Error {
    if error.status == axum::http::StatusCode::SERVICE_UNAVAILABLE {
        return error;
    }
    Error::bad_request(error.reason)
}
