//! Exchanges.

use serde_json::Value as Json;

use super::queues::object;
use crate::call::Call;
use crate::columns;
use crate::command::{Command, Section, command};
use crate::failure::Failure;
use crate::json::{flag, text};
use crate::output::Output;
use crate::term::Term;
use crate::tool::Tools;

/// All columns.
pub(super) const COLUMNS: &[&str] = &[
    "name",
    "type",
    "durable",
    "auto_delete",
    "internal",
    "arguments",
    "policy",
];

pub(super) const COMMANDS: &[Command] =
    &[
        command("list_exchanges", Tools::BOTH, Section::Monitoring, list)
            .about("Lists exchanges")
            .usage(
                "list_exchanges [--vhost <vhost>] [--no-table-headers] \
                 [<column> ...]",
            )
            .details(&[
                (
                    "<column>",
                    "one of arguments, auto_delete, durable, internal, name, \
                     policy, type",
                ),
                super::VHOST,
                super::NO_HEADERS,
            ])
            .timed()
            .table()
            .args(0, usize::MAX)
            .check(|call| columns::check(call, COLUMNS))
            .banner(|call| format!("Listing exchanges for vhost {} ...", call.vhost())),
    ];

fn list(call: &mut Call<'_>) -> Result<Output, Failure> {
    let vhost = call.vhost().to_owned();
    let exchanges = call.list(&["exchanges", &vhost])?;
    let columns = columns::asked(&call.args, &["name", "type"]);
    let row = |exchange: &Json| columns::row(&columns, |column| value(exchange, column));
    Ok(Output::Rows(exchanges.iter().map(row).collect()))
}

fn value(exchange: &Json, column: &str) -> Term {
    match column {
        "durable" | "auto_delete" | "internal" => Term::flag(flag(exchange, column)),
        "arguments" => Term::Table(object(exchange, column)),
        "type" => Term::atom(text(exchange, column)),
        "policy" if text(exchange, column).is_empty() => Term::nothing(),
        column => Term::text(text(exchange, column)),
    }
}
