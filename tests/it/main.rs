//! The tests that drive the real programs: one binary, one module a subject.

mod access;
mod arrival;
// What renders the chart is for this architecture alone.
#[cfg(target_arch = "x86_64")]
mod charts;
mod cli;
mod client;
mod contract;
mod daemons;
mod dlm;
mod download;
mod faults;
mod files;
mod guide;
mod hardening;
mod hardship;
mod harness;
mod history;
mod logs;
mod metrics;
mod moving;
mod old_faults;
mod regressions;
mod resume;
mod rows;
mod sdp;
mod stores;
mod support;
mod yaml;
