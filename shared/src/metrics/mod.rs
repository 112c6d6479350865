//! Metrics: what a process tells of itself to whoever scrapes it.
//!
//! Whoever has a number keeps it (a counter beside what it counts, or a figure that is there anyway) and registers it with
//! the [`Metrics`] of the process, which are a value that is handed on. A scrape reads them and waits for nothing: neither
//! for the database nor for the volume. What only the database knows is in a [`copy`] beside it, which tells its age.
//!
//! Labels are names of our own, so that there are as many series as there are lines of code for them: never a path, a uid, a
//! user or the text of an error. `docs/metrics.md` lists all families.

mod copy;
mod format;
mod process;
#[cfg(feature = "http")]
mod serve;
mod timing;

pub use copy::Copy;
pub use format::Format;
pub use prometheus_client::encoding::EncodeLabelSet;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;
#[cfg(feature = "http")]
pub use serve::{answer, listen, serve};
pub use timing::{Timed, Timings, histogram};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;

/// One label: its name, and one of the values that we know.
pub type Label = [(&'static str, &'static str); 1];

/// All metrics of a process.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// Those of a program: what it is, and what the operating system says of it.
    pub fn of(program: &'static str, version: &str) -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process::new()));
        let build = Family::<Vec<(&'static str, String)>, Gauge>::default();
        build.get_or_create(&vec![("program", program.to_owned()), ("version", version.to_owned())]).set(1);
        registry.sub_registry_with_prefix(PREFIX).register("build_info", "The program and its version", build);
        Metrics(registry)
    }

    /// Where families are registered, each without what all names [begin with](PREFIX).
    pub fn families(&mut self) -> &mut Registry {
        self.0.sub_registry_with_prefix(PREFIX)
    }

    /// All of them as text.
    pub fn text(&self, format: Format) -> String {
        format.text(&self.0)
    }
}

/// What the names of all families of ours begin with.
pub const PREFIX: &str = "dpd";

/// Families of figures that are read when they are asked for. To read one may wait for nothing.
pub trait Figures {
    /// A gauge; there is none while it is not known.
    fn gauge(&mut self, name: &'static str, help: &'static str, read: impl Fn() -> Option<f64> + Send + Sync + 'static);
    /// A gauge for each value of a label.
    fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, f64)> + Send + Sync + 'static,
    );
    /// A counter. Its name is followed by `_total`.
    fn counter(&mut self, name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static);
    /// A counter for each value of a label. Its name is followed by `_total`.
    fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
    );
    /// Those of one volume, which say so.
    fn of_volume(&mut self, volume: &str) -> &mut Registry;
}

impl Figures for Registry {
    fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let read = move || read().map(|value| (None, Value::Gauge(value))).into_iter().collect();
        self.register_collector(Figure::boxed(name, help, MetricType::Gauge, "", read));
    }

    fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, f64)> + Send + Sync + 'static,
    ) {
        let read = move || read().into_iter().map(|(of, value)| (Some(of), Value::Gauge(value))).collect();
        self.register_collector(Figure::boxed(name, help, MetricType::Gauge, label, read));
    }

    fn counter(&mut self, name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        let read = move || vec![(None, Value::Counter(read()))];
        self.register_collector(Figure::boxed(name, help, MetricType::Counter, "", read));
    }

    fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
    ) {
        let read = move || read().into_iter().map(|(of, value)| (Some(of), Value::Counter(value))).collect();
        self.register_collector(Figure::boxed(name, help, MetricType::Counter, label, read));
    }

    fn of_volume(&mut self, volume: &str) -> &mut Registry {
        self.sub_registry_with_label(("volume".into(), volume.to_owned().into()))
    }
}

/// What a figure is at the moment.
enum Value {
    Gauge(f64),
    Counter(u64),
}

/// The values of a family, each with that of the label where there is one.
type Read = Box<dyn Fn() -> Vec<(Option<&'static str>, Value)> + Send + Sync>;

/// A family that is read when it is asked for.
struct Figure {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    label: &'static str,
    read: Read,
}

impl Figure {
    fn boxed(
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        label: &'static str,
        read: impl Fn() -> Vec<(Option<&'static str>, Value)> + Send + Sync + 'static,
    ) -> Box<Figure> {
        Box::new(Figure { name, help, kind, label, read: Box::new(read) })
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Figure").field(&self.name).finish()
    }
}

impl Collector for Figure {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = format!("{}.", self.help);
        let mut family = encoder.encode_descriptor(self.name, &help, None, self.kind)?;
        for (of, value) in (self.read)() {
            let labels: Vec<_> = of.map(|of| (self.label, of)).into_iter().collect();
            let mut one = family.encode_family(&labels)?;
            match value {
                Value::Gauge(value) => one.encode_gauge(&value)?,
                Value::Counter(value) => one.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_when_they_are_asked_for() {
        let mut metrics = Metrics::of("dpd-test", "1");
        let families = metrics.families();
        families.gauge("one", "One figure", || Some(1.5));
        families.gauge("none", "One that is not known", || None);
        families.of_volume("a\"b").counters("two", "Two of them", "kind", || vec![("x", 1), ("y", 2)]);
        let text = metrics.text(Format::OpenMetrics);
        for part in [
            "# HELP dpd_one One figure.\n# TYPE dpd_one gauge\ndpd_one 1.5\n",
            "# TYPE dpd_none gauge\n#",
            "# TYPE dpd_two counter\ndpd_two_total{volume=\"a\\\"b\",kind=\"x\"} 1\n",
            "dpd_build_info{program=\"dpd-test\",version=\"1\"} 1\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }
}
