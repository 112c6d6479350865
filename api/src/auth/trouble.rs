//! Whether the permissions service is in trouble, as it is told to everybody. One token may make it fail; so what it does with
//! one is not yet its trouble.

use super::permissions::{Failure, UNREACHABLE};
use super::token::Digest;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::{info, warn};

/// How many different tokens have to fail, one after the other.
const TOKENS: usize = 3;

/// What is known of it.
#[derive(Default)]
pub(super) struct Trouble(Mutex<State>);

#[derive(Default)]
struct State {
    told: Option<Arc<str>>,
    /// The tokens that failed since it last answered.
    failed: Vec<Digest>,
}

impl Trouble {
    /// Why it could not be asked lately.
    pub(super) fn told(&self) -> Option<Arc<str>> {
        self.state().told.clone()
    }

    /// Notes what came of asking about a token, and says in the log when there is trouble, and when it is over.
    pub(super) fn note(&self, token: Digest, failure: Option<&Failure>) {
        let mut state = self.state();
        let Some(Failure::Unavailable(why)) = failure else {
            state.failed.clear();
            if state.told.take().is_some() {
                info!("the permissions service answers again");
            }
            return;
        };
        if state.failed.len() < TOKENS && !state.failed.contains(&token) {
            state.failed.push(token);
        }
        // That nobody is there is no token's doing.
        if state.failed.len() < TOKENS && &**why != UNREACHABLE {
            return;
        }
        if state.told.replace(why.clone()).is_none() {
            warn!("{why}; callers count as being in no group");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tokens_tell_of_trouble_and_one_does_not() {
        let trouble = Trouble::default();
        let failure = Failure::Unavailable("it answered 500".into());
        for token in [1, 1, 1, 2, 2, 1] {
            trouble.note([token; 32], Some(&failure));
            assert_eq!(trouble.told(), None);
        }
        // That a token is refused is an answer.
        trouble.note([3; 32], Some(&Failure::Refused));
        for token in [1, 2] {
            trouble.note([token; 32], Some(&failure));
        }
        assert_eq!(trouble.told(), None);
        trouble.note([3; 32], Some(&failure));
        assert_eq!(trouble.told().as_deref(), Some("it answered 500"));
        trouble.note([4; 32], None);
        assert_eq!(trouble.told(), None);
        trouble.note([4; 32], Some(&Failure::Unavailable(UNREACHABLE.into())));
        assert_eq!(trouble.told().as_deref(), Some(UNREACHABLE));
    }
}
