//! Where settings come from: arguments, files, and the environment variables that files refer to.
//!
//! Nothing here looks at the process or the disk by itself. An `Environment` is handed in, so that a test writes
//! down a whole machine in a few lines.
//!
//! Of two settings of one key the later wins, in this order: the main file with what it includes, the files of
//! `conf.d` by name, arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Place, Problem, Warning};
use super::files::Files;
use super::syntax::{KeyPath, Line, Statement, key_path, parse};

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    pub config_file: Option<PathBuf>,
    pub node_name: Option<String>,
    pub data_dir: Option<PathBuf>,
    /// `key=value` each; they win over all files.
    pub settings: Vec<String>,
}

/// Everything a configuration is made from.
pub struct Environment<'a> {
    pub arguments: Arguments,
    pub variables: BTreeMap<String, String>,
    pub files: &'a dyn Files,
    /// The full name of the machine.
    pub host_name: String,
    /// The server runs as root, hence as a service of the machine.
    pub is_root: bool,
}

impl Environment<'static> {
    /// The environment of this process on this machine.
    #[must_use]
    pub fn of_process(arguments: Arguments) -> Environment<'static> {
        use std::os::unix::fs::MetadataExt;
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .or_else(|| variables.get("HOSTNAME").cloned())
            .unwrap_or_else(|| "localhost".to_owned());
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        Environment {
            arguments,
            variables,
            files: &super::files::Disk,
            host_name,
            is_root,
        }
    }
}

impl Environment<'_> {
    /// The value of `WARREN_name` or else `RABBITMQ_name`, with the full name of the one that is set. A variable
    /// that is set to nothing counts as not set.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<(String, &str)> {
        ["WARREN_", "RABBITMQ_"].iter().find_map(|prefix| {
            let full = format!("{prefix}{name}");
            let value = self
                .variables
                .get(&full)
                .filter(|value| !value.is_empty())?;
            Some((full, value.as_str()))
        })
    }

    /// The name of the machine up to its first dot.
    #[must_use]
    pub fn short_host_name(&self) -> &str {
        self.host_name.split('.').next().unwrap_or("localhost")
    }
}

/// A value and where it was given.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) place: Place,
}

/// All settings, the winning one of each key, and the files they come from.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) by_key: BTreeMap<KeyPath, Setting>,
    pub(super) files: Vec<PathBuf>,
    pub(super) warnings: Vec<Warning>,
    pub(super) problems: Vec<Problem>,
}

/// Includes may include, so far down.
const INCLUDE_DEPTH_MAX: usize = 8;

impl Settings {
    /// Reads everything and replaces each `$(…)` by what it stands for.
    pub(super) fn gather(environment: &Environment<'_>) -> Settings {
        let mut settings = Settings::default();
        for path in settings.files_to_read(environment) {
            let mut seen = BTreeSet::new();
            settings.read_file(environment.files, &path, 0, &mut seen);
        }
        for argument in &environment.arguments.settings {
            settings.add_argument(argument);
        }
        settings.substitute(environment);
        settings
    }

    /// Where `key` was set.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        let key = key_path(key).ok()?;
        self.by_key.get(&key).map(|setting| setting.place.clone())
    }

    /// The first setting whose key begins with the segments of `prefix`.
    pub(super) fn place_under(&self, prefix: &str) -> Option<Place> {
        let prefix = key_path(prefix).ok()?;
        self.by_key
            .iter()
            .find(|(key, _)| key.0.starts_with(&prefix.0))
            .map(|(_, setting)| setting.place.clone())
    }

    fn files_to_read(&mut self, environment: &Environment<'_>) -> Vec<PathBuf> {
        let named = match &environment.arguments.config_file {
            Some(path) => Some((path.clone(), "argument --config".to_owned())),
            None => environment
                .variable("CONFIG_FILE")
                .map(|(name, value)| (PathBuf::from(value), format!("variable {name}"))),
        };
        let files = environment.files;
        let (main, directory) = if let Some((path, named_by)) = named {
            let main = with_extension(files, path);
            if main
                .extension()
                .is_some_and(|extension| extension == "config")
            {
                let reason = "files of Erlang terms are not supported, write the settings as `key = value` lines in a .conf file";
                self.problems.push(Problem::Unreadable {
                    path: main,
                    reason: reason.into(),
                });
                return Vec::new();
            }
            if !files.is_readable(&main) {
                let reason = format!("no such file, or no permission (named by {named_by})");
                self.problems
                    .push(Problem::Unreadable { path: main, reason });
                return Vec::new();
            }
            let directory = main.parent().unwrap_or(Path::new("")).to_owned();
            (Some(main), directory)
        } else {
            default_files(files)
        };
        self.warn_of_advanced_file(environment, &directory);
        let additional = match environment.variable("CONFIG_FILES") {
            Some((_, pattern)) if !pattern.ends_with(".conf") && !pattern.contains('*') => {
                Path::new(pattern).join("*.conf")
            }
            Some((_, pattern)) => PathBuf::from(pattern),
            None => directory.join("conf.d/*.conf"),
        };
        main.into_iter()
            .chain(matching(files, &additional))
            .collect()
    }

    fn warn_of_advanced_file(&mut self, environment: &Environment<'_>, directory: &Path) {
        let path = match environment.variable("ADVANCED_CONFIG_FILE") {
            Some((_, path)) => PathBuf::from(path),
            None => directory.join("advanced.config"),
        };
        if environment.files.is_readable(&path) {
            let text = "is not read: settings given as Erlang terms have no effect here".to_owned();
            self.warnings.push(Warning {
                place: None,
                key: path.display().to_string(),
                text,
            });
        }
    }

    fn read_file(
        &mut self,
        files: &dyn Files,
        path: &Path,
        depth: usize,
        seen: &mut BTreeSet<KeyPath>,
    ) {
        let text = match files.read(path) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(Problem::Unreadable {
                    path: path.to_owned(),
                    reason: error.to_string(),
                });
                return;
            }
        };
        self.files.push(path.to_owned());
        let (lines, problems) = parse(&text, path.to_owned());
        self.problems.extend(problems);
        for Line { place, statement } in lines {
            match statement {
                Statement::Setting {
                    key,
                    value,
                    ends_at_hash,
                } => {
                    if ends_at_hash {
                        let text = "the value ends before the #; to make it part of the value, quote the value as 'this'";
                        self.warnings.push(Warning {
                            place: Some(place.clone()),
                            key: key.to_string(),
                            text: text.into(),
                        });
                    }
                    if !seen.insert(key.clone()) {
                        let text =
                            "is set more than once in this file, the last one counts".to_owned();
                        self.warnings.push(Warning {
                            place: Some(place.clone()),
                            key: key.to_string(),
                            text,
                        });
                    }
                    self.add(files, key, value, place);
                }
                Statement::Include(pattern) => {
                    let paths = matching(
                        files,
                        &path.parent().unwrap_or(Path::new("")).join(&pattern),
                    );
                    if depth == INCLUDE_DEPTH_MAX {
                        let text =
                            format!("more than {INCLUDE_DEPTH_MAX} files include each other");
                        self.problems.push(Problem::Syntax { place, text });
                    } else if paths.is_empty() && !pattern.contains('*') {
                        self.problems.push(Problem::Syntax {
                            place,
                            text: format!("there is no file to include: {pattern}"),
                        });
                    } else {
                        for path in paths {
                            self.read_file(files, &path, depth + 1, seen);
                        }
                    }
                }
            }
        }
    }

    /// Adds a setting; `$(<file)` stands for the text of the file.
    fn add(&mut self, files: &dyn Files, key: KeyPath, mut value: String, place: Place) {
        let included = value
            .strip_prefix("$(<")
            .and_then(|path| path.strip_suffix(')'))
            .map(|path| path.trim().to_owned());
        if let (Some(included), Place::File { path, .. }) = (included, &place) {
            let included = path.parent().unwrap_or(Path::new("")).join(included);
            match files.read(&included) {
                Ok(text) => text
                    .strip_suffix('\n')
                    .unwrap_or(&text)
                    .clone_into(&mut value),
                Err(error) => {
                    let text = format!("{} cannot be read: {error}", included.display());
                    self.problems.push(Problem::Conflict {
                        place: Some(place),
                        key: key.to_string(),
                        text,
                    });
                    return;
                }
            }
        }
        self.by_key.insert(key, Setting { value, place });
    }

    fn add_argument(&mut self, argument: &str) {
        let place = Place::Argument(format!(
            "--set {}",
            argument.split('=').next().unwrap_or_default()
        ));
        let parsed = argument
            .split_once('=')
            .ok_or_else(|| "expected key=value".to_owned())
            .and_then(|(key, value)| Ok((key_path(key.trim())?, value.trim().to_owned())));
        match parsed {
            Ok((key, value)) => {
                self.by_key.insert(key, Setting { value, place });
            }
            Err(text) => self.problems.push(Problem::Syntax { place, text }),
        }
    }

    fn substitute(&mut self, environment: &Environment<'_>) {
        let given = Arc::new(self.by_key.clone());
        for (key, setting) in &mut self.by_key {
            let mut history = vec![key.to_string()];
            match substituted(&setting.value, &given, environment, &mut history) {
                Ok(value) => setting.value = value,
                Err(text) => self.problems.push(Problem::Conflict {
                    place: Some(setting.place.clone()),
                    key: key.to_string(),
                    text,
                }),
            }
        }
    }
}

/// Replaces each `$(name)` by the setting or else the environment variable of that name. `history` are the names
/// being replaced already.
fn substituted(
    value: &str,
    settings: &BTreeMap<KeyPath, Setting>,
    environment: &Environment<'_>,
    history: &mut Vec<String>,
) -> Result<String, String> {
    let (mut done, mut rest) = (String::new(), value);
    while let Some((before, from_name)) = rest.split_once("$(") {
        let Some((name, after)) = from_name.split_once(')') else {
            break;
        };
        let name = name.trim();
        if history.iter().any(|earlier| earlier == name) {
            return Err(format!("$({name}) stands for itself"));
        }
        let setting = key_path(name)
            .ok()
            .and_then(|key| settings.get(&key))
            .map(|setting| setting.value.as_str());
        let Some(replacement) =
            setting.or_else(|| environment.variables.get(name).map(String::as_str))
        else {
            return Err(format!(
                "$({name}) is neither a setting nor an environment variable"
            ));
        };
        history.push(name.to_owned());
        done.push_str(before);
        done.push_str(&substituted(replacement, settings, environment, history)?);
        history.pop();
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}

/// The file as it is named, or with `.conf` added where only that exists.
fn with_extension(files: &dyn Files, path: PathBuf) -> PathBuf {
    let mut extended = path.clone().into_os_string();
    extended.push(".conf");
    let extended = PathBuf::from(extended);
    if !files.is_readable(&path) && files.is_readable(&extended) {
        extended
    } else {
        path
    }
}

/// The first place where a package would have put a configuration.
fn default_files(files: &dyn Files) -> (Option<PathBuf>, PathBuf) {
    let places = [
        ("/etc/warren", "warren.conf"),
        ("/etc/rabbitmq", "rabbitmq.conf"),
    ];
    for (directory, name) in places {
        let directory = PathBuf::from(directory);
        let main = Some(directory.join(name)).filter(|path| files.is_readable(path));
        if main.is_some() || !matching(files, &directory.join("conf.d/*.conf")).is_empty() {
            return (main, directory);
        }
    }
    (None, PathBuf::from(places[0].0))
}

/// The files a path means whose last part may hold stars, by name.
fn matching(files: &dyn Files, pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (
        pattern.parent(),
        pattern.file_name().and_then(|name| name.to_str()),
    ) else {
        return Vec::new();
    };
    if !name.contains('*') {
        return Some(pattern.to_owned())
            .filter(|path| files.is_readable(path))
            .into_iter()
            .collect();
    }
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let mut paths = files.list(directory).unwrap_or_default();
    paths.retain(|path| {
        path.file_name()
            .and_then(|file| file.to_str())
            .is_some_and(|file| star_matches(name, file))
    });
    paths.sort();
    paths
}

/// Whether `text` is `pattern`, in which a star is any text. Hidden files match only a pattern with a dot in front.
fn star_matches(pattern: &str, text: &str) -> bool {
    if text.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::star_matches;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text) in [
            ("*.conf", "10-a.conf"),
            ("a*b*c", "aXbbc"),
            ("*", "x"),
            ("a.conf", "a.conf"),
            ("a*", "a"),
        ] {
            assert!(star_matches(pattern, text), "{pattern} should match {text}");
        }
        for (pattern, text) in [
            ("*.conf", "a.conf~"),
            ("*.conf", ".a.conf"),
            ("a*b", "ac"),
            ("ab*ba", "aba"),
            ("a", "ab"),
        ] {
            assert!(
                !star_matches(pattern, text),
                "{pattern} should not match {text}"
            );
        }
    }
}
