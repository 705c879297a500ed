//! Runtime parameters.

use serde_json::{Value as Json, json};

use super::json_arg;
use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::text;
use crate::output::Output;
use crate::term::{Row, Term};
use crate::tool::Tools;

const COMPONENT: (&str, &str) = (
    "<component_name>",
    "what the parameter belongs to, as federation-upstream",
);
const NAME: (&str, &str) = ("<name>", "the name of the parameter");
const VALUE: (&str, &str) = ("<value>", "the value, as JSON");
const MISSING: &str = "Parameter does not exist";

pub(super) const COMMANDS: &[Command] = &[
    command("set_parameter", Tools::CTL, Section::Parameters, set)
        .about("Sets a parameter of a virtual host")
        .usage("set_parameter [--vhost <vhost>] <component_name> <name> <value>")
        .details(&[COMPONENT, NAME, VALUE, super::VHOST])
        .args(3, 3)
        .banner(|call| {
            let (component, name, value) = (call.arg(0), call.arg(1), call.arg(2));
            format!(
                "Setting runtime parameter \"{name}\" for component \
                 \"{component}\" to \"{value}\" in vhost \"{}\" ...",
                call.vhost()
            )
        }),
    command("clear_parameter", Tools::CTL, Section::Parameters, clear)
        .about("Deletes a parameter of a virtual host")
        .usage("clear_parameter [--vhost <vhost>] <component_name> <name>")
        .details(&[COMPONENT, NAME, super::VHOST])
        .args(2, 2)
        .banner(|call| {
            let (component, name) = (call.arg(0), call.arg(1));
            format!(
                "Clearing runtime parameter \"{name}\" for component \
                 \"{component}\" on vhost \"{}\" ...",
                call.vhost()
            )
        }),
    command("list_parameters", Tools::BOTH, Section::Parameters, list)
        .about("Lists the parameters of a virtual host")
        .usage("list_parameters [--vhost <vhost>] [--no-table-headers]")
        .details(&[super::VHOST, super::NO_HEADERS])
        .timed()
        .table()
        .banner(|call| {
            format!(
                "Listing runtime parameters for vhost \"{}\" ...",
                call.vhost()
            )
        }),
    command(
        "set_global_parameter",
        Tools::CTL,
        Section::Parameters,
        set_global,
    )
    .about("Sets a parameter of the cluster")
    .usage("set_global_parameter <name> <value>")
    .details(&[NAME, VALUE])
    .args(2, 2)
    .banner(|call| {
        format!(
            "Setting global runtime parameter \"{}\" to \"{}\" ...",
            call.arg(0),
            call.arg(1)
        )
    }),
    command(
        "clear_global_parameter",
        Tools::CTL,
        Section::Parameters,
        clear_global,
    )
    .about("Deletes a parameter of the cluster")
    .usage("clear_global_parameter <name>")
    .details(&[NAME])
    .args(1, 1)
    .banner(|call| format!("Clearing global runtime parameter \"{}\" ...", call.arg(0))),
    command(
        "list_global_parameters",
        Tools::BOTH,
        Section::Parameters,
        list_global,
    )
    .about("Lists the parameters of the cluster")
    .usage("list_global_parameters [--no-table-headers]")
    .details(&[super::NO_HEADERS])
    .timed()
    .table()
    .banner(|_| "Listing global runtime parameters ...".to_owned()),
];

fn set(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = json!({"value": json_arg(call.arg(2))?});
    let vhost = call.require_vhost()?;
    let (component, name) = (call.arg(0).to_owned(), call.arg(1).to_owned());
    call.put(&["parameters", &component, &vhost, &name], body)?
        .good()?;
    Ok(Output::Done)
}

fn clear(call: &mut Call<'_>) -> Result<Output, Failure> {
    let (component, name) = (call.arg(0).to_owned(), call.arg(1).to_owned());
    let vhost = call.vhost().to_owned();
    let answer = call.delete(&["parameters", &component, &vhost, &name])?;
    if answer.status == 404 {
        return Err(Failure::refused(MISSING));
    }
    answer.good().map(|_| Output::Done)
}

fn row(item: &Json, columns: &[&str]) -> Row {
    let value = item.get("value").unwrap_or(&Json::Null).to_string();
    let names = columns
        .iter()
        .map(|key| ((*key).to_owned(), Term::text(text(item, key))));
    names
        .chain([("value".to_owned(), Term::text(value))])
        .collect()
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.require_vhost()?;
    let mut found = call.list(&["parameters"])?;
    found.retain(|item| text(item, "vhost") == vhost);
    Ok(Output::List(
        found
            .iter()
            .map(|item| row(item, &["component", "name"]))
            .collect(),
    ))
}

fn set_global(call: &mut Call<'_>) -> Result<Output, Failure> {
    let body = json!({"value": json_arg(call.arg(1))?});
    let name = call.arg(0).to_owned();
    call.put(&["global-parameters", &name], body)?.good()?;
    Ok(Output::Done)
}

fn clear_global(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.arg(0).to_owned();
    let answer = call.delete(&["global-parameters", &name])?;
    if answer.status == 404 {
        return Err(Failure::refused(MISSING));
    }
    answer.good().map(|_| Output::Done)
}

fn list_global(call: &mut Call<'_>) -> Result<Output, Failure> {
    let found = call.list(&["global-parameters"])?;
    Ok(Output::List(
        found.iter().map(|item| row(item, &["name"])).collect(),
    ))
}
