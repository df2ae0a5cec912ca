//! A process whose address space is limited (`ulimit -v`): a default space is an error with the numbers, a smaller one
//! works. Linux only, where such a limit is enforced; in a child process, because a limit cannot be raised again.

#![cfg(target_os = "linux")]

use std::process::Command;

use farpage::{Access, DeviceConfig, Order, Space, SpaceError};

const IN_CHILD: &str = "FARPAGE_TEST_LIMITED";

#[test]
fn address_space_that_is_refused_is_an_error_with_the_numbers() {
    if std::env::var_os(IN_CHILD).is_some() {
        return limited();
    }
    let program = std::env::current_exe().expect("a test has a path");
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 4000000 && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(program)
        .arg("address_space_that_is_refused_is_an_error_with_the_numbers")
        .env(IN_CHILD, "1")
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("limited: all as promised"), "the child has run: {text}");
}

/// With 4 GB of address space.
fn limited() {
    let error = Space::new().expect_err("270 GiB do not fit");
    let SpaceError::AddressSpace { bytes, os_error } = error else { panic!("{error}") };
    assert!(bytes >= (1 << 34) * 16, "16 bytes for each of 2^34 pages: {bytes}");
    assert_ne!(os_error, 0);
    let text = error.to_string();
    assert!(text.contains(&bytes.to_string()) && text.contains("max_pages"), "{text}");
    // Many times, so that an error leaves nothing mapped behind.
    for shift in (20..=40).cycle().take(500) {
        let _ = Space::builder().max_pages(1 << shift).build();
    }
    let space = Space::builder().max_pages(1 << 26).build().expect("256 GiB of pages need 1 GiB");
    let device = space.register(DeviceConfig::new(1 << 26)).expect("it fits");
    let leaf = device.alloc(Order::MAX).expect("room").into_leaf(Access::Write);
    drop(space.take(leaf).expect("it is mapped"));
    assert_eq!(space.validate(), Ok(()));
    println!("limited: all as promised");
}
