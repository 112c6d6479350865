//! The table of figures, and the page that it goes into.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// The table as it grows.
#[derive(Default)]
pub(crate) struct Report(Vec<[String; 5]>);

/// What a figure has to reach.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// Milliseconds that a percentile of the times may take.
    Within(usize, f64),
    /// A figure that may not be exceeded, with its unit.
    AtMost(f64, &'static str),
    /// A figure that must be reached, with its unit.
    AtLeast(f64, &'static str),
}

impl Report {
    /// A figure, and what it stands beside.
    pub(crate) fn row(&mut self, what: &str, measured: &str, beside: &str, ratio: &str) {
        self.push(what, measured, String::new(), beside, ratio);
    }

    /// A figure that has a target.
    pub(crate) fn figure(&mut self, what: &str, measured: (&str, f64), target: Target, beside: &str, ratio: &str) {
        self.push(what, measured.0, target.text(measured.1), beside, ratio);
    }

    /// Times of which a percentile has a target, beside another time.
    pub(crate) fn times(&mut self, what: &str, times: &Times, target: Target, beside: &str, other: Option<Duration>) {
        let percent = if let Target::Within(percent, _) = target { percent } else { 95 };
        let ratio = other.map_or(String::new(), |other| ratio(times.median(), other));
        self.figure(what, (&times.text(percent), in_milliseconds(times.percentile(percent))), target, beside, &ratio);
    }

    fn push(&mut self, what: &str, measured: &str, target: String, beside: &str, ratio: &str) {
        println!("{what}: {measured} (target {target}; beside {beside}: {ratio})");
        self.0.push([what.to_owned(), measured.to_owned(), target, beside.to_owned(), ratio.to_owned()]);
    }

    /// How many figures have a target, and how many of these miss it.
    fn missed(&self) -> (usize, usize) {
        let with = self.0.iter().filter(|row| !row[2].is_empty());
        (with.clone().count(), with.filter(|row| row[2].contains("missed")).count())
    }

    fn table(&self) -> String {
        let (targets, missed) = self.missed();
        let mut text = String::new();
        if targets > 0 {
            let _ = writeln!(text, "{targets} figures have a target; {missed} of them miss it.\n");
        }
        let columns: &[usize] = if targets > 0 { &[0, 1, 2, 3, 4] } else { &[0, 1, 3, 4] };
        let heads = ["what", "measured", "target", "beside it, in the same run", "ratio"];
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        text.push_str(&line(columns.iter().map(|column| heads[*column]).collect()));
        let _ = writeln!(text, "|{}", "---|".repeat(columns.len()));
        for row in &self.0 {
            text.push_str(&line(columns.iter().map(|column| row[*column].as_str()).collect()));
        }
        text
    }
}

impl Target {
    fn text(self, measured: f64) -> String {
        let (text, met) = match self {
            Target::Within(50, most) => (format!("median ≤ {most} ms"), measured <= most),
            Target::Within(100, most) => (format!("worst ≤ {most} ms"), measured <= most),
            Target::Within(percent, most) => (format!("p{percent} ≤ {most} ms"), measured <= most),
            Target::AtMost(most, unit) => (format!("≤ {most} {unit}"), measured <= most),
            Target::AtLeast(least, unit) => (format!("≥ {least} {unit}"), measured >= least),
        };
        if met { text } else { format!("{text}, **missed**") }
    }
}

/// Writes a section's table into the page, in place of the one that it had; the sections that are no more go.
pub(crate) fn write(page: &Path, title: &str, made: &str, notes: &str, report: &Report) {
    let before = std::fs::read_to_string(page).unwrap_or_default();
    let head = "# Benchmarks\n\nSeconds depend on the machine; the ratios are what counts: what was measured, divided by what \
                stands beside it. All with the release build and a warm cache. Requests are timed once more where other guests of \
                the host had more than a fiftieth of the processors meanwhile.\n\n";
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let notes = if notes.is_empty() { String::new() } else { format!("{notes}\n\n") };
    let own = format!("## {title}\n\nMade by `make bench {made}` on {cores} cores.\n\n{notes}{}", report.table());
    let mut sections: Vec<(String, String)> = before
        .split("\n## ")
        .skip(1)
        .map(|text| (text.lines().next().unwrap_or_default().to_owned(), format!("## {}", text.trim_end())))
        .filter(|(title, _)| crate::PARTS.iter().any(|part| part.1 == title))
        .collect();
    sections.retain(|(other, _)| other != title);
    sections.push((title.to_owned(), own.trim_end().to_owned()));
    sections.sort_by_key(|(title, _)| crate::PARTS.iter().position(|part| part.1 == title));
    let text: Vec<String> = sections.into_iter().map(|(_, text)| text).collect();
    std::fs::write(page, format!("{head}{}\n", text.join("\n\n"))).expect("the page of benchmarks");
}

/// Times, sorted.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Times {
        assert!(!times.is_empty(), "nothing was timed");
        times.sort();
        Times(times)
    }

    /// The time that so many percent of them do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent).div_ceil(100).clamp(1, self.0.len()) - 1]
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// Their median and a percentile, or the worst.
    pub(crate) fn text(&self, percent: usize) -> String {
        let worst = match percent {
            50 => return format!("median {}", milliseconds(self.median())),
            100 => "worst".to_owned(),
            percent => format!("p{percent}"),
        };
        format!("median {}, {worst} {}", milliseconds(self.median()), milliseconds(self.percentile(percent)))
    }
}

pub(crate) fn in_milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(crate) fn milliseconds(time: Duration) -> String {
    let time = in_milliseconds(time);
    if time < 100.0 { format!("{time:.2} ms") } else { format!("{time:.0} ms") }
}

/// One time in another.
pub(crate) fn ratio(time: Duration, other: Duration) -> String {
    times(time.as_secs_f64() / other.as_secs_f64())
}

/// A ratio with about two digits that say something.
pub(crate) fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 10.0 => format!("{ratio:.0}×"),
        ratio if ratio >= 1.0 => format!("{ratio:.1}×"),
        ratio if ratio >= 0.1 => format!("{ratio:.2}×"),
        ratio if ratio >= 0.01 => format!("{ratio:.3}×"),
        ratio => format!("{ratio:.5}×"),
    }
}
