//! What the fuzzer found, fed to the targets again: whatever made a difference once, and whatever failed.

use fuzz::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// How many inputs there are of a target in `corpus` or `findings`, each of which was fed.
fn feed(place: &str, target: &str, feed: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(place).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let paths: BTreeSet<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    for path in &paths {
        let data = fs::read(path).expect("an input");
        std::panic::catch_unwind(|| feed(&data)).unwrap_or_else(|_| panic!("{target}: {}", path.display()));
    }
    paths.len()
}

#[test]
fn what_was_found_does_no_harm() {
    for (name, target) in TARGETS {
        assert!(feed("corpus", name, *target) > 10, "{name} has next to no corpus");
        feed("findings", name, *target);
    }
}
