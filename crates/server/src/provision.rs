//! What the configuration adds to a command before it is proposed, and what it forbids.
//!
//! A new virtual host comes with the limits, operator policies, users and queue type that the configuration has
//! for its name; all in one entry of the log, so that nobody ever sees it without. Virtual hosts, queues and
//! exchanges are counted against the limits of the cluster. The count is of the tables as they are here: of
//! several nodes that ask at once, each may add one more.

use std::collections::BTreeSet;
use std::sync::Arc;

use amqp::{ShortStr, Table, Value};
use broker::Name;
use broker::metadata::{
    Command, Hints, Outcome, PolicyKind, PolicySpec, Refusal, Tables, UserSpec, VhostSpec, check_durations,
};
use broker::permission::Pattern;
use broker::user::Hashing;

use crate::config::{Access, Config, CredentialValidator, DefaultPolicy, DefaultUser, PasswordHashing, PolicyValue, QueueType};
use crate::node::Node;
use crate::{clock, load};

/// Which of the answers to the command that is proposed answer the one that was asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    /// The answer as it is.
    Whole,
    /// The first of a batch.
    First,
    /// Those of a batch at these places.
    Places(Vec<usize>),
}

impl Asked {
    /// Leaves out what nobody asked for.
    pub(crate) fn answer(self, outcome: Outcome) -> Result<Outcome, Refusal> {
        match (self, outcome) {
            (Asked::First, Outcome::Batch(answers)) => answers.into_iter().next().unwrap_or(Ok(Outcome::Done)),
            (Asked::Places(places), Outcome::Batch(answers)) => {
                let own = answers.into_iter().enumerate().filter(|(place, _)| places.contains(place));
                Ok(Outcome::Batch(own.map(|(_, answer)| answer).collect()))
            }
            (_, outcome) => Ok(outcome),
        }
    }
}

/// The command with what the configuration adds, or why it may not be proposed.
pub(crate) fn complete(node: &Node, command: Command) -> Result<(Command, Asked), Refusal> {
    let tables = node.tables.load();
    let mut provision = Provision { node, config: &node.config, tables: &tables, added: Added::default() };
    match command {
        Command::Batch(commands) => {
            let mut all = Vec::with_capacity(commands.len());
            let mut places = Vec::with_capacity(commands.len());
            let count = commands.len();
            for command in commands {
                places.push(all.len());
                provision.add(command, &mut all)?;
            }
            let asked = if all.len() == count { Asked::Whole } else { Asked::Places(places) };
            Ok((Command::Batch(all), asked))
        }
        command => {
            let mut all = Vec::with_capacity(1);
            provision.add(command, &mut all)?;
            match all.pop() {
                Some(only) if all.is_empty() => Ok((only, Asked::Whole)),
                last => {
                    all.extend(last);
                    Ok((Command::Batch(all), Asked::First))
                }
            }
        }
    }
}

/// The policy that `cluster_nodes.disc_copies` stands for.
const DISC_COPIES: &str = "legacy-disc-copies";

/// Has the queues that `cluster_nodes.disc_copies` names mirrored on all nodes, as far as no policy says
/// anything else of them.
pub(crate) async fn mirror_disc_copies(node: Arc<Node>) {
    let names = &node.config.cluster.disc_copies;
    if names.is_empty() {
        return;
    }
    tracing::warn!("cluster_nodes.disc_copies is set as policy '{DISC_COPIES}': policies say more, and can be changed while nodes run");
    let names: Vec<String> = names.iter().map(|name| regex::escape(name)).collect();
    let text = |text: &str| Value::LongStr(text.as_bytes().to_vec());
    let policy = PolicySpec {
        name: DISC_COPIES.into(),
        pattern: format!("^({})$", names.join("|")),
        apply_to: "queues".into(),
        // Whatever else matches comes first.
        priority: i64::from(i32::MIN),
        definition: [("ha-mode", "all"), ("ha-sync-mode", "automatic")]
            .into_iter()
            .map(|(key, value)| (ShortStr::truncated(key), text(value)))
            .collect(),
    };
    let vhost: Name = node.config.access.default_vhost.as_str().into();
    let tables = node.tables.load_full();
    let present = tables.vhosts.get(&vhost).and_then(|vhost| vhost.policies.get(&policy.name));
    if present.is_some_and(|present| present.spec == policy) {
        return;
    }
    if let Err(error) = node.propose(Command::SetPolicy { vhost, kind: PolicyKind::User, policy }).await {
        tracing::error!("policy '{DISC_COPIES}' could not be set: {error}");
    }
}

/// Whether a password is good enough, or else what it has to be, in RabbitMQ's words.
pub(crate) fn check_password(validator: &CredentialValidator, password: &str) -> Result<(), String> {
    match validator {
        CredentialValidator::AcceptEverything => Ok(()),
        CredentialValidator::MinLength(min) if password.len() >= *min => Ok(()),
        CredentialValidator::MinLength(min) => Err(format!("minimum required password length: {min}")),
        CredentialValidator::Regexp(source) if matches(source, password) => Ok(()),
        CredentialValidator::Regexp(_) => {
            Err("provided password does not match the validator regular expression".to_owned())
        }
    }
}

/// How new passwords are hashed.
pub(crate) fn hashing(access: &Access) -> Hashing {
    match access.password_hashing_module {
        PasswordHashing::Sha256 => Hashing::Sha256,
        PasswordHashing::Sha512 => Hashing::Sha512,
        PasswordHashing::Md5 => Hashing::Md5,
    }
}

/// What one command, or the commands of a batch before, would add to the tables.
#[derive(Default)]
struct Added {
    vhosts: BTreeSet<Name>,
    queues: u64,
    exchanges: u64,
}

struct Provision<'a> {
    node: &'a Node,
    config: &'a Config,
    tables: &'a Tables,
    added: Added,
}

impl Provision<'_> {
    /// A declaration with what its placement needs: a draw, and who has the least to do where the strategy
    /// asks for that.
    fn place(&self, command: Command) -> Command {
        let Command::DeclareQueue { vhost, spec } = command else { return command };
        let (default_locator, draw) = (self.config.queues.locator().name(), clock::random());
        let hints = Hints { draw, suggestion: None, default_locator };
        let suggestion = self.tables.least_loaded(&vhost, &spec, hints, |member| load::of(self.node, member));
        Command::PlaceQueue { vhost, spec, draw, suggestion, default_locator: default_locator.to_owned() }
    }

    fn add(&mut self, mut command: Command, to: &mut Vec<Command>) -> Result<(), Refusal> {
        match &mut command {
            Command::PutVhost(spec)
                if !self.tables.vhosts.contains_key(&spec.name) && self.added.vhosts.insert(spec.name.clone()) =>
            {
                self.check_vhosts(&spec.name)?;
                self.set_queue_type(spec);
                let name = spec.name.clone();
                to.push(command);
                self.furnish(&name, to);
                return Ok(());
            }
            Command::DeclareQueue { vhost, spec } => {
                let known = self.tables.vhosts.get(vhost);
                if known.is_none_or(|known| !known.queues.contains_key(&spec.name)) {
                    check_durations(vhost, &spec.name, &spec.arguments)?;
                    self.check_queues(&spec.name)?;
                }
                to.push(self.place(command));
                return Ok(());
            }
            Command::DeclareExchange { vhost, spec } => {
                let vhost = self.tables.vhosts.get(vhost);
                if vhost.is_none_or(|vhost| !vhost.exchanges.contains_key(&spec.name)) {
                    self.check_exchanges(&spec.name)?;
                }
            }
            _ => {}
        }
        to.push(command);
        Ok(())
    }

    fn check_vhosts(&self, name: &str) -> Result<(), Refusal> {
        let count = (self.tables.vhosts.size() + self.added.vhosts.len()) as u64;
        match self.config.limits.vhost_max {
            Some(max) if count > max => {
                Err(Refusal::LimitReached(format!("cannot create vhost '{name}': vhost limit of {max} is reached")))
            }
            _ => Ok(()),
        }
    }

    fn check_queues(&mut self, name: &str) -> Result<(), Refusal> {
        self.added.queues += 1;
        match self.config.limits.cluster_queue_limit {
            Some(max) if self.tables.queues.size() as u64 + self.added.queues > max => Err(Refusal::LimitReached(
                format!("cannot declare queue '{name}': queue limit in cluster ({max}) is reached"),
            )),
            _ => Ok(()),
        }
    }

    fn check_exchanges(&mut self, name: &str) -> Result<(), Refusal> {
        self.added.exchanges += 1;
        let Some(max) = self.config.limits.cluster_exchange_limit else { return Ok(()) };
        let count: usize = self.tables.vhosts.values().map(|vhost| vhost.exchanges.size()).sum();
        if count as u64 + self.added.exchanges <= max {
            return Ok(());
        }
        Err(Refusal::LimitReached(format!(
            "cannot declare exchange '{name}': exchange limit in cluster ({max}) is reached"
        )))
    }

    fn set_queue_type(&self, spec: &mut VhostSpec) {
        let name = match self.config.queues.default_queue_type {
            QueueType::Classic => return,
            QueueType::Quorum => "quorum",
            QueueType::Stream => "stream",
        };
        spec.default_queue_type.get_or_insert_with(|| name.into());
    }

    /// What a new virtual host comes with.
    fn furnish(&self, vhost: &Name, to: &mut Vec<Command>) {
        let access = &self.config.access;
        for limit in access.default_limits.iter().filter(|limit| matches(&limit.pattern, vhost)) {
            let values = [("max-connections", limit.max_connections), ("max-queues", limit.max_queues)];
            let values = values.into_iter().filter_map(|(name, max)| Some((name.into(), i64::try_from(max?).ok()?)));
            to.push(Command::SetVhostLimits { vhost: vhost.clone(), limits: values.collect() });
        }
        for policy in access.default_policies.iter().filter(|policy| matches(&policy.vhost_pattern, vhost)) {
            let policy = operator_policy(policy);
            to.push(Command::SetPolicy { vhost: vhost.clone(), kind: PolicyKind::Operator, policy });
        }
        for user in access.default_users.iter().filter(|user| matches(&user.vhost_pattern, vhost)) {
            to.extend(granted(user, vhost, hashing(access)));
        }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    // The configuration has been refused if it is no pattern.
    Pattern::compile(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

fn operator_policy(policy: &DefaultPolicy) -> PolicySpec {
    let mut definition = Table::new();
    for (name, value) in &policy.definition {
        let text = |text: &String| Value::LongStr(text.clone().into_bytes());
        let value = match value {
            PolicyValue::Number(number) => Value::I64(i64::try_from(*number).unwrap_or(i64::MAX)),
            PolicyValue::Text(word) => text(word),
            PolicyValue::List(words) => Value::Array(words.iter().map(text).collect()),
        };
        definition.insert(ShortStr::truncated(name), value);
    }
    PolicySpec {
        name: policy.id.as_str().into(),
        pattern: policy.queue_pattern.clone(),
        apply_to: policy.apply_to.as_str().into(),
        priority: 0,
        definition,
    }
}

/// The user, unless there is one of that name, and its rights.
fn granted(user: &DefaultUser, vhost: &Name, hashing: Hashing) -> [Command; 2] {
    let salt = (clock::random() as u32).to_be_bytes();
    // Without a password nobody can log in by one.
    let hash = user.password.as_ref().map(|password| hashing.hash(salt, password.as_bytes()));
    let name: Name = user.name.as_str().into();
    [
        Command::PutUser(UserSpec {
            name: name.clone(),
            password_hash: hash.unwrap_or_default(),
            hashing_algorithm: hashing.name().into(),
            tags: user.tags.iter().map(|tag| tag.as_str().into()).collect(),
            create_only: true,
        }),
        Command::SetPermission {
            vhost: vhost.clone(),
            user: name,
            configure: user.permissions.configure.clone(),
            write: user.permissions.write.clone(),
            read: user.permissions.read.clone(),
        },
    ]
}
