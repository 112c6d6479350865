//! How long the file system takes to answer, and whether it does, for metrics.

use super::{Access, Volume};
use crate::metrics::{Figures as _, Registry, Timed, Timings};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A volume on which a call takes longer than this does not answer.
const HANGS: Duration = Duration::from_secs(10);

/// The calls of a process on its volume.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    timings: Timings<5>,
    /// Whether the storage path could not be opened when that was tried last.
    shut: Arc<AtomicBool>,
}

impl Default for Calls {
    fn default() -> Calls {
        // In the order of `Access`.
        Calls { timings: Timings::of("op", ["open", "list", "stat", "read", "attribute"]), shut: Arc::default() }
    }
}

impl Calls {
    pub(super) fn begin(&self, access: Access) -> Timed {
        self.timings.begin(access as usize)
    }

    /// Notes whether the storage path could be opened.
    pub(super) fn note(&self, opened: bool) {
        self.shut.store(!opened, Ordering::Relaxed);
    }
}

impl Volume {
    /// Registers how long calls take.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.of_volume(&self.origin.name);
        let help = "How long calls of the file system took that come back";
        self.calls.timings.register(registry, "volume_op_duration_seconds", help);
        let calls = self.calls.clone();
        registry.gauge(
            "volume_op_oldest_seconds",
            "For how long the call of the file system has not come back that began first; 0 where there is none",
            move || Some(calls.timings.oldest().as_secs_f64()),
        );
        let calls = self.calls.clone();
        registry.gauge(
            "volume_up",
            "Whether the storage path could be opened when that was tried last, and no call hangs for more than ten seconds",
            move || {
                let is_up = !calls.shut.load(Ordering::Relaxed) && calls.timings.oldest() < HANGS;
                Some(f64::from(u8::from(is_up)))
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Variables};
    use crate::metrics::{Format, Metrics};
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// The value of a figure of a volume called `v`.
    fn value(metrics: &Metrics, name: &str) -> f64 {
        let text = metrics.text(Format::OpenMetrics);
        let start = format!("dpd_{name}{{volume=\"v\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(start.as_str()));
        value.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("a number")
    }

    #[test]
    fn a_volume_that_hangs_shows_while_it_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().to_str().map(str::to_owned);
        let settings = Settings::read(&Variables::from([("PVCNAME", "v")]), path).expect("settings");
        let (come, came) = channel();
        let (go, wait): (Sender<()>, Receiver<()>) = channel();
        let wait = Mutex::new(wait);
        let volume = Volume::new(&settings.volume).behind(Arc::new(move |_, _| {
            come.send(()).expect("a listener");
            let _ = wait.lock().expect("a lock").recv();
        }));
        let mut metrics = Metrics::of("test", "1");
        volume.register(metrics.families());
        assert_eq!((value(&metrics, "volume_up"), value(&metrics, "volume_op_oldest_seconds")), (1.0, 0.0));
        std::thread::scope(|scope| {
            scope.spawn(|| volume.open().map(drop).expect("the volume"));
            came.recv().expect("a call");
            let oldest = value(&metrics, "volume_op_oldest_seconds");
            assert!(oldest > 0.0 && value(&metrics, "volume_op_oldest_seconds") > oldest);
            go.send(()).expect("somebody who waits");
        });
        assert_eq!(value(&metrics, "volume_op_oldest_seconds"), 0.0);
        drop((go, dir));
        assert!(volume.open().is_err());
        assert_eq!(value(&metrics, "volume_up"), 0.0);
    }
}
