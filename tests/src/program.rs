//! Other programs, run to their end with a limit of time.
//!
//! Invariant: no program outlives the test that started it; one that takes too long is killed and
//! counts as failed.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What it printed, if it ended well.
    ///
    /// # Panics
    /// If it did not, with everything it said.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs `command` to its end, `patience` at most.
///
/// # Panics
/// If it does not start, or takes longer.
#[track_caller]
pub fn run(command: &mut Command, patience: Duration) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (done, ends) = mpsc::channel();
    let stdout = collect(child.stdout.take().expect("piped"), done.clone());
    let stderr = collect(child.stderr.take().expect("piped"), done);
    // Both streams end when the program does.
    let both = ends.recv_timeout(patience).and_then(|()| ends.recv_timeout(patience));
    let status = end(&mut child, both.is_err());
    let text = |thread: std::thread::JoinHandle<String>| thread.join().expect("the reader ends with its stream");
    let output = Output { status, stdout: text(stdout), stderr: text(stderr) };
    assert!(both.is_ok(), "{command:?} took longer than {patience:?}\n{}{}", output.stdout, output.stderr);
    output
}

fn end(child: &mut Child, kill: bool) -> ExitStatus {
    if kill {
        let _ = child.kill();
    }
    child.wait().expect("our own child")
}

fn collect<R: Read + Send + 'static>(mut from: R, done: mpsc::Sender<()>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = done.send(());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
