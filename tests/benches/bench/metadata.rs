//! The metadata of the products that are measured with. How often each value occurs is written down here, for the
//! searches count on it.

use std::fmt::Write as _;

/// The processing scripts, and how many of a hundred products are of each.
const SCRIPTS: [(&str, u64); 5] = [
    ("vis-receive", 50),
    ("pointing-offset", 20),
    ("spectral-line-imaging", 15),
    ("delay-cal", 10),
    ("continuum-imaging", 5),
];

/// Who generates execution blocks; the first five make half of them.
const GENERATORS: [&str; 10] =
    ["m001", "m002", "m003", "m004", "m005", "test", "notebook", "orcatest", "t0001", "commission"];

/// Random numbers, the same in every run (`SplitMix64`, whose streams of neighbouring seeds have nothing in common).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number from 0 to 1, with as many digits as instruments give.
    fn share(&mut self) -> f64 {
        self.below(1_000_000) as f64 / 1e6
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What products of one execution block have in common.
pub(crate) struct Block {
    pub(crate) id: String,
    /// `GENERATOR-DATE`, which the ids of its processing blocks have as well.
    stem: String,
    observer: u64,
    note: String,
    intent: u64,
    group: Option<String>,
}

impl Block {
    /// The execution block of this number: one of seven years, 2019 to 2025. One in twenty is restricted.
    pub(crate) fn new(number: usize, random: &mut Random) -> Block {
        let generator = GENERATORS[random.below(10) as usize];
        let (year, month, day) = date(random.below(2557));
        let stem = format!("{generator}-{year}{month:02}{day:02}");
        // Five observers have ten in a hundred each, twenty have two, and twenty-five have 0.4.
        let observer = match random.below(100) {
            0..50 => random.below(5),
            50..90 => 5 + random.below(20),
            _ => 25 + random.below(25),
        };
        let note = match random.below(200) {
            0 => format!("Stopped by a thunderstorm, run {number}"),
            1..=100 => "Everything went as planned".to_owned(),
            _ => format!("Running that signal from XX/YY/ZZ through again after run {number}, things seem a bit flaky"),
        };
        let group = random.one_in(20).then(|| match random.below(100) {
            0..18 => "staff".to_owned(),
            n => format!("group-{}", n % 9),
        });
        Block { id: format!("eb-{stem}-{number:06}"), stem, observer, note, intent: random.below(3000), group }
    }

    /// One that is made while it is measured: none restricts it.
    pub(crate) fn arriving(id: &str, random: &mut Random) -> Block {
        let block = Block::new(0, random);
        Block { id: id.to_owned(), group: None, ..block }
    }

    pub(crate) fn processing_block(&self, product: usize) -> String {
        format!("pb-{}-{product:07}", self.stem)
    }
}

/// A day that many days after 2019 began.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 2019;
    loop {
        let leap = u64::from(year % 4 == 0);
        let months = [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in (1..).zip(months) {
            if days < length {
                return (year, month, days + 1);
            }
            days -= length;
        }
        year += 1;
    }
}

/// The metadata of a product, as PyYAML writes it: not quite two kilobytes, with some fifty values.
pub(crate) fn yaml(product: usize, block: &Block, random: &mut Random) -> String {
    let script = script(random);
    let mut text = String::with_capacity(3000);
    config(&mut text, product, block, script, random);
    let _ = write!(text, "context:\n  intent: Experimental run {} as part of XYZ-{}\n", block.intent % 7, block.intent);
    let _ = write!(text, "  notes: {}\n  observer: observer_{}\n", block.note, block.observer);
    if let Some(group) = &block.group {
        let _ = writeln!(text, "  access_group: {group}");
    }
    let _ = writeln!(text, "execution_block: {}", block.id);
    files(&mut text, product, random);
    text.push_str("interface: http://schema.skao.int/ska-data-product-meta/0.1\nobscore:\n");
    obscore(&mut text, product, script, random);
    if random.one_in(50) {
        unforeseen(&mut text, random);
    }
    text
}

fn script(random: &mut Random) -> &'static str {
    let mut rest = random.below(100);
    for (script, share) in SCRIPTS {
        if rest < share {
            return script;
        }
        rest -= share;
    }
    SCRIPTS[0].0
}

fn config(text: &mut String, product: usize, block: &Block, script: &str, random: &mut Random) {
    let id = block.processing_block(product);
    if random.one_in(3) {
        let _ = writeln!(text, "config:\n  cmdline: -dump /product/{}/ska-sdp/{id}/vis.ms", block.id);
    } else {
        text.push_str("config:\n  cmdline: null\n");
    }
    // Of four hundred commits; half of the products do not say.
    match random.below(800) {
        commit @ 0..400 => {
            let mut own = Random(commit);
            let _ = writeln!(text, "  commit: f{:015x}{:016x}{:08x}", own.next() >> 4, own.next(), own.next() >> 32);
        }
        _ => text.push_str("  commit: null\n"),
    }
    let _ = write!(
        text,
        "  image: artefact.skao.int/ska-sdp-script-{script}\n  processing_block: {id}\n  processing_script: {script}\n  \
         version: 1.{}.{}\n",
        random.below(9),
        random.below(7)
    );
}

/// Its files. One product in a thousand has one with a checksum that searches know.
fn files(text: &mut String, product: usize, random: &mut Random) {
    text.push_str("files:\n");
    for scan in 0..=random.below(9) {
        let crc = if product % 1000 == 7 && scan == 0 { 0xdead_beef } else { random.below(1 << 32) };
        // What would be read as a number is quoted.
        let crc = format!("{crc:08x}");
        let quote = if crc.bytes().all(|byte| byte.is_ascii_digit()) { "'" } else { "" };
        let status = if random.one_in(50) { "failure" } else { "done" };
        let size = random.below(1 << 34);
        let _ = write!(
            text,
            "- crc: {quote}{crc}{quote}\n  description: MS for scan {scan}\n  path: vis.scan-{scan}.ms\n  size: {size}\n  \
             status: {status}\n"
        );
    }
}

/// All of `ObsCore`'s columns, many of them null, as writers leave them. `calib_level` is 1 for half of the products and 4
/// for one in two hundred; `s_ra` is even over the sky.
fn obscore(text: &mut String, product: usize, script: &str, random: &mut Random) {
    let (kind, format) = if script == "pointing-offset" {
        ("POINTING-OFFSETS", "application/x-hdf5")
    } else {
        ("MS", "application/unknown")
    };
    let calib_level = match random.below(200) {
        0 => 4,
        1..=100 => 1,
        101..=150 => 0,
        _ => 2,
    };
    let begin = 58_484.0 + random.below(2_557_000_000) as f64 / 1e6;
    let exposure = 60.0 + random.below(36_000) as f64 / 10.0;
    let em_min = 0.1 + random.share() * 5.0;
    let telescope = if random.one_in(2) { "SKA-LOW" } else { "SKA-MID" };
    let mut column = |name: &str, value: String, nulls: u64| {
        let is_null = nulls > 0 && random.below(100) < nulls;
        let _ = writeln!(text, "  {name}: {}", if is_null { "null" } else { &value });
        random.share()
    };
    let share = column("access_estsize", (product * 7919 % 5_000_000).to_string(), 10);
    let share2 = column("access_format", format.to_owned(), 0);
    column("access_url", format!("https://archive.skatelescope.org/product/{product}/retrieve"), 70);
    column("calib_level", calib_level.to_string(), 0);
    column("dataproduct_type", kind.to_owned(), 0);
    column("em_max", format!("{:.6}", em_min * 1.04), 20);
    column("em_min", format!("{em_min:.6}"), 20);
    column("em_res_power", format!("{:.1}", 1000.0 * share2), 60);
    column("em_xel", (1 + product % 4096).to_string(), 60);
    column("facility_name", "SKA-Observatory".to_owned(), 0);
    column("instrument_name", telescope.to_owned(), 2);
    column("o_ucd", "stat.fourier".to_owned(), 40);
    column("obs_collection", format!("SKA-Observatory/{telescope}/{kind}"), 0);
    column("obs_id", format!("obs-{}", product / 4), 10);
    column("obs_publisher_did", format!("ivo://skao.int/{product}"), 80);
    column("pol_states", "/XX/XY/YX/YY/".to_owned(), 5);
    column("pol_xel", "4".to_owned(), 5);
    column("s_dec", format!("{:.5}", 90.0 * share - 60.0), 2);
    let position = column("s_fov", format!("{:.3}", 5.0 * share), 50);
    column("s_ra", format!("{:.4}", 360.0 * position), 2);
    column("s_region", "null".to_owned(), 0);
    column("s_resolution", format!("{:.3}", 10.0 * share2), 60);
    column("s_xel1", "8192".to_owned(), 60);
    column("s_xel2", "8192".to_owned(), 60);
    column("t_exptime", format!("{exposure:.1}"), 5);
    column("t_max", format!("{:.6}", begin + exposure / 86_400.0), 2);
    column("t_min", format!("{begin:.6}"), 2);
    column("t_resolution", format!("{:.4}", 0.8495 + share), 30);
    column("t_xel", (product % 5000).to_string(), 60);
    column("target_name", format!("field_{}", product * 31 % 4001), 3);
}

/// What no schema knows: keys at depth and in arrays, and of three hundred kinds.
fn unforeseen(text: &mut String, random: &mut Random) {
    let _ = write!(text, "quality:\n  flagging:\n    antennas:\n");
    for _ in 0..=random.below(4) {
        let (antenna, share) = (random.below(512), random.share());
        let _ = write!(text, "    - fraction: {share:.4}\n      name: C{antenna:03}\n");
    }
    let _ = write!(text, "  solver:\n    iterations: {}\n    residuals: [", random.below(200));
    let _ = writeln!(text, "{:.5}, {:.5}]", random.share(), random.share());
    let team = random.below(300);
    let _ = write!(text, "team_{team}:\n  stage:\n    remark: looked at by {}\n", random.below(40));
}
