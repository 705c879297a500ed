//! Policies of users and of operators.

use serde_json::{Value as Json, json};

use super::json_arg;
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::format::Formatter;
use crate::json::{sorted, text};
use crate::options::{Switch, text as text_switch, whole};
use crate::output::Output;
use crate::term::{Row, Term};
use crate::tool::Tools;

const USER: &str = "policies";
const OPERATOR: &str = "operator-policies";
const SWITCHES: &[Switch] = &[whole("priority"), text_switch("apply-to")];
const DETAILS: &[(&str, &str)] = &[
    ("<name>", "the name of the policy"),
    ("<pattern>", "regular expression of the names it is for"),
    ("<definition>", "what it says, as JSON"),
    (
        "--priority <priority>",
        "of several policies for one name the one with the highest counts",
    ),
    (
        "--apply-to <queues | classic_queues | quorum_queues | streams \
         | exchanges | all>",
        "what it is for",
    ),
    super::VHOST,
];

pub(super) const COMMANDS: &[Command] = &[
    command("set_policy", Tools::CTL, Section::Policies, |call| {
        set(call, USER)
    })
    .about("Makes or changes a policy")
    .usage(
        "set_policy [--vhost <vhost>] [--priority <priority>] \
         [--apply-to <apply-to>] <name> <pattern> <definition>",
    )
    .details(DETAILS)
    .switches(SWITCHES)
    .args(3, 3)
    .banner(|call| format!("Setting policy {}", described(call))),
    command("clear_policy", Tools::CTL, Section::Policies, |call| {
        clear(call, USER)
    })
    .about("Deletes a policy")
    .usage("clear_policy [--vhost <vhost>] <name>")
    .details(&[("<name>", "the name of the policy"), super::VHOST])
    .args(1, 1)
    .banner(|call| {
        format!(
            "Clearing policy \"{}\" on vhost \"{}\" ...",
            call.arg(0),
            call.vhost()
        )
    }),
    command("list_policies", Tools::BOTH, Section::Policies, |call| {
        list(call, USER)
    })
    .about("Lists the policies of a virtual host")
    .usage("list_policies [--vhost <vhost>] [--no-table-headers]")
    .details(&[super::VHOST, super::NO_HEADERS])
    .timed()
    .table()
    .banner(|call| format!("Listing policies for vhost \"{}\" ...", call.vhost())),
    command(
        "set_operator_policy",
        Tools::CTL,
        Section::Policies,
        |call| set(call, OPERATOR),
    )
    .about(
        "Makes or changes a policy of the operator, which limits what \
         policies of users say",
    )
    .usage(
        "set_operator_policy [--vhost <vhost>] [--priority <priority>] \
         [--apply-to <apply-to>] <name> <pattern> <definition>",
    )
    .details(DETAILS)
    .switches(SWITCHES)
    .args(3, 3)
    .banner(|call| format!("Setting operator policy override {}", described(call))),
    command(
        "clear_operator_policy",
        Tools::CTL,
        Section::Policies,
        |call| clear(call, OPERATOR),
    )
    .about("Deletes a policy of the operator")
    .usage("clear_operator_policy [--vhost <vhost>] <name>")
    .details(&[("<name>", "the name of the policy"), super::VHOST])
    .args(1, 1)
    .banner(|call| {
        format!(
            "Clearing operator policy \"{}\" on vhost \"{}\" ...",
            call.arg(0),
            call.vhost()
        )
    }),
    command(
        "list_operator_policies",
        Tools::BOTH,
        Section::Policies,
        |call| list(call, OPERATOR),
    )
    .about("Lists the policies of the operator in a virtual host")
    .usage("list_operator_policies [--vhost <vhost>] [--no-table-headers]")
    .details(&[super::VHOST, super::NO_HEADERS])
    .timed()
    .table()
    .banner(|call| {
        format!(
            "Listing operator policy overrides for vhost \"{}\" ...",
            call.vhost()
        )
    }),
    command(
        "list_policies_that_match",
        Tools::DIAGNOSTICS,
        Section::Policies,
        list_matching,
    )
    .about(
        "Lists the policies whose pattern matches the name of a queue \
         or exchange",
    )
    .usage("list_policies_that_match [--object-type <type>] <name>")
    .details(&[
        ("<name>", "the name"),
        ("--object-type <queue | exchange>", "what has the name"),
        super::VHOST,
    ])
    .switches(&[text_switch("object-type")])
    .formatter(Formatter::PrettyTable)
    .args(1, 1)
    .banner(|call| {
        let (kind, name) = (object_type(call), call.arg(0));
        format!(
            "Listing policies that match {kind} '{name}' in vhost '{}' ...",
            call.vhost()
        )
    }),
    command(
        "list_policies_with_classic_queue_mirroring",
        Tools::CHECKS,
        Section::Policies,
        |call| list_mirroring(call, USER),
    )
    .about("Lists the policies that mirror queues")
    .usage("list_policies_with_classic_queue_mirroring [--no-table-headers]")
    .details(&[super::NO_HEADERS])
    .timed()
    .table()
    .banner(|_| "Listing policies with classic queue mirroring ...".to_owned()),
    command(
        "list_operator_policies_with_classic_queue_mirroring",
        Tools::CHECKS,
        Section::Policies,
        |call| list_mirroring(call, OPERATOR),
    )
    .about("Lists the policies of the operator that mirror queues")
    .usage(
        "list_operator_policies_with_classic_queue_mirroring \
         [--no-table-headers]",
    )
    .details(&[super::NO_HEADERS])
    .timed()
    .table()
    .banner(|_| "Listing operator policies with classic queue mirroring ...".to_owned()),
    command(
        "check_if_cluster_has_classic_queue_mirroring_policy",
        Tools::CHECKS,
        Section::Monitoring,
        check_mirroring,
    )
    .about("Fails when a policy mirrors queues")
    .timed()
    .banner(|_| "Checking if cluster has any classic queue mirroring policy ...".to_owned()),
    command(
        "remove_classic_queue_mirroring_from_policies",
        Tools::CTL,
        Section::Operations,
        remove_mirroring,
    )
    .about("Takes the mirroring of queues out of all policies")
    .timed()
    .banner(|_| {
        "Will remove keys that enable classic queue mirroring from all \
         regular and operator policies"
            .to_owned()
    }),
];

fn described(call: &Call<'_>) -> String {
    format!(
        "\"{}\" for pattern \"{}\" to \"{}\" with priority \"{}\" for \
         vhost \"{}\" ...",
        call.arg(0),
        call.arg(1),
        call.arg(2),
        call.options.whole("priority").unwrap_or_default(),
        call.vhost()
    )
}

fn set(call: &mut Call<'_>, kind: &str) -> Result<Output, Failure> {
    let body = json!({
        "pattern": call.arg(1),
        "definition": json_arg(call.arg(2))?,
        "priority": call.options.whole("priority").unwrap_or_default(),
        "apply-to": call.options.text("apply-to").unwrap_or("all"),
    });
    let vhost = call.require_vhost()?;
    let name = call.arg(0).to_owned();
    call.put(&[kind, &vhost, &name], body)?.good()?;
    Ok(Output::Done)
}

fn clear(call: &mut Call<'_>, kind: &str) -> Result<Output, Failure> {
    let (vhost, name) = (call.vhost().to_owned(), call.arg(0).to_owned());
    let answer = call.delete(&[kind, &vhost, &name])?;
    if answer.status == 404 {
        return Err(Failure::refused("Parameter does not exist"));
    }
    answer.good().map(|_| Output::Done)
}

/// The policies of a virtual host, those that count most first.
fn of_vhost(call: &mut Call<'_>, kind: &str) -> Result<Vec<Json>, Failure> {
    let vhost = call.require_vhost()?;
    let mut found = call.list(&[kind, &vhost])?;
    found.sort_by_key(|policy| {
        let priority = policy
            .get("priority")
            .and_then(Json::as_i64)
            .unwrap_or_default();
        (std::cmp::Reverse(priority), text(policy, "name").to_owned())
    });
    Ok(found)
}

fn row(policy: &Json) -> Row {
    let definition = policy.get("definition").map(sorted).unwrap_or_default();
    let mut row: Row = ["vhost", "name", "pattern", "apply-to"]
        .iter()
        .map(|key| ((*key).to_owned(), Term::text(text(policy, key))))
        .collect();
    row.push(("definition".to_owned(), Term::text(definition.to_string())));
    row.push((
        "priority".to_owned(),
        Term::of_json(policy.get("priority").unwrap_or(&json!(0))),
    ));
    row
}

fn list(call: &mut Call<'_>, kind: &str) -> Result<Output, Failure> {
    Ok(Output::List(
        of_vhost(call, kind)?.iter().map(row).collect(),
    ))
}

fn object_type<'a>(call: &'a Call<'_>) -> &'a str {
    call.options.text("object-type").unwrap_or("queue")
}

fn list_matching(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (name, kind) = (call.arg(0).to_owned(), object_type(call).to_owned());
    let vhost = call.require_vhost()?;
    let object = match kind.as_str() {
        "queue" => call
            .find(&["queues", &vhost, &name])?
            .ok_or_else(|| Failure::refused("not_found"))?,
        _ => Json::Null,
    };
    let target = match (kind.as_str(), text(&object, "type")) {
        ("queue", "quorum") => "quorum_queues",
        ("queue", "stream") => "streams",
        ("queue", _) => "classic_queues",
        _ => "exchanges",
    };
    let applies = |policy: &&Json| {
        let apply_to = text(policy, "apply-to");
        let pattern = regex::Regex::new(text(policy, "pattern"));
        (apply_to == "all" || apply_to == target || apply_to == "queues" && target != "exchanges")
            && pattern.is_ok_and(|pattern| pattern.is_match(&name))
    };
    let found = of_vhost(call, USER)?;
    Ok(Output::List(
        found.iter().filter(applies).map(row).collect(),
    ))
}

fn is_mirroring(policy: &Json) -> bool {
    policy
        .get("definition")
        .is_some_and(|definition| definition.get("ha-mode").is_some())
}

fn mirroring(call: &mut Call<'_>, kind: &str) -> Result<Vec<Json>, Failure> {
    Ok(call
        .list(&[kind])?
        .into_iter()
        .filter(is_mirroring)
        .collect())
}

fn list_mirroring(call: &mut Call<'_>, kind: &str) -> Result<Output, Failure> {
    Ok(Output::List(
        mirroring(call, kind)?.iter().map(row).collect(),
    ))
}

fn check_mirroring(call: &mut Call<'_>) -> Result<Output, Failure> {
    let mut lines = Vec::new();
    for (kind, word) in [(USER, "Policy"), (OPERATOR, "Operator policy")] {
        let found = mirroring(call, kind)?;
        lines.extend(found.iter().map(|policy| {
            format!(
                "{word} {} enables classic queue mirroring",
                text(policy, "name")
            )
        }));
    }
    if lines.is_empty() {
        let text = "Cluster reported no policies that enable classic queue mirroring";
        return Ok(Output::passed(
            call.flag("silent"),
            text,
            Term::map([("result", Term::text("ok"))]),
        ));
    }
    Err(Failure::plain(
        crate::failure::UNAVAILABLE,
        lines.join("\n"),
    ))
}

fn remove_mirroring(call: &mut Call<'_>) -> Result<Output, Failure> {
    for kind in [USER, OPERATOR] {
        for mut policy in mirroring(call, kind)? {
            let (vhost, name) = (
                text(&policy, "vhost").to_owned(),
                text(&policy, "name").to_owned(),
            );
            let definition = policy["definition"].as_object_mut();
            definition
                .into_iter()
                .for_each(|definition| definition.retain(|key, _| !key.starts_with("ha-")));
            let is_empty = policy["definition"]
                .as_object()
                .is_none_or(serde_json::Map::is_empty);
            let answer = if is_empty {
                call.delete(&[kind, &vhost, &name])?
            } else {
                call.put(&[kind, &vhost, &name], policy)?
            };
            answer.good()?;
        }
    }
    Ok(Output::Done)
}
