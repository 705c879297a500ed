//! Conversations: command lines, what they ask the node, what they print.
//!
//! A file of `testdata` holds answers of the node (`GET /api/… 200 {…}`, for all commands below
//! until `reset`), commands (`$ rabbitmqctl …`) and, below each, everything it prints and asks to
//! change (`> PUT …`), with `^[` for escape, up to `[exit …]`. `UPDATE=1 cargo test -p ctl`
//! rewrites the transcripts, to be read before they are committed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use cluster::handshake::{HandshakeError, Refusal};
use serde_json::Value as Json;

use crate::Refused;
use crate::cookie::{Found, NoCookie};
use crate::outside::{Answer, Method, Outside, Request, Trouble};
use crate::run::execute;
use crate::target::Target;
use crate::tool::Tool;

/// A world on paper.
#[derive(Default)]
struct Paper {
    /// By method and path. Of several with one key each is given once, the last for ever.
    answers: Vec<(String, u16, Json)>,
    trouble: Option<Trouble>,
    input: String,
    variables: BTreeMap<String, String>,
    printed: String,
    clock: Duration,
}

impl Paper {
    fn new() -> Paper {
        let variables = [
            ("HOME", "/home/op"),
            ("WARREN_NODENAME", "warren@box"),
            ("WARREN_COOKIE", "PROBECOOKIE"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Paper {
            variables: BTreeMap::from(variables),
            ..Paper::default()
        }
    }
}

impl Outside for Paper {
    fn connect(
        &mut self,
        _: &Target,
        cookie: Result<Found, NoCookie>,
        _: Option<Duration>,
    ) -> Result<(), Trouble> {
        cookie.map_err(Trouble::NoCookie)?;
        self.trouble.clone().map_or(Ok(()), Err)
    }

    fn ask(&mut self, request: &Request, _: Option<Duration>) -> Result<Answer, Trouble> {
        let method = match request.method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        };
        let key = format!("{method} {}", request.path);
        if request.method != Method::Get {
            let body = request
                .body
                .as_ref()
                .map(|body| format!(" {body}"))
                .unwrap_or_default();
            let reason = request
                .reason
                .as_ref()
                .map(|reason| format!(" because {reason}"))
                .unwrap_or_default();
            let _ = writeln!(self.printed, "> {key}{body}{reason}");
        }
        let matching: Vec<usize> = (0..self.answers.len())
            .filter(|index| self.answers[*index].0 == key)
            .collect();
        let (_, status, body) = match matching.as_slice() {
            [] => (
                key,
                404,
                serde_json::json!({"error": "Object Not Found", "reason": "Not Found"}),
            ),
            [last] => self.answers[*last].clone(),
            [first, ..] => self.answers.remove(*first),
        };
        Ok(Answer { status, body })
    }

    fn print(&mut self, text: &str) {
        self.printed.push_str(text);
    }

    fn complain(&mut self, text: &str) {
        self.printed.push_str(text);
    }

    fn read_line(&mut self) -> Option<String> {
        let input = std::mem::take(&mut self.input);
        let (line, rest) = input.split_once('\n').unwrap_or((&input, ""));
        rest.clone_into(&mut self.input);
        (!line.is_empty()).then(|| line.to_owned())
    }

    fn read_all(&mut self) -> std::io::Result<Vec<u8>> {
        Ok(std::mem::take(&mut self.input).into_bytes())
    }

    fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    fn host_name(&self) -> String {
        "box.example.com".to_owned()
    }

    fn process(&self) -> u32 {
        659
    }

    fn is_running(&self, process: u32) -> bool {
        // Processes with odd numbers have ended.
        process.is_multiple_of(2)
    }

    fn can_connect(&mut self, _: &str, port: u16, _: Duration) -> bool {
        port < 60_000
    }

    fn resolve(&mut self, host: &str) -> Vec<IpAddr> {
        let addresses = if host == "localhost" {
            vec!["::1", "127.0.0.1"]
        } else {
            Vec::new()
        };
        addresses
            .into_iter()
            .map(|address| address.parse().unwrap())
            .collect()
    }

    fn forget_offline(&mut self, own: &str, other: &str) -> Result<(), Refused> {
        let _ = writeln!(self.printed, "> in the folder of {own}: forget {other}");
        match other {
            "stranger@box" => Err(Refused {
                exit_code: 69,
                text: "{:not_a_cluster_node, 'The node selected is not in the cluster.'}".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn now(&self) -> Duration {
        self.clock
    }

    fn sleep(&mut self, span: Duration) {
        self.clock += span;
    }
}

/// Words of a command line, with quotes as in a shell.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut is_begun) = (String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (None, ' ') => {
                if std::mem::take(&mut is_begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None, '\'' | '"') => (quote, is_begun) = (Some(c), true),
            (Some(open), c) if c == open => quote = None,
            (_, c) => {
                is_begun = true;
                word.push(c);
            }
        }
    }
    if is_begun {
        words.push(word);
    }
    words
}

fn trouble(name: &str) -> Option<Trouble> {
    Some(match name {
        "refused" => Trouble::Unreachable("Connection refused (os error 111)".to_owned()),
        "unresolved" => Trouble::Unresolved("failed to lookup address information".to_owned()),
        "wrong cookie" => Trouble::Handshake(HandshakeError::Refused(Refusal::WrongCookie)),
        "wants TLS" => Trouble::Handshake(HandshakeError::Refused(Refusal::WantsTls)),
        "other node" => Trouble::Handshake(HandshakeError::OtherNode {
            found: "hare@box".to_owned(),
        }),
        "not warren" => Trouble::Handshake(HandshakeError::NotWarren),
        "timed out" => Trouble::TimedOut,
        _ => return None,
    })
}

/// Runs a command line and gives what is printed, and the exit code.
fn converse(paper: &mut Paper, line: &str) -> String {
    let mut words = words(line);
    let name = words.remove(0);
    let tool = Tool::of_name(&name).unwrap_or(Tool::Warren);
    if tool == Tool::Warren {
        words.remove(0);
    }
    paper.printed.clear();
    paper.clock = Duration::ZERO;
    let code = execute(tool, &words, paper);
    let mut shown = std::mem::take(&mut paper.printed);
    if !shown.is_empty() && !shown.ends_with('\n') {
        shown.push_str("[no line end]\n");
    }
    format!("{}[exit {code}]\n", shown.replace('\u{1b}', "^["))
}

/// Plays a file; the file as it should be.
fn play(script: &str) -> String {
    let mut paper = Paper::new();
    let mut played = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        let _ = writeln!(played, "{line}");
        let method = line.split(' ').next().unwrap_or_default();
        if let Some(command) = line.strip_prefix("$ ") {
            played.push_str(&converse(&mut paper, command));
            for skipped in lines.by_ref() {
                if skipped.starts_with("[exit ") {
                    break;
                }
            }
        } else if let Some(name) = line.strip_prefix("trouble ") {
            paper.trouble = trouble(name);
        } else if let Some(input) = line.strip_prefix("input ") {
            paper.input = input.replace("\\n", "\n");
        } else if let Some((name, value)) = line
            .strip_prefix("set ")
            .and_then(|line| line.split_once('='))
        {
            paper.variables.insert(name.to_owned(), value.to_owned());
        } else if line == "reset" {
            paper = Paper::new();
        } else if ["GET", "PUT", "POST", "DELETE"].contains(&method) {
            let mut parts = line.splitn(4, ' ');
            let key = format!("{} {}", parts.next().unwrap(), parts.next().unwrap());
            let status = parts
                .next()
                .unwrap()
                .parse()
                .expect("a status follows the path");
            let body = parts.next().map_or(Json::Null, |body| {
                serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error}"))
            });
            paper.answers.push((key, status, body));
        } else {
            assert!(
                line.is_empty() || line.starts_with('#'),
                "no line of a script: {line}"
            );
        }
    }
    played
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(format!("{name}.txt"));
    let script = std::fs::read_to_string(&path).unwrap();
    let played = play(&script);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&path, played).unwrap();
    }
    for (number, (expected, found)) in script.lines().zip(played.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {}", number + 1, path.display());
    }
    assert_eq!(played, script, "{}", path.display());
}

macro_rules! conversations {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

conversations! {
    checks cluster command_line configuration connections definitions erlang features help limits
    listings membership nodes parameters permissions plugins policies queues replicas status troubles users
    vhosts
}

#[test]
fn every_command_has_a_name_of_its_own_and_a_usage_that_begins_with_it() {
    let all = crate::command::all(Tool::Warren);
    let mut names: Vec<&str> = all.iter().map(|command| command.name).collect();
    for command in &all {
        let word = command.usage.split(' ').next().unwrap_or_default();
        let is_known = word == command.name || command.name == "list_node_auth_attempt_stats";
        assert!(is_known, "{}: {}", command.name, command.usage);
        let (least, most) = command.arity;
        assert!(least <= most, "{}", command.name);
        assert!(!command.about.ends_with('.'), "{}", command.name);
    }
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn tools_are_known_by_the_name_of_their_link() {
    for name in [
        "rabbitmqctl",
        "/usr/bin/rabbitmq-diagnostics",
        "rabbitmq-plugins",
        "rabbitmq-queues",
        "rabbitmq-upgrade",
    ] {
        assert!(crate::is_tool(name), "{name}");
    }
    for name in ["warren", "/usr/bin/warren", "rabbitmq-server", ""] {
        assert!(!crate::is_tool(name), "{name}");
    }
}
