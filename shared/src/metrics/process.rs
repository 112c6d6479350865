//! What the operating system says of this process, under the names that Prometheus's own libraries use. Where there is no
//! `/proc` it is less.

use crate::clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;

/// This process.
#[derive(Debug)]
pub(super) struct Process {
    /// When it was started, in seconds since 1970.
    started: f64,
}

impl Process {
    pub(super) fn new() -> Process {
        Process { started: clock::now().timestamp_millis() as f64 / 1000.0 }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            rest.split_whitespace().next()?.parse::<f64>().ok()
        };
        let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map(|most| most as f64);
        let gauges = [
            ("process_start_time_seconds", "When the process was started, since 1970", Some(self.started)),
            ("process_resident_memory_bytes", "Memory that is resident", field("VmRSS").map(|kib| kib * 1024.0)),
            ("process_threads", "Threads", field("Threads")),
            ("process_open_fds", "Open files, connections among them", files),
            ("process_max_fds", "How many files may be open", most),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let help = format!("{help}.");
            encoder.encode_descriptor(name, &help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        encoder
            .encode_descriptor("process_cpu_seconds", "Time that its threads have worked.", None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&seconds, None)
    }
}
