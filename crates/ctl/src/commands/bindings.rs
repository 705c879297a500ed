//! Bindings.

use serde_json::Value as Json;

use super::queues::object;
use crate::call::Call;
use crate::columns;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::text;
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

/// All columns.
pub(super) const COLUMNS: &[&str] = &[
    "source_name",
    "source_kind",
    "destination_name",
    "destination_kind",
    "routing_key",
    "arguments",
];

pub(super) const COMMANDS: &[Command] =
    &[
        command("list_bindings", Tools::BOTH, Section::Monitoring, list)
            .about("Lists bindings")
            .usage(
                "list_bindings [--vhost <vhost>] [--no-table-headers] [<column> \
                 ...]",
            )
            .details(&[
                (
                    "<column>",
                    "one of arguments, destination_kind, destination_name, \
                     routing_key, source_kind, source_name",
                ),
                super::VHOST,
                super::NO_HEADERS,
            ])
            .timed()
            .table()
            .args(0, usize::MAX)
            .check(|call| columns::check(call, COLUMNS))
            .banner(|call| format!("Listing bindings for vhost {}...", call.vhost())),
    ];

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost().to_owned();
    let bindings = call.list(&["bindings", &vhost])?;
    let columns = columns::asked(&call.args, COLUMNS);
    let row = |binding: &Json| columns::row(&columns, |column| value(binding, column));
    Ok(Output::Rows(bindings.iter().map(row).collect()))
}

fn value(binding: &Json, column: &str) -> Term {
    match column {
        "source_name" => Term::text(text(binding, "source")),
        "source_kind" => Term::atom("exchange"),
        "destination_name" => Term::text(text(binding, "destination")),
        "destination_kind" => Term::atom(text(binding, "destination_type")),
        "arguments" => Term::Table(object(binding, column)),
        column => Term::text(text(binding, column)),
    }
}
