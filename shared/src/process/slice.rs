//! Work that lets others have a turn: what goes on for long on a thread that serves many would hold all of them up.

use std::time::{Duration, Instant};

/// How long work goes on before it lets others have a turn.
const LENGTH: Duration = Duration::from_millis(2);

/// A slice of time for work that is done in small steps.
#[derive(Debug)]
pub struct TimeSlice(Instant);

impl TimeSlice {
    /// Begins one.
    pub fn begin() -> TimeSlice {
        TimeSlice(Instant::now())
    }

    /// Lets others have a turn where the slice is used up, and begins the next one.
    pub async fn step(&mut self) {
        if self.0.elapsed() >= LENGTH {
            tokio::task::yield_now().await;
            self.0 = Instant::now();
        }
    }
}
