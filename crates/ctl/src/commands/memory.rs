//! Sizes in units, and where the memory of a node goes.

use serde_json::Value as Json;

use crate::call::Call;
use crate::command::{Command, Section, command};
use crate::failure::{Failure, Misuse};
use crate::json::whole;
use crate::options::text;
use crate::output::Output;
use crate::term::{Term, float};
use crate::tool::Tools;

pub(super) const COMMANDS: &[Command] = &[command(
    "memory_breakdown",
    Tools::DIAGNOSTICS,
    Section::Monitoring,
    breakdown,
)
.about("Shows what the memory of a node is used for")
.usage("memory_breakdown [--unit <unit>]")
.details(&[("--unit <bytes | kb | mb | gb | ...>", "the unit of sizes")])
.switches(&[text("unit")])
.timed()
.check(|call| match is_unit(unit(call)) {
    true => Ok(()),
    false => {
        let text = format!(
            "unit '{}' is not supported. Please use one of: bytes, mb, gb",
            unit(call)
        );
        Err(Misuse::Other(text).into())
    }
})
.banner(|call| format!("Reporting memory breakdown on node {}...", call.node()))];

/// The unit asked for.
pub(super) fn unit<'a>(call: &'a Call<'_>) -> &'a str {
    call.options.text("unit").unwrap_or("gb")
}

/// Bytes of a unit.
fn unit_bytes(unit: &str) -> Option<u64> {
    let power = |base: u64| match unit.chars().next().map(|c| c.to_ascii_lowercase()) {
        Some('k') => Some(base),
        Some('m') => Some(base.pow(2)),
        Some('g') => Some(base.pow(3)),
        Some('t') => Some(base.pow(4)),
        Some('p') => Some(base.pow(5)),
        _ => None,
    };
    match unit.to_ascii_lowercase().as_str() {
        "bytes" => Some(1),
        "ki" | "kib" | "mi" | "mib" | "gi" | "gib" | "ti" | "tib" | "pi" | "pib" => power(1024),
        "k" | "kb" | "kilobytes" | "m" | "mb" | "megabytes" | "g" | "gb" | "gigabytes" | "t"
        | "tb" | "terabytes" | "p" | "pb" | "petabytes" => power(1000),
        _ => None,
    }
}

pub(super) fn is_unit(unit: &str) -> bool {
    unit_bytes(unit).is_some()
}

/// A size in a unit, with four digits after the point.
pub(super) fn size(bytes: u64, unit: &str) -> String {
    match unit_bytes(unit) {
        Some(1) | None => bytes.to_string(),
        Some(scale) => float(rounded(ratio(bytes, scale), 10_000.0)),
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    // Sizes of memory and disks are far below the limit of exact whole numbers.
    #[allow(clippy::cast_precision_loss)]
    let (part, whole) = (part as f64, whole.max(1) as f64);
    part / whole
}

fn rounded(number: f64, scale: f64) -> f64 {
    (number * scale).round() / scale
}

/// A part of the memory: what it is for, bytes, percent of all.
pub(super) struct Share {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) percent: f64,
}

/// The parts of the memory, the largest first.
pub(super) fn shares(memory: &Json) -> Vec<Share> {
    let total = memory.get("total");
    let totals =
        ["rss", "allocated", "erlang"].map(|key| total.map_or(0, |total| whole(total, key)));
    let total = totals.into_iter().max().unwrap_or_default();
    let share = |(name, value): (&String, &Json)| {
        let bytes = value.as_u64().filter(|_| name != "total")?;
        Some(Share {
            name: name.clone(),
            bytes,
            percent: rounded(ratio(bytes, total) * 100.0, 100.0),
        })
    };
    let mut shares: Vec<Share> = memory
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(share)
        .collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    shares
}

fn breakdown(call: &mut Call<'_>) -> Result<Output, Failure> {
    let status = call.get(&["internal", "status"])?;
    let shares = shares(status.get("memory").unwrap_or(&Json::Null));
    let unit = unit(call).to_ascii_lowercase();
    let line = |share: &Share| {
        format!(
            "{}: {} {unit} ({}%)\n",
            share.name,
            size(share.bytes, &unit),
            float(share.percent)
        )
    };
    let value = |share: &Share| {
        let value = Term::map([
            ("bytes", Term::Int(share.bytes.into())),
            ("percentage", Term::Float(share.percent)),
        ]);
        (share.name.clone(), value)
    };
    let text: String = shares.iter().map(line).collect();
    Ok(match call.formatter {
        crate::format::Formatter::Csv => {
            let mut row: crate::term::Row = Vec::new();
            for share in &shares {
                row.push((
                    format!("{}.bytes", share.name),
                    Term::Int(share.bytes.into()),
                ));
                row.push((
                    format!("{}.percentage", share.name),
                    Term::Float(share.percent),
                ));
            }
            row.sort_by(|a, b| b.0.cmp(&a.0));
            Output::Rows(vec![row])
        }
        _ => Output::Both(text, Term::Pairs(shares.iter().map(value).collect())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, unit, expected) in [
            (181_174_272, "gb", "0.1812"),
            (10_110_600_000, "GB", "10.1106"),
            (50_000_000, "gb", "0.05"),
            (0, "gb", "0.0"),
            (2768, "bytes", "2768"),
            (1_048_576, "mib", "1.0"),
        ] {
            assert_eq!(size(bytes, unit), expected);
        }
        assert!(!is_unit("foo") && is_unit("tib"));
    }

    #[test]
    fn shares_are_of_the_largest_total() {
        let memory = serde_json::json!({"binary": 50, "code": 150, "strategy": "rss",
            "total": {"erlang": 100, "rss": 200, "allocated": 150}});
        let shares = shares(&memory);
        let shown: Vec<(&str, f64)> = shares
            .iter()
            .map(|share| (share.name.as_str(), share.percent))
            .collect();
        assert_eq!(shown, [("code", 75.0), ("binary", 25.0)]);
    }
}
