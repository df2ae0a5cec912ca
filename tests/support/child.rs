//! A test that runs once more in a process of its own: because what it does to itself cannot be undone, or so that nobody
//! else's memory is counted.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Names the test that a child is to run.
const IN_CHILD: &str = "FARPAGE_TEST_CHILD";
/// Before each line that is for the parent.
const MARK: &str = "child: ";
/// The last of them.
const DONE: &str = "all as promised";

/// Runs `work` in a child process, to which `variables` are set too, and checks that it gets through; prints what it
/// [says](say). `test` is the name of the test that calls this, with which it calls this again in the child.
pub(crate) fn run(test: &str, variables: &[(&str, &str)], work: impl FnOnce()) {
    if std::env::var_os(IN_CHILD).is_some_and(|name| name == test) {
        work();
        return say(DONE);
    }
    let mut child = Command::new(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(IN_CHILD, test)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let end = Instant::now() + Duration::from_secs(240);
    while child.try_wait().expect("it is ours").is_none() {
        if Instant::now() > end {
            child.kill().expect("it is ours");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(MARK)?.1)).collect();
    let is_done = output.status.success() && lines.last() == Some(&DONE);
    assert!(is_done, "{}: {text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    lines[..lines.len() - 1].iter().for_each(|line| println!("{line}"));
}

/// Says something to the parent.
pub(crate) fn say(line: &str) {
    println!("{MARK}{line}");
}
