//! What the user can say, and what it is when nothing is said.
//! Whether the numbers fit each other is for `demo` to find out.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, value_parser};
use parse_size::Config;

/// The answers are equal.
pub(crate) const EXIT_EQUAL: u8 = 0;
/// The answers differ: memory was not kept.
pub(crate) const EXIT_DIFFERENT: u8 = 1;
/// The arguments cannot work, or something failed; as for every mistake in the arguments.
pub(crate) const EXIT_FAILED: u8 = 2;
/// Interrupted: 128 and the number of SIGINT, as shells have it.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Memory that lives in device-private pages.
#[derive(Debug, Parser)]
#[command(name = "farpage", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
}

/// Run a job on more memory than may be in RAM, with real page faults.
///
/// The bytes of the input are put into a region of virtual memory whose pages live in a device;
/// a memfd stands for the device's memory. Only the budget may be in RAM. All threads hash the
/// region, sort it in place as 16-byte records, and hash it again; each answer must equal that
/// of the same work in plain memory.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 the answers are equal; 1 they differ; 2 the arguments \
                        cannot work or something failed; 130 interrupted.")]
pub(crate) struct DemoArgs {
    /// Files whose bytes are the input, one after the other [default: this program itself]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,

    /// Size of the region; the input is repeated, or cut, to it. Units: K, M, G or KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub(crate) size: u64,

    /// How much of the region may be in RAM at once [default: a quarter of the size]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) budget: Option<u64>,

    /// Threads that work, and as many that serve their faults [default: one a core]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// A fault brings home a run of 2^ORDER pages of 4 KiB, 0 to 9
    #[arg(long, value_name = "ORDER", default_value_t = 0, value_parser = value_parser!(u8).range(0..=9))]
    pub(crate) order: u8,

    /// Use no page faults: read and write the region through an accessor
    #[arg(long)]
    pub(crate) software: bool,

    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// `4096`, `64K`, `1.5MiB`, `2G`: as for every memory tool, K is 1024.
fn size(text: &str) -> Result<u64, String> {
    match Config::new().with_binary().parse_size(text) {
        Ok(0) => Err("a size of 0 bytes holds nothing".into()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(format!("{error}; write it like 4096, 64K, 256MiB or 1G")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Cli, size};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_binary_whatever_their_unit() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64K"), Ok(64 << 10));
        assert_eq!(size("64KiB"), Ok(64 << 10));
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("1.5 MB"), Ok(3 << 19));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert!(size("0").is_err() && size("lots").is_err() && size("-1").is_err());
    }
}
