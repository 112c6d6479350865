//! How long things take.

use super::{Family, Label, Registry};
use prometheus_client::metrics::histogram::Histogram;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A histogram of times in seconds, for what takes from a millisecond to ten seconds.
pub fn histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0])
}

/// A histogram of times in seconds, for what a system call takes: from 10 µs to ten seconds.
fn histogram_of_calls() -> Histogram {
    Histogram::new([0.000_01, 0.000_1, 0.001, 0.01, 0.1, 1.0, 10.0])
}

/// How long calls of several kinds take, and since when those have been under way that have not come back: of what hangs,
/// no histogram tells.
#[derive(Debug, Clone)]
pub struct Timings<const N: usize> {
    family: Family<Label, Histogram>,
    kinds: [Histogram; N],
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    last: u64,
    /// By their numbers, which are in the order in which they began.
    since: BTreeMap<u64, Instant>,
}

/// A call under way, until dropped.
#[derive(Debug)]
pub struct Timed {
    begun: Instant,
    number: u64,
    histogram: Histogram,
    running: Arc<Mutex<Running>>,
}

impl<const N: usize> Timings<N> {
    /// For calls of kinds that a label names.
    pub fn of(label: &'static str, kinds: [&'static str; N]) -> Timings<N> {
        let family = Family::<Label, Histogram>::new_with_constructor(histogram_of_calls);
        let kinds = kinds.map(|kind| family.get_or_create_owned(&[(label, kind)]));
        Timings { family, kinds, running: Arc::default() }
    }

    /// Begins a call of the kind at this place.
    pub fn begin(&self, kind: usize) -> Timed {
        let begun = Instant::now();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.last += 1;
        let number = running.last;
        running.since.insert(number, begun);
        drop(running);
        Timed { begun, number, histogram: self.kinds[kind].clone(), running: self.running.clone() }
    }

    /// For how long the call has been under way that began first of those that are; nothing where none is.
    pub fn oldest(&self) -> Duration {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.since.first_key_value().map_or(Duration::ZERO, |(_, begun)| begun.elapsed())
    }

    /// Registers the histograms.
    pub fn register(&self, registry: &mut Registry, name: &'static str, help: &'static str) {
        registry.register(name, help, self.family.clone());
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.histogram.observe(self.begun.elapsed().as_secs_f64());
        self.running.lock().unwrap_or_else(PoisonError::into_inner).since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_shows_while_it_does() {
        let timings = Timings::of("op", ["a", "b"]);
        assert_eq!(timings.oldest(), Duration::ZERO);
        let (first, second) = (timings.begin(0), timings.begin(1));
        assert!(timings.oldest() >= second.begun.elapsed());
        drop(first);
        assert!(timings.oldest() > Duration::ZERO && timings.oldest() <= second.begun.elapsed());
        drop(second);
        assert_eq!(timings.oldest(), Duration::ZERO);
    }
}
