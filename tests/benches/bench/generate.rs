//! The products that are measured with: made by a seeded generator, the same in every run.

use std::fmt::Write as _;
use tests::volume::Volume;

const SCRIPTS: [&str; 5] =
    ["vis-receive", "pointing-offset", "spectral-line-imaging", "delay-cal", "continuum-imaging"];

/// Random numbers, the same in every run (an LCG with Knuth's constants).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

pub(crate) fn metadata(n: usize, block: &str, random: &mut Random) -> String {
    let script = SCRIPTS[n % SCRIPTS.len()];
    let observer = random.below(50);
    let (ra, dec) = (random.below(360_000) as f64 / 1000.0, random.below(90_000) as f64 / -1000.0);
    let begin = 57_000.0 + random.below(3_000_000) as f64 / 1000.0;
    let mut files = String::new();
    for scan in 0..4 {
        let crc = random.below(1 << 31) << 1;
        let _ = writeln!(
            files,
            "- crc: {crc:08x}\n  description: MS for scan {scan}\n  path: vis.scan-{scan}.ms\n  size: {}\n  status: done",
            random.below(1 << 30)
        );
    }
    format!(
        "config:\n  cmdline: null\n  commit: {:010x}{:010x}\n  image: artefact.skao.int/ska-sdp-script-{script}\n  \
         processing_block: pb-{n}\n  processing_script: {script}\n  version: 1.{}.0\n\
         context:\n  observer: observer_{observer}\n  intent: Experimental run {n} of {}\n  notes: as planned\n\
         execution_block: {block}\nfiles:\n{files}interface: http://schema.skao.int/ska-data-product-meta/0.1\n\
         obscore:\n  access_estsize: {}\n  access_format: application/unknown\n  access_url: null\n  calib_level: {}\n  \
         dataproduct_type: MS\n  facility_name: SKA-Observatory\n  instrument_name: SKA-LOW\n  o_ucd: null\n  \
         obs_collection: {script}\n  obs_id: ''\n  pol_states: /XX/XY/YX/YY/\n  pol_xel: 4\n  s_dec: {dec}\n  s_ra: {ra}\n  \
         t_exptime: {}\n  t_max: {}\n  t_min: {begin}\n  t_resolution: null\n  target_name: field_{}\n",
        random.below(1 << 31),
        random.below(1 << 31),
        random.below(9),
        random.below(100),
        random.below(100_000),
        random.below(3),
        random.below(3600),
        begin + 0.1,
        random.below(500),
    )
}

pub(crate) fn make(volume: &Volume, scale: usize) {
    let mut random = Random(42);
    for n in 0..scale {
        let block = format!("eb-bench-20{:02}{:02}{:02}-{n:07}", 20 + n % 7, 1 + n % 12, 1 + n % 28);
        let folder = format!("{block}/ska-sdp/pb-{n}");
        volume.write(&format!("{folder}/ska-data-product.yaml"), metadata(n, &block, &mut random));
        volume.write(&format!("{folder}/vis.scan-0.ms/table.f0"), "0");
        volume.write(&format!("{folder}/vis.scan-0.ms/ANTENNA/table.dat"), "0");
    }
}
