//! Permissions and topic permissions.

use std::sync::Arc;

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Outcome, Refusal};
use crate::id::Name;
use crate::permission::{BadPattern, Pattern, Permission, TopicPermission};

impl Metadata {
    pub(super) fn set_permission(
        &mut self,
        vhost: &Name,
        user: &Name,
        [configure, write, read]: [&String; 3],
        changes: &mut Vec<Change>,
    ) -> Answer {
        self.vhost(vhost)?;
        self.user(user)?;
        let permission = Permission {
            user: Name::clone(user),
            vhost: Name::clone(vhost),
            configure: compile(configure)?,
            write: compile(write)?,
            read: compile(read)?,
        };
        let permissions = &mut self.vhost_mut(vhost).permissions;
        permissions.insert_mut(Name::clone(user), Arc::new(permission));
        changes.push(Change::RightsChanged);
        Ok(Outcome::Done)
    }

    pub(super) fn clear_permission(
        &mut self,
        vhost: &Name,
        user: &Name,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let existed = self.vhost(vhost)?.permissions.contains_key(user);
        self.user(user)?;
        if existed {
            self.vhost_mut(vhost).permissions.remove_mut(user);
            changes.push(Change::RightsChanged);
        }
        Ok(Outcome::Deleted { existed })
    }

    pub(super) fn set_topic_permission(
        &mut self,
        vhost: &Name,
        user: &Name,
        exchange: &Name,
        [write, read]: [&String; 2],
        changes: &mut Vec<Change>,
    ) -> Answer {
        self.vhost(vhost)?;
        self.user(user)?;
        // Compiled as written first, so that the text names the pattern that is wrong.
        compile(write)?;
        compile(read)?;
        let permission = TopicPermission::compile(
            Name::clone(user),
            Name::clone(vhost),
            Name::clone(exchange),
            write.clone(),
            read.clone(),
        )
        .map_err(|error| refusal(write, &error))?;
        let key = (Name::clone(user), Name::clone(exchange));
        self.vhost_mut(vhost)
            .topic_permissions
            .insert_mut(key, Arc::new(permission));
        changes.push(Change::RightsChanged);
        Ok(Outcome::Done)
    }

    pub(super) fn clear_topic_permission(
        &mut self,
        vhost: &Name,
        user: &Name,
        exchange: Option<&Name>,
        changes: &mut Vec<Change>,
    ) -> Answer {
        self.vhost(vhost)?;
        self.user(user)?;
        let existed = self.withdraw_topics(vhost, user, exchange);
        if existed {
            changes.push(Change::RightsChanged);
        }
        Ok(Outcome::Deleted { existed })
    }

    /// Takes every permission in a virtual host from a user.
    pub(super) fn withdraw_all(&mut self, vhost: &Name, user: &Name) {
        if self
            .tables
            .vhosts
            .get(vhost)
            .is_some_and(|v| v.permissions.contains_key(user))
        {
            self.vhost_mut(vhost).permissions.remove_mut(user);
        }
        self.withdraw_topics(vhost, user, None);
    }

    fn withdraw_topics(&mut self, vhost: &Name, user: &Name, exchange: Option<&Name>) -> bool {
        let Some(found) = self.tables.vhosts.get(vhost) else {
            return false;
        };
        let first = (Name::clone(user), exchange.cloned().unwrap_or_default());
        let keys: Vec<(Name, Name)> = found
            .topic_permissions
            .range(first..)
            .map(|(key, _)| key)
            .take_while(|(u, x)| u == user && exchange.is_none_or(|exchange| x == exchange))
            .cloned()
            .collect();
        if keys.is_empty() {
            return false;
        }
        let permissions = &mut self.vhost_mut(vhost).topic_permissions;
        for key in &keys {
            permissions.remove_mut(key);
        }
        true
    }
}

fn compile(pattern: &str) -> Result<Pattern, Refusal> {
    Pattern::compile(pattern).map_err(|error| refusal(pattern, &error))
}

fn refusal(pattern: &str, error: &BadPattern) -> Refusal {
    Refusal::Invalid(format!("invalid regular expression '{pattern}': {error}"))
}
