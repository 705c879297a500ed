//! Export and import of definitions.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value as Json;

use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{DATA, Failure, Misuse, Unfit};
use crate::options::{flag, text};
use crate::output::Output;
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "export_definitions",
        Tools::CTL,
        Section::Definitions,
        export,
    )
    .about(
        "Writes users, virtual hosts, queues, policies and the like to \
         a file, as JSON",
    )
    .usage(
        "export_definitions <file_path | \"-\"> [--format <json | \
         erlang>]",
    )
    .details(&[
        (
            "<file_path>",
            "the file to write, a dash for standard output",
        ),
        ("--format", "json; Warren does not write Erlang terms"),
    ])
    .switches(&[text("format")])
    .timed()
    .args(1, 1)
    .check(check_export)
    .banner(|call| match call.arg(0) {
        "-" => String::new(),
        path => format!("Exporting definitions in JSON to a file at \"{path}\" ..."),
    }),
    command(
        "import_definitions",
        Tools::CTL,
        Section::Definitions,
        import,
    )
    .about("Reads what export_definitions wrote")
    .usage(
        "import_definitions <file_path | \"-\"> [--format <json | \
         erlang>] [--skip-if-unchanged]",
    )
    .details(&[
        (
            "<file_path>",
            "the file to read; standard input when it is a dash or left out",
        ),
        ("--format", "json; Warren does not read Erlang terms"),
        (
            "--skip-if-unchanged",
            "taken for compatibility: definitions that are in force already \
             change nothing",
        ),
    ])
    .switches(&[text("format"), flag("skip-if-unchanged")])
    .timed()
    .args(0, 1)
    .check(check_import)
    .banner(|call| match call.args.first() {
        None => "Importing definitions in JSON from standard input ...".to_owned(),
        Some(path) if path == "-" => String::new(),
        Some(path) => format!("Importing definitions in JSON from a file at \"{path}\" ..."),
    }),
];

fn check_format(call: &Call<'_>) -> Result<(), Unfit> {
    match call
        .options
        .text("format")
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("json") => Ok(()),
        Some("erlang") => Err(Misuse::bad("Erlang terms are not supported, use json").into()),
        Some(_) => Err(Misuse::bad("Format should be either json or erlang").into()),
    }
}

fn check_export(call: &Call<'_>) -> Result<(), Unfit> {
    check_format(call)?;
    let dir = Path::new(call.arg(0)).parent().unwrap_or(Path::new("/"));
    if call.arg(0) == "-" || dir.as_os_str().is_empty() || dir.exists() {
        return Ok(());
    }
    Err(Misuse::bad(format!("Directory {} does not exist", dir.display())).into())
}

fn check_import(call: &Call<'_>) -> Result<(), Unfit> {
    check_format(call)?;
    match call.args.first() {
        Some(path) if path != "-" && !Path::new(path).exists() => {
            Err(Misuse::bad(format!("File {path} does not exist")).into())
        }
        _ => Ok(()),
    }
}

fn export(call: &mut Call<'_>) -> Result<Output, Failure> {
    let definitions = call.get(&["definitions"])?.to_string();
    let path = call.arg(0);
    if path == "-" {
        return Ok(Output::Raw(definitions.into_bytes()));
    }
    std::fs::write(path, definitions).map_err(|error| {
        Failure::new(
            DATA,
            match error.kind() {
                ErrorKind::NotFound => format!("Parent directory or file {path} does not exist"),
                ErrorKind::NotADirectory => {
                    format!("Parent directory of file {path} is not a directory")
                }
                ErrorKind::StorageFull => format!("No space left on device hosting {path}"),
                ErrorKind::PermissionDenied => {
                    format!("No permissions to write to file {path} or its parent directory")
                }
                ErrorKind::IsADirectory => format!("Path {path} is a directory"),
                _ => format!("Could not write to file {path}: {error}"),
            },
        )
    })?;
    Ok(Output::Nothing)
}

fn import(call: &mut Call<'_>) -> Result<Output, Failure> {
    let path = call.args.first().filter(|path| *path != "-").cloned();
    let (read, name) = match &path {
        Some(path) => (std::fs::read(path), format!("File {path}")),
        None => (call.outside.read_all(), "Standard input".to_owned()),
    };
    let bytes =
        read.map_err(|error| Failure::new(DATA, format!("Could not read {name}: {error}")))?;
    if bytes.is_empty() {
        return Err(Failure::new(DATA, format!("{name} is zero-sized")));
    }
    let definitions: Json = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(
            DATA,
            format!("Failed to deserialise input (format: JSON) (error: {error})"),
        )
    })?;
    call.post(&["definitions"], definitions)?.good()?;
    if call.is_json() || call.is_quiet() {
        return Ok(Output::Done);
    }
    Ok(Output::Text(
        "Successfully imported definitions.".to_owned(),
    ))
}
