//! Where the tool finds the cookie: on the command line, in a variable, in a file.
//!
//! The files are those in which a node looks for its own: in the home directory, then beside the
//! data directories of the nodes; and then where packages of Warren and RabbitMQ keep it, since an
//! operator seldom has the home directory of the service.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cluster::handshake::Cookie;

use crate::options::Options;

const FILE: &str = ".erlang.cookie";
const VARIABLES: [&str; 4] = [
    "WARREN_COOKIE",
    "WARREN_ERLANG_COOKIE",
    "RABBITMQ_COOKIE",
    "RABBITMQ_ERLANG_COOKIE",
];

/// A cookie and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) cookie: Cookie,
    pub(crate) source: String,
}

/// No cookie: what was tried, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoCookie(pub(crate) Vec<String>);

/// Finds the cookie.
pub(crate) fn find(
    options: &Options,
    variables: &BTreeMap<String, String>,
    node: &str,
) -> Result<Found, NoCookie> {
    let of_text = |text: &str, source: String| {
        Cookie::new(text.as_bytes()).map(|cookie| Found { cookie, source })
    };
    let given = options
        .text("erlang-cookie")
        .and_then(|text| of_text(text, "--erlang-cookie".to_owned()));
    let variable = || {
        VARIABLES
            .iter()
            .find_map(|name| of_text(variables.get(*name)?, format!("variable {name}")))
    };
    if let Some(found) = given.or_else(variable) {
        return Ok(found);
    }
    let mut tried = Vec::new();
    for path in files(variables, node) {
        match std::fs::read_to_string(&path) {
            Ok(text) => match of_text(&text, path.display().to_string()) {
                Some(found) => return Ok(found),
                None => tried.push(format!("{}: empty", path.display())),
            },
            Err(error) => tried.push(format!("{}: {error}", path.display())),
        }
    }
    Err(NoCookie(tried))
}

/// The files a cookie may be in, best first.
pub(crate) fn files(variables: &BTreeMap<String, String>, node: &str) -> Vec<PathBuf> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let mut dirs: Vec<PathBuf> = set("HOME").map(PathBuf::from).into_iter().collect();
    let data =
        set("WARREN_DATA_DIR").map_or_else(|| Path::new("warren-data").join(node), PathBuf::from);
    dirs.extend(data.parent().map(Path::to_owned));
    dirs.push(data);
    dirs.extend(["/var/lib/warren", "/var/lib/rabbitmq"].map(PathBuf::from));
    let mut files: Vec<PathBuf> = Vec::new();
    for file in dirs.into_iter().map(|dir| dir.join(FILE)) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::parse;

    fn variables(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn source(options: &[&str], entries: &[(&str, &str)]) -> Result<String, NoCookie> {
        let words: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        let options = parse(&words, &[]).options;
        find(&options, &variables(entries), "w@h").map(|found| found.source)
    }

    #[test]
    fn the_nearest_source_wins() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "in-a-file\n").unwrap();
        let home = ("HOME", dir.path().to_str().unwrap());
        let (ours, theirs) = (("WARREN_COOKIE", "a"), ("RABBITMQ_ERLANG_COOKIE", "b"));
        assert_eq!(
            source(&["--erlang-cookie", "x"], &[ours]).unwrap(),
            "--erlang-cookie"
        );
        assert_eq!(
            source(&[], &[home, theirs, ours]).unwrap(),
            "variable WARREN_COOKIE"
        );
        assert_eq!(
            source(&[], &[home, theirs]).unwrap(),
            "variable RABBITMQ_ERLANG_COOKIE"
        );
        assert!(source(&[], &[home]).unwrap().ends_with(FILE));
        let found = find(&Options::default(), &variables(&[home]), "w@h").unwrap();
        assert_eq!(found.cookie.bytes(), b"in-a-file");
    }

    #[test]
    fn the_files_of_a_node_come_after_the_home_directory() {
        let files = files(
            &variables(&[("HOME", "/home/a"), ("WARREN_DATA_DIR", "/srv/w/n1")]),
            "w@h",
        );
        let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            files[..3],
            [
                "/home/a/.erlang.cookie",
                "/srv/w/.erlang.cookie",
                "/srv/w/n1/.erlang.cookie"
            ]
        );
    }

    #[test]
    fn without_any_the_places_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = ("HOME", dir.path().to_str().unwrap());
        let data = (
            "WARREN_DATA_DIR",
            dir.path().join("n").to_str().unwrap().to_owned(),
        );
        let NoCookie(tried) = match source(&[], &[home, (data.0, &data.1)]) {
            Err(none) => none,
            // A machine with RabbitMQ has a cookie in its usual place.
            Ok(source) => return assert!(source.starts_with("/var/lib/")),
        };
        assert!(
            tried[0].starts_with(dir.path().to_str().unwrap()),
            "{tried:?}"
        );
    }
}
