//! What the tests and the benchmark share: the program under test as a process, its HTTP, and volumes to run it on.

pub mod dlm;
pub mod etcd;
pub mod metrics;
pub mod opens;
pub mod permissions;
pub mod pgbouncer;
pub mod postgres;
pub mod program;
pub mod prometheus;
pub mod proxy;
pub mod tls;
pub mod volume;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Generous: it is a bound for failures, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something, looking again and again.
///
/// # Panics
/// When it does not in [`PATIENCE`]; `what` says what was waited for.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
