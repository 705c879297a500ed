//! The columns that a list command is asked for.

use crate::call::Call;
use crate::failure::{Misuse, Unfit};
use crate::term::Term;

/// Column names from arguments, which may hold several with commas; each once.
pub(crate) fn asked<'a>(args: &'a [String], default: &[&'a str]) -> Vec<&'a str> {
    let mut columns: Vec<&str> = Vec::new();
    let words = args.iter().flat_map(|arg| arg.split(',')).map(str::trim);
    for word in words.filter(|word| !word.is_empty()) {
        if !columns.contains(&word) {
            columns.push(word);
        }
    }
    if columns.is_empty() {
        default.to_vec()
    } else {
        columns
    }
}

/// Fails when a column is not among the known.
pub(crate) fn check(call: &Call<'_>, known: &[&str]) -> Result<(), Unfit> {
    let mut unknown: Vec<String> = asked(&call.args, &[])
        .into_iter()
        .filter(|column| !known.contains(column))
        .map(str::to_owned)
        .collect();
    unknown.sort_unstable();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Misuse::Columns(unknown).into())
    }
}

/// A line with these columns in this order.
pub(crate) fn row(columns: &[&str], value: impl Fn(&str) -> Term) -> crate::term::Row {
    columns
        .iter()
        .map(|column| ((*column).to_owned(), value(column)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_words_or_lists_of_words_and_come_once() {
        let args = ["type,messages".to_owned(), " name,type,".to_owned()];
        assert_eq!(asked(&args, &["x"]), ["type", "messages", "name"]);
        assert_eq!(asked(&[], &["name", "messages"]), ["name", "messages"]);
    }
}
