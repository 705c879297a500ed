//! Runtime parameters and global parameters.
//!
//! Policies and limits have their own commands, but travel as parameters in exported definitions; such
//! parameters are understood here and handed on.

use amqp::{Table, Value};

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Outcome, PolicyKind, PolicySpec, Refusal};
use super::tables::VhostLimits;
use crate::id::Name;

const LIMITS: &str = "vhost-limits";
const OPERATOR_POLICY: &str = "operator_policy";

impl Metadata {
    pub(super) fn set_parameter(
        &mut self,
        vhost: &Name,
        component: &Name,
        name: &Name,
        value: &Value,
        changes: &mut Vec<Change>,
    ) -> Answer {
        self.vhost(vhost)?;
        match &**component {
            "policy" => {
                let text = "policies may not be set using this method";
                return Err(Refusal::Invalid(text.to_owned()));
            }
            OPERATOR_POLICY => {
                let policy = policy_from(name, value)?;
                return self.set_policy(vhost, PolicyKind::Operator, &policy, changes);
            }
            LIMITS => {
                let limits = limits_from(name, value)?;
                self.clear_vhost_limits(vhost, None)?;
                return self.set_vhost_limits(vhost, &limits);
            }
            "federation-upstream" => require(table(name, value)?, name, &["uri"])?,
            "federation-upstream-set" if value.as_array().is_some() => {}
            "federation-upstream-set" => return Err(not_a_list(name, value)),
            "shovel" => require(table(name, value)?, name, &["src-uri", "dest-uri"])?,
            unknown => return Err(invalid(&format!("component {unknown} not found"))),
        }
        let key = (Name::clone(component), Name::clone(name));
        if self.vhost(vhost)?.parameters.get(&key) != Some(value) {
            self.vhost_mut(vhost)
                .parameters
                .insert_mut(key, value.clone());
        }
        Ok(Outcome::Done)
    }

    pub(super) fn clear_parameter(
        &mut self,
        vhost: &Name,
        component: &Name,
        name: &Name,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let found = self.vhost(vhost)?;
        match &**component {
            "policy" => {
                let text = "policies may not be cleared using this method";
                return Err(Refusal::Invalid(text.to_owned()));
            }
            OPERATOR_POLICY => {
                let answer = self.clear_policy(vhost, PolicyKind::Operator, name, changes);
                return answer.map_err(|_| Refusal::NoSuchParameter);
            }
            LIMITS if found.limits == VhostLimits::default() => {
                return Err(Refusal::NoSuchParameter);
            }
            LIMITS => {
                self.clear_vhost_limits(vhost, None)?;
                return Ok(Outcome::Deleted { existed: true });
            }
            _ => {}
        }
        let key = (Name::clone(component), Name::clone(name));
        if !found.parameters.contains_key(&key) {
            return Err(Refusal::NoSuchParameter);
        }
        self.vhost_mut(vhost).parameters.remove_mut(&key);
        Ok(Outcome::Deleted { existed: true })
    }

    pub(super) fn set_global_parameter(&mut self, name: &Name, value: &Value) -> Answer {
        if self.tables.global_parameters.get(name) != Some(value) {
            let parameters = &mut self.tables_mut().global_parameters;
            parameters.insert_mut(Name::clone(name), value.clone());
        }
        Ok(Outcome::Done)
    }

    pub(super) fn clear_global_parameter(&mut self, name: &Name) -> Answer {
        if !self.tables.global_parameters.contains_key(name) {
            return Err(Refusal::NoSuchParameter);
        }
        self.tables_mut().global_parameters.remove_mut(name);
        Ok(Outcome::Deleted { existed: true })
    }
}

/// The text of a failed validation.
fn invalid(reason: &str) -> Refusal {
    Refusal::Invalid(format!("Validation failed\n\n{reason}\n"))
}

fn not_a_list(name: &str, value: &Value) -> Refusal {
    invalid(&format!(
        "{name} should be list, actually was {}",
        super::Term(value)
    ))
}

fn table<'a>(name: &str, value: &'a Value) -> Result<&'a Table, Refusal> {
    value
        .as_table()
        .ok_or_else(|| invalid(&format!("{name} not a list {}", super::Term(value))))
}

fn require(table: &Table, name: &str, keys: &[&str]) -> Result<(), Refusal> {
    match keys.iter().find(|key| !table.contains(key)) {
        Some(key) => Err(invalid(&format!("Key \"{key}\" not found in {name}"))),
        None => Ok(()),
    }
}

/// Reads a policy as exported definitions hold it.
fn policy_from(name: &Name, value: &Value) -> Result<PolicySpec, Refusal> {
    let fields = table(name, value)?;
    require(fields, name, &["pattern", "definition"])?;
    let text = |key| fields.get(key).and_then(Value::as_str);
    Ok(PolicySpec {
        name: Name::clone(name),
        pattern: text("pattern").unwrap_or_default().to_owned(),
        apply_to: text("apply-to").unwrap_or("all").into(),
        priority: fields.get("priority").and_then(Value::as_i64).unwrap_or(0),
        definition: fields
            .get("definition")
            .and_then(Value::as_table)
            .cloned()
            .unwrap_or_default(),
    })
}

fn limits_from(name: &Name, value: &Value) -> Result<Vec<(Name, i64)>, Refusal> {
    let limit = |(key, value): (&amqp::ShortStr, &Value)| match value.as_i64() {
        Some(limit) => Ok((Name::from(key.to_str_lossy()), limit)),
        None => Err(invalid(&format!(
            "{key} should be a number, actually was {}",
            super::Term(value)
        ))),
    };
    table(name, value)?.iter().map(limit).collect()
}
