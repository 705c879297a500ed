//! Bindings: from an exchange to a queue or another exchange.
//!
//! Invariant: every binding stands in three places at once, the virtual host's set, its pairs of ends,
//! and the index of its source; and both of its ends exist.

use std::sync::Arc;

use amqp::Table;

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Destination, Outcome, Refusal};
use super::exchange::refuse_default;
use super::tables::{Binding, Vhost};
use crate::exchange::{Target, check_binding};
use crate::id::Name;
use crate::mutant::{Mutant, breaks};

const ROUTING_KEY_LEN_MAX: usize = 255;

/// The four fields of a binding as a command brings them.
pub(super) type Ends<'a> = (&'a Name, &'a Destination, &'a Vec<u8>, &'a Table);

impl Metadata {
    pub(super) fn bind(
        &mut self,
        vhost_name: &Name,
        source: &Name,
        destination: &Destination,
        routing_key: &[u8],
        arguments: &Table,
    ) -> Answer {
        let vhost = self.vhost(vhost_name)?;
        refuse_default_ends(source, destination)?;
        let exchange = vhost
            .exchanges
            .get(source)
            .ok_or_else(|| Refusal::NoSuchExchange {
                vhost: Name::clone(vhost_name),
                name: Name::clone(source),
            })?;
        let target = vhost.target(destination)?;
        // The wire cannot carry a longer key, and patterns are walked word by word.
        if routing_key.len() > ROUTING_KEY_LEN_MAX {
            let text = format!("routing key is longer than {ROUTING_KEY_LEN_MAX} bytes");
            return Err(Refusal::InvalidArgument(text));
        }
        check_binding(exchange.kind, routing_key, arguments).map_err(Refusal::InvalidArgument)?;
        let binding = Arc::new(binding((
            source,
            destination,
            &routing_key.to_vec(),
            arguments,
        )));
        if !vhost.bindings.contains(&*binding) {
            self.vhost_mut(vhost_name).add_binding(binding, target);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn unbind(
        &mut self,
        vhost_name: &Name,
        ends: Ends<'_>,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let vhost = self.vhost(vhost_name)?;
        refuse_default_ends(ends.0, ends.1)?;
        let Some(binding) = vhost.bindings.get(&binding(ends)).map(Arc::clone) else {
            return Ok(Outcome::Deleted { existed: false });
        };
        if self.vhost_mut(vhost_name).remove_binding(&binding) {
            self.remove_exchanges(vhost_name, vec![Name::clone(&binding.source)], changes);
        }
        Ok(Outcome::Deleted { existed: true })
    }
}

fn refuse_default_ends(source: &Name, destination: &Destination) -> Result<(), Refusal> {
    refuse_default(source)?;
    match destination {
        Destination::Exchange(name) => refuse_default(name),
        Destination::Queue(_) => Ok(()),
    }
}

pub(super) fn binding((source, destination, routing_key, arguments): Ends<'_>) -> Binding {
    let mut arguments = arguments.clone();
    arguments.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    Binding {
        source: Name::clone(source),
        destination: destination.clone(),
        routing_key: routing_key.clone(),
        arguments,
    }
}

impl Vhost {
    /// The far end of a binding as routing knows it, if it is there.
    pub(super) fn target(&self, destination: &Destination) -> Result<Target, Refusal> {
        let vhost = || Name::clone(&self.name);
        match destination {
            Destination::Queue(name) => match self.queues.get(name) {
                Some(queue) => Ok(Target::Queue(queue.id)),
                None => Err(Refusal::NoSuchQueue {
                    vhost: vhost(),
                    name: Name::clone(name),
                }),
            },
            Destination::Exchange(name) if self.exchanges.contains_key(name) => {
                Ok(Target::Exchange(Name::clone(name)))
            }
            Destination::Exchange(name) => Err(Refusal::NoSuchExchange {
                vhost: vhost(),
                name: Name::clone(name),
            }),
        }
    }

    /// Adds a binding that is not there between ends that are.
    pub(super) fn add_binding(&mut self, binding: Arc<Binding>, target: Target) {
        let source = self
            .exchanges
            .get_mut(&binding.source)
            .expect("its source has been found");
        let source = Arc::make_mut(source);
        source.routes.add(&binding, target);
        source.bindings += 1;
        let pair = (binding.destination.clone(), Name::clone(&binding.source));
        if !self.bound.contains(&pair) {
            self.bound.insert_mut(pair);
        }
        self.bindings.insert_mut(binding);
    }

    /// Removes every binding that leads to a queue that is about to go, or to an exchange that is
    /// gone. Gives the sources that are now to be deleted.
    pub(super) fn unbind_destination(&mut self, destination: &Destination) -> Vec<Name> {
        let bindings: Vec<_> = self.bindings_to(destination).map(Arc::clone).collect();
        let mut sources = Vec::new();
        for binding in bindings {
            if self.remove_binding(&binding) {
                sources.push(Name::clone(&binding.source));
            }
        }
        sources
    }

    /// Forgets the bindings of a source that is gone already.
    pub(super) fn forget_bindings_from(&mut self, source: &Name) {
        let bindings: Vec<_> = self.bindings_from(source).map(Arc::clone).collect();
        for binding in bindings {
            self.forget_binding(&binding);
        }
    }

    /// Removes a binding that is there. True if its source is now to be deleted.
    fn remove_binding(&mut self, binding: &Arc<Binding>) -> bool {
        self.forget_binding(binding);
        let target = match &binding.destination {
            Destination::Exchange(name) => Some(Target::Exchange(Name::clone(name))),
            Destination::Queue(name) => self.queues.get(name).map(|queue| Target::Queue(queue.id)),
        };
        let (Some(source), Some(target)) = (self.exchanges.get_mut(&binding.source), target) else {
            return false;
        };
        let source = Arc::make_mut(source);
        if !breaks(Mutant::RouteUnlisted) {
            source.routes.remove(binding, &target);
        }
        source.bindings -= 1;
        source.auto_delete && source.bindings == 0
    }

    /// Takes a binding out of the virtual host's own sets.
    fn forget_binding(&mut self, binding: &Binding) {
        self.bindings.remove_mut(binding);
        if self
            .bindings_between(&binding.source, &binding.destination)
            .next()
            .is_none()
        {
            self.bound
                .remove_mut(&(binding.destination.clone(), Name::clone(&binding.source)));
        }
    }
}
