//! Targets for a fuzzer: functions that take any bytes, and panic where what should hold does not.
//!
//! `make fuzz` feeds each of [`TARGETS`] for a minute, with libFuzzer and the coverage that stable Rust can instrument. What
//! was found to lead to different places is kept in `corpus/`, what once failed in `findings/`; the tests feed all of it
//! again, without a fuzzer. Another target is a file with a function and a line in the table.

mod archive;
mod filter;
mod flow;
mod folder;
mod metadata;
mod range;

/// A target, by its name and that of the folder of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("metadata", metadata::feed),
    ("filter", filter::feed),
    ("folder", folder::feed),
    ("flow", flow::feed),
    ("range", range::feed),
    ("archive", archive::feed),
];
