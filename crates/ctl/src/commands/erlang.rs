//! Commands about the Erlang runtime. Those that scripts use find an answer; the others say why
//! not.

use serde_json::json;

use super::refuse;
use crate::RABBITMQ_VERSION;
use crate::call::Call;
use crate::command::{Command, Run, Section, command};
use crate::cookie;
use crate::diagnosis::cookie_hash;
use crate::failure::{DATA, Failure, Misuse};
use crate::format::Formatter;
use crate::help::bold;
use crate::json::text;
use crate::options::{flag, text as text_switch, whole};
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

const NO_ERLANG: &str = "Warren does not run on Erlang";
const NO_CIPHERS: &str = "encrypted configuration values are not supported; keep secrets \
                          in variables: $(NAME)";

const fn refused(name: &'static str, tools: Tools, about: &'static str, run: Run) -> Command {
    command(name, tools, Section::Operations, run)
        .about(about)
        .offline()
        .args(0, usize::MAX)
}

pub(super) const COMMANDS: &[Command] = &[
    command("eval", Tools::CTL, Section::Operations, eval)
        .about("Answers the few Erlang expressions that scripts use")
        .usage("eval <expression>")
        .details(&[(
            "<expression>",
            "node(). or rabbit_misc:version(). or \
             rabbit_mgmt_storage:reset(). and their like",
        )])
        .args(0, usize::MAX)
        .check(|call| match call.args.first() {
            Some(expression) if expression.is_empty() => {
                Err(Misuse::Other("Expression must not be blank".to_owned()).into())
            }
            _ => Ok(()),
        }),
    refused(
        "eval_file",
        Tools::CTL,
        "Not supported: there is no Erlang",
        |_| refuse(NO_ERLANG),
    ),
    refused(
        "exec",
        Tools::CTL,
        "Not supported: there is no Erlang",
        |_| refuse(NO_ERLANG),
    )
    .switches(&[flag("offline")]),
    refused(
        "remote_shell",
        Tools::DIAGNOSTICS,
        "Not supported: there is no Erlang",
        |_| refuse(NO_ERLANG),
    ),
    refused(
        "observer",
        Tools::DIAGNOSTICS,
        "Not supported: there is no Erlang",
        |_| refuse(NO_ERLANG),
    )
    .switches(&[whole("interval").short('i')]),
    refused(
        "maybe_stuck",
        Tools::DIAGNOSTICS,
        "Not supported: there is no Erlang",
        |_| refuse(NO_ERLANG),
    ),
    refused(
        "runtime_thread_stats",
        Tools::DIAGNOSTICS,
        "Not supported: there is no Erlang",
        |_| refuse(NO_ERLANG),
    )
    .switches(&[whole("sample-interval").short('i')]),
    refused(
        "schema_info",
        Tools::BOTH,
        "Not supported: there is no Mnesia",
        |_| refuse("Warren does not keep its metadata in Mnesia"),
    ),
    refused(
        "resolver_info",
        Tools::DIAGNOSTICS,
        "Not supported: there is no Erlang",
        |_| refuse(NO_ERLANG),
    )
    .switches(&[flag("offline")]),
    refused(
        "list_network_interfaces",
        Tools::DIAGNOSTICS,
        "Not supported: use ip address",
        |_| refuse("use 'ip address' on the node's machine"),
    )
    .switches(&[flag("offline")]),
    refused(
        "cipher_suites",
        Tools::DIAGNOSTICS,
        "Not supported: see tls_versions",
        |_| {
            refuse(
                "the suites are those of TLS 1.3 and, with forward secrecy, of \
                 TLS 1.2; they cannot be chosen",
            )
        },
    )
    .switches(&[text_switch("format"), flag("all")]),
    refused(
        "consume_event_stream",
        Tools::DIAGNOSTICS,
        "Not supported yet",
        |_| refuse("events are not supported yet"),
    )
    .switches(&[whole("duration").short('d'), text_switch("pattern")]),
    refused(
        "encode",
        Tools::CTL,
        "Not supported: values cannot be encrypted",
        |_| refuse(NO_CIPHERS),
    )
    .switches(&[
        text_switch("cipher"),
        text_switch("hash"),
        whole("iterations"),
    ]),
    refused(
        "decode",
        Tools::CTL,
        "Not supported: values cannot be encrypted",
        |_| refuse(NO_CIPHERS),
    )
    .switches(&[
        text_switch("cipher"),
        text_switch("hash"),
        whole("iterations"),
    ]),
    refused(
        "list_ciphers",
        Tools::BOTH,
        "Not supported: values cannot be encrypted",
        |_| refuse(NO_CIPHERS),
    ),
    refused(
        "list_hashes",
        Tools::BOTH,
        "Not supported: values cannot be encrypted",
        |_| refuse(NO_CIPHERS),
    ),
    refused(
        "enable_auth_attempt_source_tracking",
        Tools::DIAGNOSTICS,
        "Not supported: logins are counted by protocol",
        |_| refuse("logins are counted by protocol only"),
    ),
    refused(
        "disable_auth_attempt_source_tracking",
        Tools::DIAGNOSTICS,
        "Does nothing: logins are counted by protocol",
        |_| Ok(Output::Done),
    ),
    refused(
        "reset_node_auth_attempt_metrics",
        Tools::DIAGNOSTICS,
        "Not supported: counters only rise",
        |_| refuse("counters of a node only rise until it is started again"),
    ),
    refused(
        "metadata_store_status",
        Tools::DIAGNOSTICS,
        "Not supported yet: see cluster_status",
        |_| refuse("not supported yet; see cluster_status"),
    ),
    command("hipe_compile", Tools::CTL, Section::Deprecated, |_| {
        Ok(Output::Done)
    })
    .about("Does nothing")
    .offline()
    .usage("hipe_compile <directory>")
    .args(1, 1)
    .banner(|_| {
        "This command is a no-op. HiPE is no longer supported by modern \
         Erlang versions"
            .to_owned()
    }),
    command(
        "server_version",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        server_version,
    )
    .any_app()
    .about("Shows the version of RabbitMQ that the node is compatible with")
    .timed()
    .banner(|call| format!("Asking node {} for its RabbitMQ version...", call.node())),
    command(
        "erlang_version",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        erlang_version,
    )
    .any_app()
    .about("Shows what stands where RabbitMQ shows the version of Erlang")
    .usage("erlang_version")
    .switches(&[flag("details"), flag("offline")])
    .timed()
    .banner(|call| format!("Asking node {} for its Erlang/OTP version...", call.node())),
    command(
        "tls_versions",
        Tools::DIAGNOSTICS,
        Section::Monitoring,
        tls_versions,
    )
    .about("Lists the versions of TLS that are supported")
    .timed()
    .banner(|_| "Listing all TLS versions supported by the runtime...".to_owned()),
    command(
        "erlang_cookie_hash",
        Tools::DIAGNOSTICS,
        Section::Configuration,
        show_cookie_hash,
    )
    .about(
        "Shows a hash of the node's cookie, by which cookies can be \
         compared",
    )
    .timed()
    .banner(|call| format!("Asking node {} its Erlang cookie hash...", call.node())),
    command(
        "erlang_cookie_sources",
        Tools::DIAGNOSTICS,
        Section::Configuration,
        cookie_sources,
    )
    .about("Shows where this tool looks for the cookie")
    .offline()
    .timed()
    .formatter(Formatter::Text)
    .banner(|_| "Listing Erlang cookie sources used by CLI tools...".to_owned()),
];

fn eval(call: &mut Call<'_>) -> Result<Output, Failure> {
    let given = match call.args.first() {
        Some(expression) => Some(expression.clone()),
        None => call
            .outside
            .read_all()
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok()),
    };
    let given = given.filter(|expression| !expression.trim().is_empty());
    let expression = given.ok_or_else(|| {
        Failure::new(
            DATA,
            "Expression to evaluate is not provided via argument or stdin",
        )
    })?;
    let compact: String = expression.chars().filter(|c| !c.is_whitespace()).collect();
    let value = match compact.trim_end_matches('.') {
        "node()" => {
            let status = call.get(&["internal", "status"])?;
            text(&status, "node_name").to_owned()
        }
        "rabbit_misc:version()" => format!("\"{RABBITMQ_VERSION}\""),
        "rabbit:is_running()" | "rabbit:is_booted()" => {
            let status = call.get(&["internal", "status"])?;
            super::status::is_booted(&status).to_string()
        }
        "rabbit_mgmt_storage:reset()" | "rabbit_mgmt_storage:reset_all()" => {
            call.delete(&["reset"])?.good()?;
            "ok".to_owned()
        }
        _ => {
            let text = format!(
                "Evaluation failed: {NO_ERLANG}, and this expression has no \
                 equivalent here"
            );
            return Err(Failure::new(DATA, text));
        }
    };
    Ok(Output::Text(value))
}

fn server_version(call: &mut Call<'_>) -> Result<Output, Failure> {
    let status = call.get(&["internal", "status"])?;
    let version = text(&status, "rabbitmq_version").to_owned();
    let json = Term::map([
        ("result", Term::text("ok")),
        ("value", Term::text(&version)),
    ]);
    Ok(Output::Both(version, json))
}

fn erlang_version(call: &mut Call<'_>) -> Result<Output, Failure> {
    let status = call.get(&["internal", "status"])?;
    let version = text(&status, "erlang_version").to_owned();
    let json = Term::map([
        ("result", Term::text("ok")),
        ("value", Term::text(&version)),
    ]);
    Ok(Output::Both(version, json))
}

fn tls_versions(call: &mut Call<'_>) -> Result<Output, Failure> {
    call.get(&["internal", "status"])?;
    let versions = ["tlsv1.3", "tlsv1.2"];
    let json = Term::map([(
        "versions",
        Term::List(versions.iter().map(|it| Term::atom(*it)).collect()),
    )]);
    Ok(Output::Both(versions.join("\n"), json))
}

fn show_cookie_hash(call: &mut Call<'_>) -> Result<Output, Failure> {
    // The node has proved that it knows this cookie.
    call.get(&["internal", "status"])?;
    let found = call
        .cookie()
        .map_err(|none| call.explain(&crate::outside::Trouble::NoCookie(none)))?;
    let hash = cookie_hash(found.cookie.bytes());
    let json = Term::map([("result", Term::text("ok")), ("value", Term::text(&hash))]);
    Ok(Output::Both(hash, json))
}

fn cookie_sources(call: &mut Call<'_>) -> Result<Output, Failure> {
    let variables = call.outside.variables();
    let files = cookie::files(variables, call.node());
    let file = files
        .iter()
        .find(|file| file.exists())
        .or(files.first())
        .cloned()
        .unwrap_or_default();
    let size = std::fs::metadata(&file).ok().map(|data| data.len());
    let or_none = |name: &str| {
        variables
            .get(name)
            .cloned()
            .unwrap_or_else(|| "(none)".to_owned())
    };
    let given = call.options.text("erlang-cookie");
    let variable = "RABBITMQ_ERLANG_COOKIE";
    let of_variable = variables.get(variable);
    let lines = [
        bold("Cookie File"),
        String::new(),
        format!("Effective user: {}", or_none("USER")),
        format!("Effective home directory: {}", or_none("HOME")),
        format!("Cookie file path: {}", file.display()),
        format!("Cookie file exists? {}", size.is_some()),
        format!(
            "Cookie file type: {}",
            if size.is_some() { "regular" } else { "(n/a)" }
        ),
        format!(
            "Cookie file size: {}",
            size.map_or("(n/a)".to_owned(), |size| size.to_string())
        ),
        format!("\n{}\n", bold("Cookie CLI Switch")),
        format!("--erlang-cookie value set? {}", given.is_some()),
        format!(
            "--erlang-cookie value length: {}",
            given.map_or(0, str::len)
        ),
        format!("\n{}\n", bold("Env variable ")),
        format!("{variable} value set? {}", of_variable.is_some()),
        format!(
            "{variable} value length: {}",
            of_variable.map_or(0, String::len)
        ),
    ];
    let json = json!({
        "cookie_file_path": file,
        "cookie_file_exists": size.is_some(),
        "cookie_file_size": size,
        "effective_user": variables.get("USER"),
        "home_dir": variables.get("HOME"),
        "os_env_cookie_set": of_variable.is_some(),
        "os_env_cookie_value_length": of_variable.map_or(0, String::len),
        "switch_cookie_set": given.is_some(),
        "switch_cookie_value_length": given.map_or(0, str::len),
    });
    Ok(Output::Both(lines.join("\n"), Term::of_json(&json)))
}
