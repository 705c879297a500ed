use super::*;
use crate::config::LogRotation;

fn logged(log: &Log, say: impl FnOnce(&Logs)) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("node.log");
    let mut log = log.clone();
    log.console.enabled = false;
    log.file.rotation = LogRotation::default();
    let logs = Logs::open(&log, Some(&path)).expect("opens");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(logs.clone()), || say(&logs));
    std::fs::read_to_string(&path).expect("the file is there")
}

#[test]
fn lines_below_the_level_are_left_out_until_it_changes() {
    let text = logged(&Log::default(), |logs| {
        tracing::debug!("too little");
        tracing::info!(port = 5672, "enough");
        logs.set_level("error").expect("a level");
        tracing::warn!("not now");
        logs.set_level("debug").expect("a level");
        tracing::debug!("now");
        logs.set_level("none").expect("a level");
        tracing::error!("never");
    });
    let lines: Vec<&str> = text.lines().map(|line| &line[33..]).collect();
    assert_eq!(lines, ["[info] <0.0.0> enough port=5672", "[debug] <0.0.0> now"]);
}

#[test]
fn an_unknown_level_is_refused_with_those_that_are_known() {
    let logs = Logs::open(&Log::default(), None).expect("opens");
    let error = logs.set_level("loud").expect_err("it is unknown");
    assert!(error.contains("loud") && error.contains("debug, info"), "{error}");
}

#[test]
fn a_category_may_be_quieter_and_libraries_are() {
    let mut log = Log::default();
    log.category_levels.insert("connection".into(), LogLevel::Error);
    let text = logged(&log, |_| {
        tracing::warn!(target: "server::connection_driver", "quiet");
        tracing::error!(target: "server::connection_driver", "loud");
        tracing::info!(target: "hyper::proto", "chatter");
        tracing::info!(target: "server::queue_driver", "plain");
    });
    assert!(text.contains("loud") && text.contains("plain"), "{text}");
    assert!(!text.contains("quiet") && !text.contains("chatter"), "{text}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("file"), "").expect("writes");
    let path = dir.path().join("file/node.log");
    let error = Logs::open(&Log::default(), Some(&path)).err().expect("it fails").to_string();
    assert!(error.contains(path.to_str().expect("text")) && error.contains("log.dir"), "{error}");
}
