//! The benchmark: `make bench`, or `make bench SCALE=100000 PART=sources`.
//!
//! It makes a volume with a seeded generator, runs the real programs on it, and writes each figure beside what it is
//! compared with in the same run, for machines differ and ratios do not as much.

mod daemons;
mod downloads;
mod generate;
mod report;
mod requests;
mod sources;
mod standalone;

use report::{Report, write};
use std::path::Path;
use tests::volume::Volume;

/// The parts that can be measured apart, and what the page calls them.
const PARTS: [(&str, &str); 4] = [
    ("standalone", "The standalone program"),
    ("daemons", "The indexer and the API, with PostgreSQL on the same machine and disk"),
    ("sources", "The sources beside the volume"),
    ("downloads", "Downloads"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(20_000);
    let named: Vec<&str> =
        PARTS.iter().map(|(part, _)| *part).filter(|part| arguments.iter().any(|own| own == part)).collect();
    let wanted = |part: &str| named.is_empty() || named.contains(&part);
    let volume = Volume::new();
    println!("measuring with {scale} products in {}", volume.path().display());
    if named != ["downloads"] {
        generate::make(&volume, scale);
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let mut in_memory = None;
    for (part, title) in PARTS.into_iter().filter(|(part, _)| wanted(part)) {
        let mut report = Report::default();
        match part {
            "standalone" => in_memory = Some(standalone::measure(&volume, scale, &mut report)),
            "daemons" => daemons::measure(&volume, scale, in_memory, &mut report),
            "sources" => sources::measure(&volume, scale, &mut report),
            _ => downloads::measure(&mut report),
        }
        write(&page, part, title, scale, &report);
    }
}
