//! Ctrl-C, in the middle of the work: the region goes down, the report is printed, and the exit
//! status is a shell's for SIGINT.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Interrupts the demo after `delay`; whether it was still at work, and what it was doing.
fn interrupt(delay: Duration, arguments: &[&str]) -> Option<String> {
    let child = Command::new(env!("CARGO_BIN_EXE_farpage"))
        .args(["demo", "--json", "--size", "192MiB", "--budget", "4MiB"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(delay);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    if output.status.signal().is_some() {
        return None; // a machine so busy that the program was not even watching for Ctrl-C
    }
    let errors = String::from_utf8(output.stderr).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).expect(&errors);
    assert_eq!(report["pages_in_use_at_end"], 0);
    if report["outcome"] == "equal" {
        // Quicker than the delay: nothing was left to interrupt.
        assert_eq!(output.status.code(), Some(0));
        return None;
    }
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert_eq!(report["outcome"], "interrupted");
    assert!(errors.contains("interrupted in phase"), "{errors}");
    Some(report["interrupted_in"].as_str().unwrap().to_owned())
}

#[test]
fn an_interrupt_ends_the_job_in_any_phase() {
    for mode in [&[][..], &["--software"]] {
        let mut phases = Vec::new();
        // Sooner or later according to the machine: load, hash or sort, and the sort in its middle.
        for delay in [400, 1200, 2500] {
            phases.extend(interrupt(Duration::from_millis(delay), mode));
        }
        eprintln!("note: interrupted in {phases:?}");
    }
}
