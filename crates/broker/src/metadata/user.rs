//! Users of the internal database.

use std::sync::Arc;

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Declared, Outcome, Refusal, UserSpec};
use crate::id::Name;
use crate::user::{Hashing, User, UserLimits};

impl Metadata {
    pub(super) fn put_user(&mut self, spec: &UserSpec, changes: &mut Vec<Change>) -> Answer {
        if spec.name.is_empty() {
            return Err(Refusal::Invalid("the name of a user is empty".into()));
        }
        if Hashing::by_name(&spec.hashing_algorithm).is_none() {
            let unknown = &spec.hashing_algorithm;
            return Err(Refusal::Invalid(format!(
                "unknown hashing algorithm '{unknown}'"
            )));
        }
        let old = self.tables.users.get(&spec.name);
        if spec.create_only && old.is_some() {
            return Err(Refusal::UserExists(Name::clone(&spec.name)));
        }
        let created = old.is_none();
        let user = User {
            name: Name::clone(&spec.name),
            password_hash: spec.password_hash.clone(),
            hashing_algorithm: Name::clone(&spec.hashing_algorithm),
            tags: spec.tags.clone(),
            limits: old.map_or_else(UserLimits::default, |old| old.limits.clone()),
        };
        self.tables_mut()
            .users
            .insert_mut(Name::clone(&spec.name), Arc::new(user));
        if !created {
            changes.push(Change::RightsChanged);
        }
        Ok(Outcome::Declared(Declared {
            created,
            queue: None,
        }))
    }

    pub(super) fn set_user_tags(
        &mut self,
        user: &Name,
        tags: &[Name],
        changes: &mut Vec<Change>,
    ) -> Answer {
        self.user(user)?;
        self.user_mut(user).tags = tags.to_vec();
        changes.push(Change::RightsChanged);
        Ok(Outcome::Done)
    }

    pub(super) fn delete_user(&mut self, user: &Name, changes: &mut Vec<Change>) -> Answer {
        self.user(user)?;
        let vhosts: Vec<Name> = self.tables.vhosts.keys().cloned().collect();
        for vhost in &vhosts {
            self.withdraw_all(vhost, user);
        }
        self.tables_mut().users.remove_mut(user);
        changes.push(Change::UserDeleted(Name::clone(user)));
        changes.push(Change::RightsChanged);
        Ok(Outcome::Deleted { existed: true })
    }

    pub(super) fn user(&self, name: &Name) -> Result<&Arc<User>, Refusal> {
        self.tables
            .users
            .get(name)
            .ok_or_else(|| Refusal::NoSuchUser(Name::clone(name)))
    }

    /// A user who is known to be there, to be changed.
    pub(super) fn user_mut(&mut self, name: &Name) -> &mut User {
        let user = self.tables_mut().users.get_mut(name);
        Arc::make_mut(user.expect("the caller has looked the user up"))
    }
}
