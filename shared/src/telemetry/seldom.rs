//! What is met again and again, and told the log now and then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long the log is not told of the same cause again.
const AGAIN: Duration = Duration::from_secs(60);
/// How many causes are remembered. Those that come beyond are told once a minute together.
const CAUSES: usize = 32;

/// Causes that are met again and again: each is told at once, and then once a minute with how often it was met meanwhile.
#[derive(Debug, Default)]
pub struct Causes(Mutex<HashMap<String, (Instant, u64)>>);

impl Causes {
    /// Notes that a cause was met. `Some` where the log is to be told now, with how often it was not, if ever.
    pub fn met(&self, cause: &str) -> Option<Option<u64>> {
        self.met_at(cause, Instant::now())
    }

    fn met_at(&self, cause: &str, now: Instant) -> Option<Option<u64>> {
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |told: Instant| now.saturating_duration_since(told) >= AGAIN;
        if causes.len() >= CAUSES && !causes.contains_key(cause) {
            causes.retain(|_, (told, _)| !is_old(*told));
        }
        let cause = if causes.len() < CAUSES || causes.contains_key(cause) { cause } else { "" };
        match causes.get_mut(cause) {
            Some((told, left_out)) if is_old(*told) => {
                *told = now;
                Some(some(std::mem::take(left_out)))
            }
            Some((_, left_out)) => {
                *left_out += 1;
                None
            }
            None => {
                causes.insert(cause.to_owned(), (now, 0));
                Some(None)
            }
        }
    }
}

/// Events of which each is told, but no more than so many within a time.
#[derive(Debug)]
pub struct Seldom {
    most: u32,
    within: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    told: u32,
    left_out: u64,
}

impl Seldom {
    /// So many within a time.
    pub fn new((most, within): (u32, Duration)) -> Seldom {
        Seldom { most, within, state: Mutex::new(State { since: Instant::now(), told: 0, left_out: 0 }) }
    }

    /// Notes one. `Some` where the log is to be told of it, with how many before it were left out, if any.
    pub fn met(&self) -> Option<Option<u64>> {
        self.met_at(Instant::now())
    }

    fn met_at(&self, now: Instant) -> Option<Option<u64>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.since) >= self.within {
            (state.since, state.told) = (now, 0);
        }
        if state.told >= self.most {
            state.left_out += 1;
            return None;
        }
        state.told += 1;
        Some(some(std::mem::take(&mut state.left_out)))
    }
}

/// A number, where it is one.
fn some(number: u64) -> Option<u64> {
    Some(number).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_a_minute_with_how_often_it_was_met() {
        let (causes, now) = (Causes::default(), Instant::now());
        let met = |cause: &str, seconds| causes.met_at(cause, now + Duration::from_secs(seconds));
        assert_eq!(
            [met("a", 0), met("a", 1), met("b", 1), met("a", 59), met("b", 2)],
            [Some(None), None, Some(None), None, None]
        );
        assert_eq!(
            [met("a", 60), met("a", 61), met("a", 120), met("b", 61)],
            [Some(Some(2)), None, Some(Some(1)), Some(Some(1))]
        );
        // However many causes there are, they are few lines.
        let told = (0..1000).filter(|n| met(&format!("c{n}"), 125).is_some()).count();
        assert!(told <= CAUSES + 1, "{told}");
    }

    #[test]
    fn events_are_told_until_there_are_too_many() {
        let (seldom, now) = (Seldom::new((2, Duration::from_secs(10))), Instant::now());
        let met = |seconds| seldom.met_at(now + Duration::from_secs(seconds));
        assert_eq!(
            [met(1), met(2), met(3), met(4), met(11), met(12)],
            [Some(None), Some(None), None, None, Some(Some(2)), Some(None)]
        );
    }
}
