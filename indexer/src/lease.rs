//! Getting the lease and keeping it.
//!
//! What a holder may believe: while [`Lease::is_believed`], that nobody else writes; after that, nothing, so that it does
//! not write either, but goes on watching. When it can renew again it goes on where it stopped, unless another took
//! over meanwhile, or the database lost what was written: then all it knows is thrown away, and it stands by.

use crate::daemon::{Health, State};
use crate::metrics::Meters;
use shared::process::Place;
use shared::store::postgres::lease::{Attempt, Candidate, Lease};
use shared::store::postgres::listen::Ear;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// The longest pause between two looks at a lease that another holds.
const LOOK: Duration = Duration::from_secs(1);
/// How often a holder that runs in the same place is looked at, which costs a call of the operating system.
const GLANCE: Duration = Duration::from_millis(50);

/// Stands by until the lease is ours; `None` where the database cannot be used, so that it is to be looked whether its tables
/// are what they should be.
pub(crate) async fn acquire(candidate: &Candidate, ear: &Ear, health: &Health) -> Option<Lease> {
    loop {
        let pause = LOOK.min(candidate.term() / 5);
        let holder = match candidate.acquire().await {
            Ok(Attempt::Taken(lease)) => {
                info!(epoch = lease.epoch(), "holding the lease");
                return Some(*lease);
            }
            Ok(Attempt::Held(holder)) => holder,
            Err(error) => {
                health.wait(&error);
                tokio::time::sleep(pause).await;
                return None;
            }
        };
        health.set(State::StandingBy);
        // Told of a release or of the holder's end, or after a while.
        tokio::select! {
            () = ear.released() => {}
            () = is_left(holder) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Waits until a process in the same place is no more; for ever where nobody knows.
async fn is_left(place: Option<Place>) {
    match place {
        Some(place) => {
            while !place.is_left() {
                tokio::time::sleep(GLANCE).await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Renews the lease until it is lost.
pub(crate) async fn keep(lease: &Lease, health: &Health, meters: &Meters) {
    let term = lease.candidate().term();
    let mut pause = term / 5;
    loop {
        tokio::select! {
            _ = lease.lost() => break,
            () = tokio::time::sleep(pause) => {}
        }
        let begun = Instant::now();
        let renewed = lease.renew().await;
        meters.renewed(begun);
        pause = match renewed {
            Ok(true) => {
                health.set(State::Holding { epoch: lease.epoch() });
                term / 5
            }
            Ok(false) => break,
            Err(error) => {
                health.wait(&error);
                LOOK.min(term / 10)
            }
        };
    }
    warn!(epoch = lease.epoch(), "{}", lease.lost().await);
}
