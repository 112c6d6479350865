//! The benchmark: `make bench`, or `make bench SCALE=100000`.
//!
//! It makes a volume with a seeded generator, runs the real programs on it, and writes each figure beside what it is
//! compared with in the same run, for machines differ and ratios do not as much.

mod daemons;
mod generate;
mod report;
mod requests;
mod standalone;

use report::Report;
use std::fs;
use std::path::Path;
use tests::volume::Volume;

fn main() {
    let scale = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20_000);
    let volume = Volume::new();
    println!("making {scale} products in {}", volume.path().display());
    generate::make(&volume, scale);
    let (mut standalone, mut daemons) = (Report::default(), Report::default());
    let in_memory = standalone::measure(&volume, scale, &mut standalone);
    daemons::measure(&volume, scale, in_memory, &mut daemons);
    const HEAD: &str = "| what | measured | beside it, in the same run | ratio |\n|---|---|---|---|\n";
    let text = format!(
        "# Benchmarks\n\nMade by `make bench SCALE={scale}`: {scale} products, the release build, a warm cache, {} cores.\n\
         Seconds depend on the machine; the ratios are what counts.\n\n\
         ## The standalone program\n\n{HEAD}{}\n\
         ## The indexer and the API, with PostgreSQL on the same machine and disk\n\n{HEAD}{}",
        std::thread::available_parallelism().map_or(0, usize::from),
        standalone.0,
        daemons.0
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    fs::write(&path, text).expect("docs/benchmarks.md");
}
