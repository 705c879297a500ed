//! A command: its place in the help, what it takes, what it does.

use crate::call::Call;
use crate::commands;
use crate::failure::{Failure, Misuse, Unfit};
use crate::format::Formatter;
use crate::options::Switch;
use crate::output::Output;
use crate::tool::{Tool, Tools};

/// Where the help lists a command, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Help,
    Nodes,
    Cluster,
    Replication,
    Users,
    Access,
    Monitoring,
    Parameters,
    Policies,
    VirtualHosts,
    Configuration,
    Definitions,
    FeatureFlags,
    Operations,
    Plugins,
    Queues,
    Upgrade,
    Deprecated,
}

impl Section {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Section::Help => "Help",
            Section::Nodes => "Nodes",
            Section::Cluster => "Cluster",
            Section::Replication => "Replication",
            Section::Users => "Users",
            Section::Access => "Access Control",
            Section::Monitoring => "Monitoring, observability and health checks",
            Section::Parameters => "Parameters",
            Section::Policies => "Policies",
            Section::VirtualHosts => "Virtual hosts",
            Section::Configuration => "Configuration and Environment",
            Section::Definitions => "Definitions",
            Section::FeatureFlags => "Feature flags",
            Section::Operations => "Operations",
            Section::Plugins => "Plugin Management",
            Section::Queues => "Queues",
            Section::Upgrade => "Upgrade",
            Section::Deprecated => "Deprecated",
        }
    }
}

/// What the broker application of the node must be doing for a command to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    Running,
    Stopped,
    Any,
}

/// What a command does once its command line was found good.
pub(crate) type Run = fn(&mut Call<'_>) -> Result<Output, Failure>;

/// A command of one or several tools.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) tools: Tools,
    pub(crate) section: Section,
    /// Its form, beginning with its name.
    pub(crate) usage: &'static str,
    /// One line for the list of commands.
    pub(crate) about: &'static str,
    /// Arguments and options with their meaning.
    pub(crate) details: &'static [(&'static str, &'static str)],
    pub(crate) switches: &'static [Switch],
    /// Fewest and most arguments.
    pub(crate) arity: (usize, usize),
    /// The usage mentions `--timeout`.
    pub(crate) has_timeout: bool,
    /// Milliseconds to wait for, unless the command line says otherwise.
    pub(crate) timeout: Option<u64>,
    pub(crate) formatter: Formatter,
    /// Connects before anything is printed.
    pub(crate) needs_node: bool,
    /// Whether these arguments make sense without a node.
    pub(crate) goes_alone: fn(&Call<'_>) -> bool,
    /// Looked at once it is connected.
    pub(crate) app: App,
    pub(crate) check: fn(&Call<'_>) -> Result<(), Unfit>,
    /// The sentence before the result; empty for none.
    pub(crate) banner: fn(&Call<'_>) -> String,
    pub(crate) run: Run,
}

/// Begins a command; the methods below add to it.
pub(crate) const fn command(
    name: &'static str,
    tools: Tools,
    section: Section,
    run: Run,
) -> Command {
    Command {
        name,
        tools,
        section,
        usage: name,
        about: "",
        details: &[],
        switches: &[],
        arity: (0, 0),
        has_timeout: false,
        timeout: None,
        formatter: Formatter::Text,
        needs_node: true,
        goes_alone: |_| false,
        app: App::Running,
        check: |_| Ok(()),
        banner: |_| String::new(),
        run,
    }
}

impl Command {
    /// One line for the list of commands.
    pub(crate) const fn about(mut self, about: &'static str) -> Command {
        self.about = about;
        self
    }

    pub(crate) const fn usage(mut self, usage: &'static str) -> Command {
        self.usage = usage;
        self
    }

    pub(crate) const fn details(
        mut self,
        details: &'static [(&'static str, &'static str)],
    ) -> Command {
        self.details = details;
        self
    }

    pub(crate) const fn switches(mut self, switches: &'static [Switch]) -> Command {
        self.switches = switches;
        self
    }

    pub(crate) const fn args(mut self, least: usize, most: usize) -> Command {
        self.arity = (least, most);
        self
    }

    /// The usage mentions `--timeout`.
    pub(crate) const fn timed(mut self) -> Command {
        self.has_timeout = true;
        self
    }

    pub(crate) const fn timeout(mut self, millis: u64) -> Command {
        self.timeout = Some(millis);
        self
    }

    /// Prints a table unless asked for something else.
    pub(crate) const fn table(mut self) -> Command {
        self.formatter = Formatter::Table;
        self
    }

    pub(crate) const fn formatter(mut self, formatter: Formatter) -> Command {
        self.formatter = formatter;
        self
    }

    /// Works without a node, or connects when it sees fit.
    pub(crate) const fn offline(mut self) -> Command {
        self.needs_node = false;
        self.app = App::Any;
        self
    }

    /// Works without a node, or connects when it sees fit, when called so.
    pub(crate) const fn offline_if(mut self, goes_alone: fn(&Call<'_>) -> bool) -> Command {
        self.goes_alone = goes_alone;
        self
    }

    /// Works whatever the broker application is doing.
    pub(crate) const fn any_app(mut self) -> Command {
        self.app = App::Any;
        self
    }

    /// Works only while the broker application does not run.
    pub(crate) const fn stopped_app(mut self) -> Command {
        self.app = App::Stopped;
        self
    }

    pub(crate) const fn check(mut self, check: fn(&Call<'_>) -> Result<(), Unfit>) -> Command {
        self.check = check;
        self
    }

    pub(crate) const fn banner(mut self, banner: fn(&Call<'_>) -> String) -> Command {
        self.banner = banner;
        self
    }

    /// Whether the number of arguments is right.
    pub(crate) fn check_arity(&self, count: usize) -> Result<(), Misuse> {
        let (least, most) = self.arity;
        if count < least {
            Err(Misuse::NotEnough(None))
        } else if count > most {
            Err(Misuse::TooMany)
        } else {
            Ok(())
        }
    }
}

/// The commands of a tool, by name.
pub(crate) fn all(tool: Tool) -> Vec<&'static Command> {
    let every = commands::TABLES.iter().flat_map(|table| table.iter());
    let mut known: Vec<&'static Command> =
        every.filter(|command| command.tools.has(tool)).collect();
    known.sort_by_key(|command| command.name);
    known
}

/// A command by its name.
pub(crate) fn find(tool: Tool, name: &str) -> Option<&'static Command> {
    let mut every = commands::TABLES.iter().flat_map(|table| table.iter());
    every.find(|command| command.name == name && command.tools.has(tool))
}
