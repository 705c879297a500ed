use std::path::Path;

use super::Cookie;
use crate::config::files::memory::MemoryFiles;
use crate::config::{Arguments, ConfigError, Environment};

const FRESH: [u8; 32] = [0xab; 32];

fn load(files: &MemoryFiles, variables: &[(&str, &str)]) -> Result<Cookie, ConfigError> {
    let environment = Environment {
        arguments: Arguments::default(),
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        files,
        host_name: "box".into(),
        is_root: false,
    };
    Cookie::load(&environment, Path::new("/data/warren@box"), FRESH)
}

fn refusal(files: &MemoryFiles, variables: &[(&str, &str)]) -> String {
    load(files, variables)
        .expect_err("the cookie should be refused")
        .to_string()
}

#[test]
fn variables_come_first_and_ours_before_theirs() {
    let files = MemoryFiles::default();
    files.put("/home/a/.erlang.cookie", "file", 0o600);
    let home = ("HOME", "/home/a");
    let theirs = ("RABBITMQ_ERLANG_COOKIE", "theirs");
    assert_eq!(
        load(&files, &[home, theirs, ("WARREN_COOKIE", "ours")])
            .unwrap()
            .as_bytes(),
        b"ours"
    );
    assert_eq!(
        load(&files, &[home, theirs]).unwrap().source(),
        "variable RABBITMQ_ERLANG_COOKIE"
    );
    assert_eq!(
        load(&files, &[home, ("WARREN_COOKIE", "")])
            .unwrap()
            .as_bytes(),
        b"file"
    );
}

#[test]
fn the_file_at_home_comes_before_the_one_beside_the_data() {
    let files = MemoryFiles::default();
    files.put("/data/.erlang.cookie", "beside\n", 0o400);
    assert_eq!(
        load(&files, &[("HOME", "/home/a")]).unwrap().as_bytes(),
        b"beside"
    );
    files.put("/home/a/.erlang.cookie", "home\r\n", 0o600);
    assert_eq!(
        load(&files, &[("HOME", "/home/a")]).unwrap().as_bytes(),
        b"home"
    );
    assert_eq!(load(&files, &[]).unwrap().as_bytes(), b"beside");
}

#[test]
fn a_cookie_is_made_once_and_found_again() {
    let files = MemoryFiles::default();
    let made = load(&files, &[("HOME", "/home/a")]).unwrap();
    assert_eq!(made.as_bytes(), "ab".repeat(32).as_bytes());
    assert_eq!(made.source(), "/home/a/.erlang.cookie");
    assert_eq!(load(&files, &[("HOME", "/home/a")]).unwrap(), made);
}

#[test]
fn where_home_cannot_be_written_the_cookie_is_made_beside_the_data() {
    let mut files = MemoryFiles::default();
    files.read_only = vec!["/home/a".into()];
    assert_eq!(
        load(&files, &[("HOME", "/home/a")]).unwrap().source(),
        "/data/.erlang.cookie"
    );
    files = MemoryFiles::default();
    files.read_only = vec!["/".into()];
    let said = refusal(&files, &[("HOME", "/home/a")]);
    assert!(
        said.contains("/home/a/.erlang.cookie") && said.contains("/data/.erlang.cookie"),
        "{said}"
    );
}

#[test]
fn a_file_others_may_use_is_refused_with_the_remedy() {
    for mode in [0o640, 0o604, 0o660, 0o610] {
        let files = MemoryFiles::default();
        files.put("/home/a/.erlang.cookie", "secret", mode);
        let said = refusal(&files, &[("HOME", "/home/a")]);
        assert!(said.contains("chmod 600 /home/a/.erlang.cookie"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn what_is_no_cookie_is_refused_and_not_shown() {
    let long = "x".repeat(256);
    for text in ["", "\n", "two words", "tab\t", "größe", &long] {
        let files = MemoryFiles::default();
        files.put("/home/a/.erlang.cookie", text, 0o600);
        assert!(
            refusal(&files, &[("HOME", "/home/a")]).contains("printable characters"),
            "{text:?} was taken"
        );
    }
    let said = refusal(&MemoryFiles::default(), &[("WARREN_COOKIE", "my secret")]);
    assert!(
        said.contains("WARREN_COOKIE") && !said.contains("my secret"),
        "{said}"
    );
}

#[test]
fn the_secret_is_not_in_the_debug_form() {
    let cookie = load(&MemoryFiles::default(), &[("WARREN_COOKIE", "hush")]).unwrap();
    assert!(!format!("{cookie:?}").contains("hush"));
}

#[test]
fn on_a_disk_the_file_is_private_and_never_replaced() {
    use crate::config::files::{Disk, Files};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".erlang.cookie");
    Disk.create_private(&path, "one").unwrap();
    assert_eq!(Disk.mode(&path).unwrap(), 0o600);
    assert_eq!(
        Disk.create_private(&path, "two").unwrap_err().kind(),
        std::io::ErrorKind::AlreadyExists
    );
    assert_eq!(Disk.read(&path).unwrap(), "one");
    assert_eq!(Disk.list(directory.path()).unwrap(), [path]);
}
