//! Limits of virtual hosts and users. A negative number means: no limit.

use amqp::{ShortStr, Value};

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Outcome, Refusal};
use super::tables::VhostLimits;
use super::term::Pairs;
use crate::id::Name;
use crate::user::UserLimits;

trait Limits: Default {
    fn get_mut(&mut self, name: &str) -> Option<&mut Option<u64>>;
}

impl Limits for VhostLimits {
    fn get_mut(&mut self, name: &str) -> Option<&mut Option<u64>> {
        match name {
            "max-connections" => Some(&mut self.max_connections),
            "max-queues" => Some(&mut self.max_queues),
            _ => None,
        }
    }
}

impl Limits for UserLimits {
    fn get_mut(&mut self, name: &str) -> Option<&mut Option<u64>> {
        match name {
            "max-connections" => Some(&mut self.max_connections),
            "max-channels" => Some(&mut self.max_channels),
            _ => None,
        }
    }
}

impl Metadata {
    pub(super) fn set_vhost_limits(&mut self, vhost: &Name, limits: &[(Name, i64)]) -> Answer {
        let mut next = self.vhost(vhost)?.limits.clone();
        set(&mut next, limits, "limits")?;
        self.put_vhost_limits(vhost, next)
    }

    pub(super) fn clear_vhost_limits(&mut self, vhost: &Name, limit: Option<&Name>) -> Answer {
        let mut next = self.vhost(vhost)?.limits.clone();
        clear(&mut next, limit)?;
        self.put_vhost_limits(vhost, next)
    }

    fn put_vhost_limits(&mut self, vhost: &Name, limits: VhostLimits) -> Answer {
        if self.vhost(vhost)?.limits != limits {
            self.vhost_mut(vhost).limits = limits;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn set_user_limits(&mut self, user: &Name, limits: &[(Name, i64)]) -> Answer {
        let mut next = self.user(user)?.limits.clone();
        set(&mut next, limits, "user-limits")?;
        self.put_user_limits(user, next)
    }

    pub(super) fn clear_user_limits(&mut self, user: &Name, limit: Option<&Name>) -> Answer {
        let mut next = self.user(user)?.limits.clone();
        clear(&mut next, limit)?;
        self.put_user_limits(user, next)
    }

    fn put_user_limits(&mut self, user: &Name, limits: UserLimits) -> Answer {
        if self.user(user)?.limits != limits {
            self.user_mut(user).limits = limits;
        }
        Ok(Outcome::Done)
    }
}

fn set(next: &mut impl Limits, limits: &[(Name, i64)], what: &str) -> Result<(), Refusal> {
    let mut unknown = Vec::new();
    for (name, value) in limits {
        match next.get_mut(name) {
            Some(limit) => *limit = u64::try_from(*value).ok(),
            None => unknown.push((ShortStr::truncated(name), Value::from(*value))),
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown = Pairs(&unknown);
    Err(Refusal::Invalid(format!(
        "Validation failed\n\nUnrecognised terms {unknown} in {what}\n"
    )))
}

fn clear<L: Limits>(next: &mut L, limit: Option<&Name>) -> Result<(), Refusal> {
    match limit {
        None => *next = L::default(),
        // A limit that nobody knows was never set.
        Some(name) => *next.get_mut(name).ok_or(Refusal::NoSuchParameter)? = None,
    }
    Ok(())
}
