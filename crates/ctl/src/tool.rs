//! Which of RabbitMQ's tools this is, by the name it was called through.

/// A tool, which knows some of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Ctl,
    Diagnostics,
    Plugins,
    Queues,
    Upgrade,
    /// `warren ctl`: all commands.
    Warren,
}

impl Tool {
    pub(crate) fn of_name(name: &str) -> Option<Tool> {
        Some(match name {
            "rabbitmqctl" => Tool::Ctl,
            "rabbitmq-diagnostics" => Tool::Diagnostics,
            "rabbitmq-plugins" => Tool::Plugins,
            "rabbitmq-queues" => Tool::Queues,
            "rabbitmq-upgrade" => Tool::Upgrade,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Ctl => "rabbitmqctl",
            Tool::Diagnostics => "rabbitmq-diagnostics",
            Tool::Plugins => "rabbitmq-plugins",
            Tool::Queues => "rabbitmq-queues",
            Tool::Upgrade => "rabbitmq-upgrade",
            Tool::Warren => "warren ctl",
        }
    }
}

/// A set of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tools(u8);

impl Tools {
    pub(crate) const CTL: Tools = Tools(1);
    pub(crate) const DIAGNOSTICS: Tools = Tools(2);
    pub(crate) const PLUGINS: Tools = Tools(4);
    pub(crate) const QUEUES: Tools = Tools(8);
    pub(crate) const UPGRADE: Tools = Tools(16);
    /// What `rabbitmqctl` and `rabbitmq-diagnostics` share.
    pub(crate) const BOTH: Tools = Tools(3);
    /// What `rabbitmq-diagnostics` and `rabbitmq-queues` share.
    pub(crate) const CHECKS: Tools = Tools(10);
    pub(crate) const ALL: Tools = Tools(31);

    pub(crate) const fn and(self, other: Tools) -> Tools {
        Tools(self.0 | other.0)
    }

    pub(crate) fn has(self, tool: Tool) -> bool {
        let bit = match tool {
            Tool::Ctl => Tools::CTL,
            Tool::Diagnostics => Tools::DIAGNOSTICS,
            Tool::Plugins => Tools::PLUGINS,
            Tool::Queues => Tools::QUEUES,
            Tool::Upgrade => Tools::UPGRADE,
            Tool::Warren => Tools::ALL,
        };
        self.0 & bit.0 != 0
    }
}
