//! A report in the text format of Prometheus.
#![forbid(unsafe_code)]

use core::fmt::{self, Display, Formatter};

use super::{DeviceReport, SpaceReport};
use crate::words::Order;

/// The report as metric families: each with its help, its type, and its samples in one group.
pub(super) struct Exposition<'a>(pub(super) &'a SpaceReport);

#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

/// A family: a name, what it is, and what it says.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

impl Family {
    fn head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        writeln!(f, "# HELP {} {}\n# TYPE {} {kind}", self.name, self.help, self.name)
    }

    /// One sample without labels.
    fn of_space(&self, value: u64, f: &mut Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        writeln!(f, "{} {value}", self.name)
    }

    /// A sample a device.
    fn of_devices<V: Display>(
        &self,
        devices: &[DeviceReport],
        value: impl Fn(&DeviceReport) -> V,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        self.head(f)?;
        devices.iter().try_for_each(|device| writeln!(f, "{}{{{}}} {}", self.name, Labels(device), value(device)))
    }

    /// A sample for each device and order.
    fn of_orders(
        &self,
        devices: &[DeviceReport],
        value: impl Fn(&DeviceReport, usize) -> u64,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        self.head(f)?;
        for device in devices {
            for order in 0..device.free_runs.len() {
                writeln!(f, "{}{{{},order=\"{order}\"}} {}", self.name, Labels(device), value(device, order))?;
            }
        }
        Ok(())
    }
}

/// What tells a device from every other of the space.
struct Labels<'a>(&'a DeviceReport);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Labels(device) = *self;
        write!(f, "device=\"{}\",owner=\"{}\",start=\"{}\"", Escaped(&device.name), device.owner, device.start)
    }
}

/// A label's value, as it stands between quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['\\', '"', '\n']) {
            let (before, from) = rest.split_at(at);
            f.write_str(before)?;
            f.write_str(match from.as_bytes()[0] {
                b'\n' => "\\n",
                b'"' => "\\\"",
                _ => "\\\\",
            })?;
            rest = &from[1..];
        }
        f.write_str(rest)
    }
}

impl Display for Exposition<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Exposition(report) = *self;
        let devices = &report.devices;
        gauge("farpage_max_pages", "Pages that the space has room for.").of_space(report.max_pages, f)?;

        let family = gauge("farpage_device_pages", "Pages of the device.");
        family.of_devices(devices, |device| device.nr_pages, f)?;
        let family = gauge("farpage_device_live_pages", "Pages of the device that are in use.");
        family.of_devices(devices, |device| device.live_pages, f)?;
        let family = gauge("farpage_device_free_pages", "Pages of the device that are free, cached ones included.");
        family.of_devices(devices, |device| device.free_pages, f)?;
        let family = gauge("farpage_device_cached_pages", "Free pages of the device that caches keep.");
        family.of_devices(devices, |device| device.cached_pages, f)?;
        let family = gauge("farpage_device_cache_limit_pages", "The most pages of the device that caches can keep.");
        family.of_devices(devices, |device| device.cache_limit, f)?;
        let family = gauge("farpage_device_dying", "1 if the device was killed, else 0.");
        family.of_devices(devices, |device| u64::from(device.dying), f)?;
        let family = gauge("farpage_device_free_runs", "Free runs of the device by order, naturally aligned.");
        family.of_orders(devices, |device, order| device.free_runs[order], f)?;
        let family = gauge("farpage_device_longest_free_run_pages", "Pages of the longest free run of the device.");
        family.of_devices(devices, |device| device.longest_free_run, f)?;
        let family =
            gauge("farpage_device_unusable_free_ratio", "Share of the free pages in runs below order 9, 0 to 1.");
        family.of_devices(devices, |device| device.free_runs.unusable_index(Order::HUGE), f)?;

        let family = gauge("farpage_metadata_reserved_bytes", "Address space reserved for metadata.");
        family.of_space(report.metadata_reserved_bytes, f)?;
        let family = gauge("farpage_metadata_populated_bytes", "Metadata that is populated.");
        family.of_space(report.metadata_populated_bytes, f)?;
        let family = gauge("farpage_metadata_section_bytes", "Page records that are populated.");
        family.of_space(report.section_bytes, f)?;
        if let Some(bytes) = report.metadata_resident_bytes {
            gauge("farpage_metadata_resident_bytes", "Populated metadata that lies in memory.").of_space(bytes, f)?;
        }
        let family = counter("farpage_metadata_populates_total", "Chunks of metadata that were populated.");
        family.of_space(report.metadata_populates, f)?;
        let family = counter("farpage_metadata_trims_total", "Chunks of metadata that were given back.");
        family.of_space(report.metadata_trims, f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_escaped() {
        for (name, escaped) in
            [("", ""), ("vram0", "vram0"), ("a\\b\"c\nd", "a\\\\b\\\"c\\nd"), ("é\"", "é\\\""), ("\n\n", "\\n\\n")]
        {
            assert_eq!(Escaped(name).to_string(), escaped);
        }
    }
}
