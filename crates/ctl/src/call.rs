//! A command being run: its arguments, its node, and how it asks that node.

use std::fmt::Write;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;

use crate::command::{App, Command};
use crate::cookie::{self, Found, NoCookie};
use crate::diagnosis::{self, Asker};
use crate::failure::{CONFIG, Failure, Misuse, TEMPORARY, UNAVAILABLE};
use crate::format::Formatter;
use crate::json::{text, whole};
use crate::options::Options;
use crate::outside::{Answer, Method, Outside, Request, Trouble};
use crate::target::Target;
use crate::tool::Tool;

/// What a segment of a path may hold unescaped.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A command line that was understood.
pub(crate) struct Call<'a> {
    pub(crate) tool: Tool,
    pub(crate) command: &'static Command,
    pub(crate) args: Vec<String>,
    /// The command line as it was given.
    pub(crate) words: Vec<String>,
    pub(crate) options: Options,
    pub(crate) target: Target,
    pub(crate) formatter: Formatter,
    /// Milliseconds; `None` is no limit.
    pub(crate) timeout: Option<u64>,
    /// When the command began.
    pub(crate) began: Duration,
    pub(crate) outside: &'a mut dyn Outside,
}

impl Call<'_> {
    /// The name of the node.
    pub(crate) fn node(&self) -> &str {
        &self.target.node
    }

    /// An argument that the command has for certain.
    pub(crate) fn arg(&self, index: usize) -> &str {
        &self.args[index]
    }

    /// The virtual host of the command.
    pub(crate) fn vhost(&self) -> &str {
        self.options.text("vhost").unwrap_or("/")
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.options.flag(name)
    }

    /// Only results are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.flag("quiet") || self.flag("silent")
    }

    pub(crate) fn is_json(&self) -> bool {
        self.formatter == Formatter::Json
    }

    /// Prints a line before the command is done.
    pub(crate) fn say(&mut self, line: &str) {
        self.outside.print(&format!("{line}\n"));
    }

    /// Time that is left, or the failure that none is.
    pub(crate) fn left(&self) -> Result<Option<Duration>, Failure> {
        let Some(millis) = self.timeout else {
            return Ok(None);
        };
        let spent = self.outside.now().saturating_sub(self.began);
        let left = Duration::from_millis(millis)
            .checked_sub(spent)
            .filter(|left| !left.is_zero());
        left.map(Some).ok_or_else(|| self.timed_out())
    }

    /// The time is up.
    pub(crate) fn timed_out(&self) -> Failure {
        let limit = self
            .timeout
            .map_or_else(|| "infinity".to_owned(), |millis| millis.to_string());
        let text = format!(
            "Error: operation {} on node {} timed out. Timeout value used: \
             {limit}",
            self.command.name,
            self.node()
        );
        Failure::plain(TEMPORARY, text)
    }

    /// Connects to the node, or says why that cannot be done.
    pub(crate) fn connect(&mut self) -> Result<(), Trouble> {
        let left = self.left().map_err(|_| Trouble::TimedOut)?;
        let cookie = self.cookie();
        self.outside.connect(&self.target, cookie, left)
    }

    /// Asks the node; says why there is no answer.
    pub(crate) fn try_ask(&mut self, request: &Request) -> Result<Answer, Trouble> {
        self.connect()?;
        let left = self.left().map_err(|_| Trouble::TimedOut)?;
        self.outside.ask(request, left)
    }

    /// Asks the node; any answer is good, but that the broker application does not run.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Answer, Failure> {
        let answer = self
            .try_ask(request)
            .map_err(|trouble| self.explain(&trouble))?;
        match text(&answer.body, "error") {
            "app_not_running" => Err(self.unfit(&Misuse::AppStopped(reason_why(&answer.body)))),
            "app_running" => Err(self.unfit(&Misuse::AppRunning)),
            _ => Ok(answer),
        }
    }

    /// Fails when the broker application does not do what the command needs.
    pub(crate) fn check_app(&mut self) -> Result<(), Failure> {
        let needed = self.command.app;
        if needed == App::Any {
            return Ok(());
        }
        let Some(app) = self.find(&["internal", "app"])? else {
            return Ok(());
        };
        match (needed, text(&app, "state") == "running") {
            (App::Running, false) => Err(self.unfit(&Misuse::AppStopped(reason_why(&app)))),
            (App::Stopped, true) => Err(self.unfit(&Misuse::AppRunning)),
            _ => Ok(()),
        }
    }

    /// The command line makes no sense for the node as it is now.
    fn unfit(&self, misuse: &Misuse) -> Failure {
        misuse.failure(self.tool, self.command, &self.words, "Error")
    }

    /// The cookie of this tool.
    pub(crate) fn cookie(&self) -> Result<Found, NoCookie> {
        cookie::find(&self.options, self.outside.variables(), self.node())
    }

    /// The text for a node that does not answer.
    pub(crate) fn explain(&self, trouble: &Trouble) -> Failure {
        if *trouble == Trouble::TimedOut {
            return self.timed_out();
        }
        let cookie = self.cookie().ok();
        let asker = Asker {
            name: own_name(self.outside),
            home: self.outside.variables().get("HOME").map(String::as_str),
            cookie: cookie.as_ref(),
        };
        let code = if matches!(trouble, Trouble::NoCookie(_)) {
            CONFIG
        } else {
            UNAVAILABLE
        };
        Failure::plain(code, diagnosis::explain(&self.target, trouble, &asker))
    }

    /// What is at a path, or why not.
    pub(crate) fn get(&mut self, segments: &[&str]) -> Result<Json, Failure> {
        self.find(segments)?
            .ok_or_else(|| Failure::refused("not_found"))
    }

    /// What is at a path, `None` where there is nothing.
    pub(crate) fn find(&mut self, segments: &[&str]) -> Result<Option<Json>, Failure> {
        let answer = self.ask(&request(Method::Get, segments, None))?;
        if answer.status == 404 {
            Ok(None)
        } else {
            answer.good().map(|answer| Some(answer.body))
        }
    }

    /// A list at a path; empty where there is nothing.
    pub(crate) fn list(&mut self, segments: &[&str]) -> Result<Vec<Json>, Failure> {
        match self.find(segments)? {
            Some(Json::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    pub(crate) fn put(&mut self, segments: &[&str], body: Json) -> Result<Answer, Failure> {
        self.ask(&request(Method::Put, segments, Some(body)))
    }

    pub(crate) fn post(&mut self, segments: &[&str], body: Json) -> Result<Answer, Failure> {
        self.ask(&request(Method::Post, segments, Some(body)))
    }

    pub(crate) fn delete(&mut self, segments: &[&str]) -> Result<Answer, Failure> {
        self.ask(&request(Method::Delete, segments, None))
    }

    /// Whether a virtual host exists.
    pub(crate) fn has_vhost(&mut self, vhost: &str) -> Result<bool, Failure> {
        self.find(&["vhosts", vhost]).map(|found| found.is_some())
    }

    /// Whether a user exists.
    pub(crate) fn has_user(&mut self, user: &str) -> Result<bool, Failure> {
        self.find(&["users", user]).map(|found| found.is_some())
    }

    /// Fails unless the virtual host of the command exists.
    pub(crate) fn require_vhost(&mut self) -> Result<String, Failure> {
        let vhost = self.vhost().to_owned();
        if self.has_vhost(&vhost)? {
            Ok(vhost)
        } else {
            Err(Failure::no_vhost(&vhost))
        }
    }

    /// A text argument, or else a line of standard input. `None` when there is neither.
    pub(crate) fn arg_or_line(&mut self, index: usize, prompt: &str) -> Option<String> {
        if let Some(text) = self.args.get(index) {
            return Some(text.clone());
        }
        if !self.is_quiet() {
            self.say(prompt);
        }
        self.outside.read_line().map(|line| line.trim().to_owned())
    }
}

impl Answer {
    /// This answer if it is a good one, else what the node says.
    pub(crate) fn good(self) -> Result<Answer, Failure> {
        match self.status {
            200..=299 => Ok(self),
            _ if self.body.get("exit_code").is_some() => {
                let code = u8::try_from(whole(&self.body, "exit_code")).unwrap_or(UNAVAILABLE);
                Err(Failure::new(code, self.reason()))
            }
            503 if self.body.get("reason").is_some() => Err(Failure::new(TEMPORARY, self.reason())),
            _ => Err(Failure::refused(self.reason())),
        }
    }

    /// Why the node refuses. Texts come escaped for browsers.
    pub(crate) fn reason(&self) -> String {
        let reason = match self.body.get("reason") {
            Some(Json::String(reason)) => reason.clone(),
            Some(reason) => reason.to_string(),
            None => format!("the node answered with status {}", self.status),
        };
        reason
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&amp;", "&")
    }
}

/// Why the application does not run, where that is worth a line.
fn reason_why(app: &Json) -> Option<String> {
    let why = text(app, "why");
    (!why.is_empty()).then(|| format!("The app is {}: {why}", text(app, "state")))
}

/// A request for a path under `/api`.
pub(crate) fn request(method: Method, segments: &[&str], body: Option<Json>) -> Request {
    let mut path = "/api".to_owned();
    for segment in segments {
        let _ = write!(path, "/{}", utf8_percent_encode(segment, SEGMENT));
    }
    Request {
        method,
        path,
        body,
        reason: None,
    }
}

/// The name under which the tool introduces itself.
pub(crate) fn own_name(outside: &dyn Outside) -> String {
    let host = outside.host_name();
    let host = host
        .split('.')
        .next()
        .filter(|host| !host.is_empty())
        .unwrap_or("localhost");
    format!("warrenctl-{}@{host}", outside.process())
}
