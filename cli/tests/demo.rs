//! The built program, as a user runs it: answers, output, exit status.
//!
//! The way with real faults is run where it is allowed; where it is refused, `farpage` says so and
//! does the same job in software, and the tests expect that.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn farpage(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farpage")).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs `farpage demo ARGUMENTS --json` to a good end and checks what must always hold.
fn report(arguments: &[&str]) -> Value {
    let output = farpage(&[&["demo", "--json"], arguments].concat());
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("nothing but JSON");
    let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(report["outcome"], "equal");
    assert_eq!(number("pages_in_use_at_end"), 0);
    assert!(number("peak_resident_pages") <= number("budget_pages"));
    assert!(number("faults") > 0 && number("evictions") > 0);
    assert!(number("pages_home") <= number("pages_to_device"));
    assert_eq!(number("lookups") << number("order"), number("pages_home"), "a page comes home by a lookup");
    assert!(number("fault_latency_p50_ns") <= number("fault_latency_p99_ns"));
    assert!(number("fault_latency_p99_ns") <= number("fault_latency_max_ns"));
    assert!(number("metadata_bytes_end") <= number("metadata_bytes_peak"));
    let phases = report["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|phase| &phase["name"]).collect();
    assert_eq!(names, ["load", "hash", "sort", "check"]);
    if arguments.contains(&"--software") {
        assert_eq!(report["mode"], "software");
    } else if report["mode"] == "software" {
        let why = report["faults_refused"].as_str().expect("a reason");
        assert!(errors.contains(why), "{errors}");
        eprintln!("note: no real faults in this test, only the software way: {why}");
    }
    report
}

#[test]
fn answers_are_equal_with_single_pages() {
    report(&["--size", "6MiB", "--budget", "1MiB"]);
    report(&["--size", "6MiB", "--budget", "1MiB", "--software"]);
}

#[test]
fn answers_are_equal_with_small_runs() {
    let size = ["--size", "6MiB", "--budget", "1MiB", "--order", "3", "--threads", "4"];
    report(&size);
    report(&[&size[..], &["--software"]].concat());
}

#[test]
fn answers_are_equal_with_huge_runs() {
    let size = ["--size", "24MiB", "--budget", "16MiB", "--order", "9", "--threads", "2"];
    report(&size);
    report(&[&size[..], &["--software"]].concat());
}

#[test]
fn the_input_may_be_any_files() {
    let dir = tempfile::tempdir().unwrap();
    let words: String = (0..40_000u32).map(|n| format!("{}\n", n * n % 9_973)).collect();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, &words).unwrap();
    fs::write(&b, [0; 100_001]).unwrap();
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let arguments = ["--size", "2M", "--budget", "256K", "--threads", "2", "--input", a, b];
    let report = report(&arguments);
    assert_eq!(report["input_bytes"], words.len() + 100_001);
    assert_eq!(report["size_bytes"], 2 << 20);
    assert_eq!(report["budget_bytes"], 256 << 10);
}

#[test]
fn an_odd_size_is_rounded_up_and_said_so() {
    let arguments = ["demo", "--json", "--size", "3000001", "--threads", "1", "--order", "2"];
    let output = farpage(&arguments);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["size_bytes"], 3_014_656);
    assert!(text(&output.stderr).contains("rounded up to 3014656"));
}

#[test]
fn the_tables_have_what_the_json_has() {
    let output = farpage(&["demo", "--size", "2MiB", "--budget", "512KiB", "--threads", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let tables = text(&output.stdout);
    for row in [
        "faults",
        "fault latency p50 / p99 / max",
        "pages to device / home",
        "lookups",
        "peak resident / budget",
        "pages in use at the end",
        "page metadata peak / end",
        "throughput",
        "equal: every hash",
    ] {
        assert!(tables.contains(row), "no {row:?} in\n{tables}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_the_numbers() {
    let refusals: [(&[&str], &str); 9] = [
        (&["--size", "lots"], "256MiB"),
        (&["--size", "0"], "0 bytes"),
        (&["--order", "10"], "0..=9"),
        (&["--threads", "0"], "1..=1024"),
        (
            &["--budget", "16K", "--threads", "2"],
            "a budget of 16384 bytes is 4 runs of 4096 bytes, but 2 handlers need 32768 bytes",
        ),
        (&["--budget", "8M", "--order", "9", "--threads", "2"], "2 handlers need 16777216 bytes"),
        (&["--input", "/dev/null"], "the input is empty"),
        (&["--input", "/no/such/file"], "cannot read /no/such/file"),
        (&["--input", "/"], "cannot read /"),
    ];
    for (arguments, expected) in refusals {
        let output = farpage(&[&["demo"], arguments].concat());
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn without_arguments_there_is_help() {
    let output = farpage(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("demo"));
    assert!(farpage(&["--help"]).status.success());
    assert!(farpage(&["demo", "--help"]).status.success());
}
