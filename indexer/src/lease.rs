//! Getting the lease and keeping it.
//!
//! What a holder may believe: while [`Lease::is_believed`], that nobody else writes; after that, nothing, so that it does
//! not write either, but goes on watching. When it can renew again it goes on where it stopped, unless another took
//! over meanwhile: then all it knows is thrown away, and it stands by.

use crate::daemon::{Health, State};
use shared::process::Place;
use shared::store::postgres::lease::{Attempt, Candidate, Lease};
use shared::store::postgres::listen::Ear;
use std::time::Duration;
use tracing::{info, warn};

/// The longest pause between two looks at a lease that another holds.
const LOOK: Duration = Duration::from_secs(1);
/// How often a holder that runs in the same place is looked at, which costs a call of the operating system.
const GLANCE: Duration = Duration::from_millis(50);

/// Stands by until the lease is ours.
pub(crate) async fn acquire(candidate: &Candidate, ear: &Ear, health: &Health) -> Lease {
    loop {
        let mut holder = None;
        match candidate.acquire().await {
            Ok(Attempt::Taken(lease)) => {
                info!(epoch = lease.epoch(), "holding the lease");
                return *lease;
            }
            Ok(Attempt::Held(place)) => {
                holder = place;
                health.set(State::StandingBy);
            }
            Err(error) => health.wait(&error),
        }
        // Told of a release or of the holder's end, or after a while.
        tokio::select! {
            () = ear.released() => {}
            () = is_left(holder) => {}
            () = tokio::time::sleep(LOOK.min(candidate.term() / 5)) => {}
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

/// Renews the lease until another took over.
pub(crate) async fn keep(lease: &Lease, health: &Health) {
    let term = lease.candidate().term();
    let mut pause = term / 5;
    loop {
        tokio::select! {
            () = lease.lost() => break,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match lease.renew().await {
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
    warn!(epoch = lease.epoch(), "another indexer took over");
}
