//! How often the permissions service is asked. Anybody can make up tokens, and each is a question to it; so those of which
//! nothing is known are few at a time. Whoever was known a while ago is not kept out by them.

use super::token::Digest;
use moka::future::Cache;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many questions are under way at the most, and how many of them are about tokens of which nothing is known.
const UNDER_WAY: usize = 16;
const UNKNOWN: usize = 12;
/// How many such tokens are asked about in a second.
const NEW: usize = 50;
/// How long a token that was good is remembered after it was last of use, and how many are.
const REMEMBERED: Duration = Duration::from_secs(3600);
const MOST: u64 = 10_000;

/// The turns that there are.
pub(super) struct Pace {
    under_way: Semaphore,
    unknown: Semaphore,
    /// Since when new tokens are counted, and how many there were.
    new: Mutex<(Instant, usize)>,
    good: Cache<Digest, ()>,
}

/// A turn, which is over when this is dropped.
pub(super) struct Turn<'a> {
    _unknown: Option<SemaphorePermit<'a>>,
    _under_way: SemaphorePermit<'a>,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace {
            under_way: Semaphore::new(UNDER_WAY),
            unknown: Semaphore::new(UNKNOWN),
            new: Mutex::new((Instant::now(), 0)),
            good: Cache::builder().max_capacity(MOST).time_to_idle(REMEMBERED).build(),
        }
    }

    /// A turn to ask about a token, waited for no longer than `patience`; `None` where there is none.
    pub(super) async fn turn(&self, token: Digest, patience: Duration) -> Option<Turn<'_>> {
        let unknown = match self.good.get(&token).await {
            Some(()) => None,
            None => {
                let unknown = self.unknown.try_acquire().ok()?;
                self.count(Instant::now()).then_some(Some(unknown))?
            }
        };
        let under_way = tokio::time::timeout(patience, self.under_way.acquire()).await.ok()?.ok()?;
        Some(Turn { _unknown: unknown, _under_way: under_way })
    }

    /// Remembers that a token is good.
    pub(super) async fn is_good(&self, token: Digest) {
        self.good.insert(token, ()).await;
    }

    /// Counts a new token; false where there were as many as there may be.
    fn count(&self, now: Instant) -> bool {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(new.0) >= Duration::from_secs(1) {
            *new = (now, 0);
        }
        new.1 += 1;
        new.1 <= NEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn made_up_tokens_keep_nobody_out_who_is_known() {
        let pace = Pace::new();
        let patience = Duration::from_millis(1);
        pace.is_good([0; 32]).await;
        let mut turns = Vec::new();
        for n in 1..=UNKNOWN {
            turns.push(pace.turn([n as u8; 32], patience).await.expect("a turn"));
        }
        assert!(pace.turn([100; 32], patience).await.is_none());
        for _ in UNKNOWN..UNDER_WAY {
            turns.push(pace.turn([0; 32], patience).await.expect("a turn"));
        }
        assert!(pace.turn([0; 32], patience).await.is_none());
        drop(turns);
        let mut asked = UNKNOWN;
        while pace.turn([100; 32], patience).await.is_some() {
            asked += 1;
        }
        assert_eq!(asked, NEW);
        assert!(pace.turn([0; 32], patience).await.is_some());
        assert!(pace.count(Instant::now() + Duration::from_secs(2)));
    }
}
