//! Small helps of the tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Python that has PyYAML, from where `tests/prepare` looks for one.
pub(crate) fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let has_yaml = |python: &PathBuf| {
        let mut import = Command::new(python);
        import.args(["-c", "import yaml"]).stdout(Stdio::null()).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    let candidates = [own, "python3".into(), "/usr/bin/python3".into()];
    candidates.into_iter().find(has_yaml).expect("a Python with PyYAML: run `make test`")
}
