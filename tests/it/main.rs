//! The tests that drive the real programs: one binary, one module a subject.

mod arrival;
mod cli;
mod contract;
mod daemons;
mod dlm;
mod download;
mod faults;
mod hardship;
mod harness;
mod old_faults;
mod sdp;
mod stores;
mod support;
mod yaml;
