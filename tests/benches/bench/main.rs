//! The benchmark: `make bench`, or `make bench SCALE=10000 PART=products`.
//!
//! It makes a volume with a seeded generator, runs the real programs on it, and writes each figure beside what it is
//! compared with in the same run, for machines differ and ratios do not as much.
//!
//! Arguments in any order: how many products; the part, all where none is named; `volume=PATH`, a folder that keeps the
//! volume for the next run.

mod arrivals;
mod client;
mod daemons;
mod downloads;
mod generate;
mod ground;
mod measure;
mod metadata;
mod pages;
mod plain;
mod report;
mod searches;
mod sources;
mod standalone;

use ground::Ground;
use report::{Report, write};
use std::path::Path;
use std::time::Instant;

/// The parts that are sections of the page, and what it calls them.
const PARTS: [(&str, &str); 3] =
    [("products", "Products"), ("sources", "The sources beside the volume"), ("downloads", "Downloads")];
/// Halves of the first part, which are shown and not written: their figures stand beside each other.
const HALVES: [&str; 2] = ["daemons", "standalone"];
/// What the volume is called.
const VOLUME_NAME: &str = "bench";
/// Products beside which the sources are measured at the most: there are ten data items for each.
const SOURCES: usize = 20_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let place = arguments.iter().find_map(|argument| argument.strip_prefix("volume=")).map(Path::new);
    let named = |part: &str| arguments.iter().any(|own| own == part);
    let all = !PARTS.iter().map(|(part, _)| *part).chain(HALVES).any(named);
    let begun = Instant::now();
    let is_wanted = |part: &str| all || named(part);
    if is_wanted("products") || named("daemons") || named("standalone") {
        let ground = Ground::new(scale, place);
        let mut report = Report::default();
        let is_half = |half: &str| is_wanted("products") || named(half);
        let seconds = is_half("daemons").then(|| daemons::measure(&ground, scale, &mut report));
        if is_half("standalone") {
            standalone::measure(&ground, scale, seconds, &mut report);
        }
        if is_wanted("products") {
            save("products", &format!("SCALE={scale}"), &notes(scale), &report);
        }
    }
    if is_wanted("sources") {
        let scale = scale.min(SOURCES);
        let (ground, mut report) = (Ground::new(scale, None), Report::default());
        sources::measure(&ground, scale, &mut report);
        save("sources", &format!("SCALE={scale} PART=sources"), &format!("{scale} products."), &report);
    }
    if is_wanted("downloads") {
        let mut report = Report::default();
        downloads::measure(&mut report);
        save("downloads", "PART=downloads", "", &report);
    }
    println!("all of it took {:.0} s", begun.elapsed().as_secs_f64());
}

fn save(part: &str, made: &str, notes: &str, report: &Report) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let title = PARTS.iter().find(|(own, _)| *own == part).map_or("", |(_, title)| *title);
    write(&page, title, made, notes, report);
}

/// What the figures of products were taken from.
fn notes(scale: usize) -> String {
    format!(
        "{scale} products: execution blocks of seven years with one to thirty products each, in the layouts that pipelines \
         use, not quite two kilobytes of metadata each. One in twenty is restricted, one in a thousand does not read, one in {} has a \
         measurement set of 20 to 200 files in subfolders, and one in a hundred an annotation. PostgreSQL is on the same \
         machine and disk with 4 GB of shared buffers. JSONB is the same documents in one table of the same server, asked \
         as the service before this one did (`metadata->>key ILIKE`) for the page and its total, once. Pages have 25 rows \
         and the exact total; repeated requests ask for other values where there are any. Targets are for a million \
         products.",
        generate::MEASUREMENT_SETS
    )
}
