//! The secret that the nodes of a cluster and `ctl` share.
//!
//! It comes from the environment or from a file that only its owner may read, which is made when there is none. It
//! is never shown: its `Debug` form hides it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Place, Problem};
use super::source::Environment;

/// The name of the file, which is RabbitMQ's, so that a cluster can be moved with it.
const FILE_NAME: &str = ".erlang.cookie";

/// The longest cookie there may be.
const LENGTH_MAX: usize = 255;

/// The shared secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie {
    secret: String,
    source: String,
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie(from {})", self.source)
    }
}

impl Cookie {
    /// The secret itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// Where it came from: a variable or a file.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Finds the cookie in the environment or in a file, or makes a file of `fresh` random bytes.
    ///
    /// The variables are `WARREN_COOKIE`, `WARREN_ERLANG_COOKIE`, `RABBITMQ_COOKIE` and `RABBITMQ_ERLANG_COOKIE`. The
    /// file is `.erlang.cookie` in the home directory or else beside the data directories of the nodes; there it is
    /// also made if the home directory cannot be written.
    ///
    /// # Errors
    /// When the file may be read by others, or holds no cookie, or cannot be read or made.
    pub fn load(
        environment: &Environment<'_>,
        data_dir: &Path,
        fresh: [u8; 32],
    ) -> Result<Cookie, ConfigError> {
        for name in [
            "WARREN_COOKIE",
            "WARREN_ERLANG_COOKIE",
            "RABBITMQ_COOKIE",
            "RABBITMQ_ERLANG_COOKIE",
        ] {
            if let Some(secret) = environment
                .variables
                .get(name)
                .filter(|secret| !secret.is_empty())
            {
                let Some(secret) = checked(secret) else {
                    let place = Place::Variable(name.to_owned());
                    return Err(bad_value(place));
                };
                return Ok(Cookie {
                    secret,
                    source: format!("variable {name}"),
                });
            }
        }
        let paths = candidates(environment, data_dir);
        for path in &paths {
            if let Some(cookie) = read(environment, path)? {
                return Ok(cookie);
            }
        }
        make(environment, &paths, fresh)
    }
}

fn candidates(environment: &Environment<'_>, data_dir: &Path) -> Vec<PathBuf> {
    let home = environment
        .variables
        .get("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from);
    let beside = data_dir
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map(Path::to_owned);
    home.into_iter()
        .chain([beside.unwrap_or_else(|| PathBuf::from("."))])
        .map(|dir| dir.join(FILE_NAME))
        .collect()
}

/// The cookie in a file; nothing where there is no file.
fn read(environment: &Environment<'_>, path: &Path) -> Result<Option<Cookie>, ConfigError> {
    let unreadable = |error: io::Error| Problem::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mode = match environment.files.mode(path) {
        Ok(mode) => mode,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(unreadable(error).into()),
    };
    if mode & 0o077 != 0 {
        let text = format!(
            "the cookie file may be used by others (mode {mode:o}); run `chmod 600 {}` after making sure that nobody \
             took a copy",
            path.display()
        );
        return Err(Problem::Conflict {
            place: None,
            key: path.display().to_string(),
            text,
        }
        .into());
    }
    let text = environment.files.read(path).map_err(unreadable)?;
    match checked(text.trim_end_matches(['\n', '\r'])) {
        Some(secret) => Ok(Some(Cookie {
            secret,
            source: path.display().to_string(),
        })),
        None => Err(bad_value(Place::File {
            path: path.to_owned().into(),
            line: 1,
        })),
    }
}

/// Writes a new cookie to the first place where that can be done.
fn make(
    environment: &Environment<'_>,
    paths: &[PathBuf],
    fresh: [u8; 32],
) -> Result<Cookie, ConfigError> {
    let secret: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut problems = Vec::new();
    for path in paths {
        match environment.files.create_private(path, &secret) {
            Ok(()) => {
                return Ok(Cookie {
                    secret,
                    source: path.display().to_string(),
                });
            }
            // Another node on this machine was quicker: its cookie counts.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(cookie) = read(environment, path)? {
                    return Ok(cookie);
                }
            }
            Err(error) => {
                let reason = format!("there is no cookie yet and none can be written: {error}");
                problems.push(Problem::Unreadable {
                    path: path.clone(),
                    reason,
                });
            }
        }
    }
    Err(ConfigError { problems })
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn checked(secret: &str) -> Option<String> {
    let is_valid =
        (1..=LENGTH_MAX).contains(&secret.len()) && secret.chars().all(|c| c.is_ascii_graphic());
    is_valid.then(|| secret.to_owned())
}

fn bad_value(place: Place) -> ConfigError {
    let allowed = format!("1 to {LENGTH_MAX} printable characters without blanks");
    Problem::BadValue {
        place,
        key: "the cookie".into(),
        value: "(not shown)".into(),
        allowed,
    }
    .into()
}

#[cfg(test)]
mod tests;
