//! libFuzzer on one of the targets, which the variable `FUZZ_TARGET` names; `fuzz/run` runs it.
#![no_main]

use fuzz::TARGETS;
use std::sync::LazyLock;

#[expect(clippy::disallowed_methods, reason = "arguments are libFuzzer's")]
static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(own, _)| *own == name);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET: there is no target '{name}'")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
