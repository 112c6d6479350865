//! Metrics as a process tells them, read.

use crate::program::{Answer, Server};
use std::collections::{BTreeMap, BTreeSet};

/// What a client that knows OpenMetrics sends as `Accept`.
pub const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// All families of a process at one moment, by their names.
#[derive(Debug)]
pub struct Metrics(pub BTreeMap<String, Family>);

/// A family.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// A sample.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its name, which may be the family's with something behind it.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Metrics {
    /// Those in a text of OpenMetrics.
    ///
    /// # Panics
    /// When it is none.
    pub fn read(text: &str) -> Metrics {
        let lines = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end: {text}"));
        let mut families = BTreeMap::<String, Family>::new();
        let mut current = String::new();
        for line in lines.lines() {
            if let Some(described) = line.strip_prefix("# HELP ") {
                let (name, help) = described.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(help.len() > 5 && help.ends_with('.'), "{line}");
                assert!(families.insert(name.to_owned(), Family::default()).is_none(), "{name} is there twice");
                current = name.to_owned();
            } else if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert_eq!(name, current, "{line}");
                families.get_mut(name).expect("a family").kind = kind.to_owned();
            } else {
                let sample = Sample::read(line);
                assert!(sample.name.starts_with(&current), "{line} in {current}");
                families.get_mut(&current).expect("a family").samples.push(sample);
            }
        }
        Metrics(families)
    }

    /// The value of the sample with this name and these labels, whatever others it has.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let all = self.0.values().flat_map(|family| &family.samples);
        let is_so = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|own| own == value))
        };
        let found: Vec<f64> = all.filter(is_so).map(|sample| sample.value).collect();
        assert!(found.len() < 2, "{name} {labels:?} is not one: {found:?}");
        found.first().copied()
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        let mut series = BTreeSet::new();
        for sample in self.0.values().flat_map(|family| &family.samples) {
            assert!(series.insert((&sample.name, &sample.labels)), "{sample:?} is there twice");
        }
        series.len()
    }
}

impl Sample {
    fn read(line: &str) -> Sample {
        let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}"));
        let label = |text: &str| {
            let (name, value) = text.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        };
        // No value of a label in the tests has a comma in it.
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(label).collect();
        Sample { name: name.to_owned(), labels, value }
    }
}

/// Where a program answers those who scrape, as it says on standard output.
///
/// # Panics
/// When it does not say so.
pub fn address(program: &Server) -> String {
    let said = || {
        let log = program.log();
        let line = log.lines().find_map(|line| line.strip_prefix("metrics on ").map(str::to_owned));
        line.filter(|_| log.contains('\n'))
    };
    crate::wait_for("the address of metrics", said)
}

/// The answer to a scrape at an address.
///
/// # Panics
/// When none comes.
pub fn ask(url: &str, accept: &str) -> Answer {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(crate::PATIENCE));
    let agent: ureq::Agent = config.build().into();
    let answer = agent.get(url).header("accept", accept).call();
    crate::program::answer(answer.unwrap_or_else(|error| panic!("{url}: {error}")))
}

/// All metrics at an address.
///
/// # Panics
/// When there are none.
pub fn scrape(url: &str) -> Metrics {
    let answer = ask(url, OPEN_METRICS);
    assert_eq!(answer.status, 200, "{url}");
    Metrics::read(&String::from_utf8(answer.body).expect("text"))
}

/// Waits until a value at an address is as wanted.
///
/// # Panics
/// When it does not become so.
pub fn wait_for_value(url: &str, name: &str, labels: &[(&str, &str)], wanted: impl Fn(Option<f64>) -> bool) {
    crate::wait_for(&format!("{name} {labels:?}"), || wanted(scrape(url).value(name, labels)).then_some(()));
}
