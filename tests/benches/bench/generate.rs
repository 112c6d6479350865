//! The volume that is measured: execution blocks with their products in the layouts that pipelines use, measurement sets
//! beside some of them, made on two threads by a seeded generator, the same in every run.

use crate::metadata::{Block, Random, yaml};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What all randomness begins with. Another one, or another shape of volumes, is another volume.
pub(crate) const SEED: u64 = 20_261_124;
/// One product in so many has a measurement set: with one each, a million would need a hundred million files.
pub(crate) const MEASUREMENT_SETS: u64 = 40;
/// One metadata file in so many does not read.
pub(crate) const BROKEN: usize = 1000;
/// How many execution blocks a thread takes at once.
const PART: usize = 500;

/// Tables of a measurement set beside the main one.
const TABLES: [&str; 17] = [
    "ANTENNA",
    "DATA_DESCRIPTION",
    "DOPPLER",
    "FEED",
    "FIELD",
    "FLAG_CMD",
    "FREQ_OFFSET",
    "HISTORY",
    "OBSERVATION",
    "POINTING",
    "POLARIZATION",
    "PROCESSOR",
    "SOURCE",
    "SPECTRAL_WINDOW",
    "STATE",
    "SYSCAL",
    "WEATHER",
];

/// Where the products of an execution block are, seen from its folder.
fn places(random: &mut Random) -> Vec<String> {
    match random.below(100) {
        0..30 => vec![String::new()],
        30..80 => (0..=random.below(6)).map(|_| "ska-sdp/PB".to_owned()).collect(),
        80..92 => {
            let scans = 1 + random.below(5);
            (0..=random.below(5)).flat_map(|beam| (0..scans).map(move |scan| (beam, scan))).map(place_of_scan).collect()
        }
        // A product that holds others.
        _ => std::iter::once(String::new())
            .chain((0..=random.below(5)).map(|scan| format!("pst-low/scan-{scan}")))
            .collect(),
    }
}

fn place_of_scan((beam, scan): (u64, u64)) -> String {
    format!("ska-sdp/pb-beams/beam-{beam}/scan-{scan}")
}

/// An execution block of this number, and the generator that its products come from.
fn layout(number: usize) -> (Random, Vec<String>) {
    let mut random = Random(SEED ^ ((number as u64) << 20));
    let places = places(&mut random);
    (random, places)
}

/// Makes as many products as that in a folder.
pub(crate) fn make(volume: &Path, scale: usize) {
    // How many products come before each part is cheap to know, and then nobody waits for anybody.
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let (mut block, mut product) = (0, 0);
    while product < scale {
        if block % PART == 0 {
            parts.push((block, product));
        }
        product += layout(block).1.len();
        block += 1;
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((block, product)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut product = *product;
                    (*block..block + PART).for_each(|block| product += of_block(volume, block, product, scale));
                }
            });
        }
    });
}

/// Makes an execution block's products, up to the last that is wanted; answers how many it has.
fn of_block(volume: &Path, number: usize, first: usize, scale: usize) -> usize {
    let (mut random, places) = layout(number);
    let block = Block::new(number, &mut random);
    for (product, place) in (first..scale).zip(&places) {
        let place = place.replace("PB", &block.processing_block(product));
        let folder = volume.join(&block.id).join(place);
        fs::create_dir_all(&folder).expect("a folder");
        let mut text = yaml(product, &block, &mut random);
        if product % BROKEN == 11 {
            text.push_str("more: [as if its writer\n had: died");
        }
        write(&folder.join(tests::volume::METADATA), text.as_bytes());
        if random.one_in(MEASUREMENT_SETS) {
            measurement_set(&folder.join("vis.scan-0.ms"), 20 + random.below(181), &mut random);
        } else if random.one_in(4) {
            sparse(&folder.join("calibration.hdf5"), random.below(1 << 20));
        }
    }
    places.len()
}

/// A measurement set of so many files: those of the main table in its folder, four for each other table in theirs.
fn measurement_set(folder: &Path, files: u64, random: &mut Random) {
    fs::create_dir(folder).expect("a folder");
    let mut left = files;
    let mut file = |path: PathBuf, random: &mut Random| {
        left = left.saturating_sub(1);
        sparse(&path, random.below(1 << 16));
        left > 0
    };
    for table in TABLES {
        let within = folder.join(table);
        fs::create_dir(&within).expect("a folder");
        if !["table.dat", "table.f0", "table.info", "table.lock"].iter().all(|name| file(within.join(name), random)) {
            return;
        }
    }
    (0..).take_while(|n| file(folder.join(format!("table.f{n}")), random)).for_each(drop);
}

fn write(path: &Path, bytes: &[u8]) {
    File::create(path).and_then(|mut file| file.write_all(bytes)).expect("a file");
}

/// A file that has a size and takes no room.
fn sparse(path: &Path, bytes: u64) {
    File::create(path).and_then(|file| file.set_len(bytes)).expect("a file");
}
