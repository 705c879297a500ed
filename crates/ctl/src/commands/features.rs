//! Feature flags and deprecated features.

use serde_json::{Value as Json, json};

use crate::call::Call;
use crate::columns;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse, UNAVAILABLE, USAGE};
use crate::json::text;
use crate::options::flag;
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

const COLUMNS: &[&str] = &[
    "name",
    "state",
    "stability",
    "provided_by",
    "desc",
    "doc_url",
];
const DEPRECATED_COLUMNS: &[&str] = &[
    "name",
    "deprecation_phase",
    "provided_by",
    "desc",
    "doc_url",
];

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list_feature_flags",
        Tools::BOTH,
        Section::FeatureFlags,
        list,
    )
    .about("Lists feature flags")
    .usage("list_feature_flags [<column> ...]")
    .details(&[(
        "<column>",
        "one of desc, doc_url, name, provided_by, stability, state",
    )])
    .timed()
    .table()
    .args(0, usize::MAX)
    .check(|call| columns::check(call, COLUMNS))
    .banner(|_| "Listing feature flags ...".to_owned()),
    command(
        "enable_feature_flag",
        Tools::CTL,
        Section::FeatureFlags,
        enable,
    )
    .about("Enables a feature flag, or all")
    .usage("enable_feature_flag [--experimental] <all | feature_flag>")
    .details(&[
        ("<feature_flag>", "the name of the flag, or all"),
        ("--experimental", "also if the flag is experimental"),
    ])
    .switches(&[flag("experimental").short('e'), flag("opt-in")])
    .args(1, 1)
    .check(|call| match call.arg(0) {
        "" => Err(Misuse::bad("feature_flag cannot be an empty string.").into()),
        _ => Ok(()),
    })
    .banner(|call| match call.arg(0) {
        "all" => "Enabling all feature flags ...".to_owned(),
        name => format!("Enabling feature flag \"{name}\" ..."),
    }),
    command(
        "list_deprecated_features",
        Tools::BOTH,
        Section::FeatureFlags,
        list_deprecated,
    )
    .about("Lists features that will go away")
    .usage("list_deprecated_features [--used] [<column> ...]")
    .details(&[
        (
            "<column>",
            "one of deprecation_phase, desc, doc_url, name, provided_by",
        ),
        ("--used", "only those in use"),
    ])
    .switches(&[flag("used")])
    .table()
    .args(0, usize::MAX)
    .check(|call| columns::check(call, DEPRECATED_COLUMNS))
    .banner(|call| match call.flag("used") {
        true => "Listing deprecated features in use ...".to_owned(),
        false => "Listing deprecated features ...".to_owned(),
    }),
    command(
        "check_if_any_deprecated_features_are_used",
        Tools::BOTH,
        Section::Monitoring,
        check_deprecated,
    )
    .about("Fails when a feature is in use that will go away")
    .timed()
    .banner(|_| "Checking if any deprecated features are used ...".to_owned()),
];

fn value(feature: &Json, column: &str) -> Term {
    match column {
        "desc" | "doc_url" => Term::text(text(feature, column)),
        word => Term::atom(text(feature, word)),
    }
}

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let flags = call.list(&["feature-flags"])?;
    let columns = columns::asked(&call.args, &["name", "state"]);
    Ok(Output::List(
        flags
            .iter()
            .map(|flag| columns::row(&columns, |column| value(flag, column)))
            .collect(),
    ))
}

fn enable(call: &mut Call<'_>) -> Result<Output, Failure> {
    let name = call.arg(0).to_owned();
    if name == "all" && call.flag("experimental") {
        let text = "`--experimental` flag is not allowed when enabling all feature \
                    flags.\nUse --experimental with a specific feature flag if you \
                    want to enable an experimental feature.";
        return Err(Failure::new(USAGE, text));
    }
    let answer = call.put(&["feature-flags", &name, "enable"], json!({}))?;
    if matches!(answer.status, 400 | 404) {
        let text = format!("This feature flag is not supported by node {}", call.node());
        return Err(Failure::new(USAGE, text));
    }
    answer.good().map(|_| Output::Done)
}

fn list_deprecated(call: &mut Call<'_>) -> Result<Output, Failure> {
    let path: &[&str] = if call.flag("used") {
        &["deprecated-features", "used"]
    } else {
        &["deprecated-features"]
    };
    let features = call.list(path)?;
    let columns = columns::asked(&call.args, &["name", "deprecation_phase"]);
    let row = |feature: &Json| columns::row(&columns, |column| value(feature, column));
    Ok(Output::List(features.iter().map(row).collect()))
}

fn check_deprecated(call: &mut Call<'_>) -> Result<Output, Failure> {
    let used = call.list(&["deprecated-features", "used"])?;
    if used.is_empty() {
        let text = "Cluster reported no deprecated features in use";
        return Ok(Output::passed(
            call.flag("silent"),
            text,
            Term::map([("result", Term::text("ok"))]),
        ));
    }
    let names: Vec<&str> = used.iter().map(|feature| text(feature, "name")).collect();
    let json = Term::map([
        ("result", Term::text("error")),
        (
            "deprecated_features",
            Term::List(names.iter().map(|name| Term::atom(*name)).collect()),
        ),
        (
            "message",
            Term::text("Cluster reported deprecated features in use"),
        ),
    ]);
    if call.flag("silent") {
        return Err(Failure::silent(UNAVAILABLE));
    }
    Err(Failure::plain(UNAVAILABLE, names.join("\n")).with_json(json))
}
