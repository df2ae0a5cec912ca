//! The machine, the build and the day: what a figure means nothing without.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::process::Command;

use serde::Serialize;

/// What a run was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name as the kernel gives it.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// The caches of the first processor, such as `L2 1024K`.
    pub caches: Vec<String>,
    /// Whether the processor says that it is a guest's.
    pub virtual_machine: bool,
    /// Host memory in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's policy for transparent huge pages; the chosen one is in brackets.
    pub huge_pages: String,
    /// The compiler that is on the path now, which is the one that built this by `cargo bench`.
    pub rustc: String,
    /// The commit of the sources, with `-dirty` when they differ from it.
    pub commit: String,
    /// The day, in universal time.
    pub date: String,
}

impl Machine {
    /// Asks the system; what it does not tell is `unknown` or empty.
    pub fn probe() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        Self {
            cpu: field(&cpuinfo, "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            caches: caches(),
            virtual_machine: field(&cpuinfo, "flags").split(' ').any(|flag| flag == "hypervisor"),
            memory_bytes: kib(&field(&read("/proc/meminfo"), "MemTotal")) * 1024,
            kernel: read("/proc/sys/kernel/osrelease"),
            huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled"),
            rustc: output("rustc", &["--version"]),
            commit: output(
                "git",
                &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"],
            ),
            date: output("date", &["-u", "+%Y-%m-%d"]),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guest = if self.virtual_machine { ", a guest" } else { "" };
        writeln!(f, "machine  {} x {}{guest}; {}", self.cores, self.cpu, self.caches.join(", "))?;
        writeln!(
            f,
            "system   Linux {}, {:.1} GiB, transparent huge pages: {}",
            self.kernel,
            self.memory_bytes as f64 / (1u64 << 30) as f64,
            self.huge_pages
        )?;
        write!(f, "build    {} at {}, {}", self.rustc, self.commit, self.date)
    }
}

/// Bytes of this process's memory that huge pages back, and all its resident bytes.
///
/// Advice is only advice: a table says what the kernel made of it.
pub fn huge_and_resident_bytes() -> (u64, u64) {
    let rollup = read("/proc/self/smaps_rollup");
    (kib(&field(&rollup, "AnonHugePages")) * 1024, kib(&field(&rollup, "Rss")) * 1024)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().to_string())
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_string())
}

/// The number of a `123 kB` value; 0 when there is none.
fn kib(value: &str) -> u64 {
    value.split(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn caches() -> Vec<String> {
    (0..8)
        .map(|index| format!("/sys/devices/system/cpu/cpu0/cache/index{index}"))
        .filter(|folder| fs::metadata(folder).is_ok())
        .filter(|folder| read(&format!("{folder}/type")) != "Instruction")
        .map(|folder| format!("L{} {}", read(&format!("{folder}/level")), read(&format!("{folder}/size"))))
        .collect()
}

fn output(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(|| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
