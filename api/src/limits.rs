//! How many requests there are at once. Further ones are told to come again, rather than make all others slow.
//!
//! A place is taken when a request is whole, and given back when its answer is made: how long a client takes to send the one
//! or to take the other is nobody else's loss. Those who give files keep theirs until they are sent. Where there is no
//! place, whoever has waited longest for his [turn](crate::turns) makes way for a new one.
//!
//! No client has more than three quarters of the places, so that one alone cannot have all. A client is an address of a
//! connection. What headers say of it anybody may write, and a token that nobody has looked at yet too; so behind an ingress
//! all clients are one, and have three quarters of the places together. That is no loss for requests, of which far fewer
//! can be worked on at once than there are places; where downloads are as many, there must be as many more places.

use crate::error::ApiError;
use crate::turns::{self, Asker, Client, Turn, Turns};
use shared::config::ApiSettings;
use shared::query::Query;
use shared::server::Client as Connected;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The routes that say how the service stands: they are answered however busy it is.
const ALWAYS: &[&str] = &["/livez", "/readyz", "/status"];
/// The routes that give files, which may take as long as the client's line needs.
const DOWNLOADS: &[&str] = &["/download", "/download/{uid}", "/products/{uid}/files/{path*}"];

/// How long a request waits for a place.
const MOMENT: Duration = Duration::from_secs(1);

/// The places that there are.
pub(crate) struct Limits {
    requests: Places,
    downloads: Places,
    look_ups: Arc<Turns>,
    searches: Arc<Turns>,
}

/// A place, taken until this is dropped.
pub(crate) enum Place {
    /// None is needed.
    Free,
    /// That of a request, which is over when the answer is made.
    Request(#[expect(dead_code, reason = "it is there to be dropped")] Taken),
    /// That of a download, which is over when the answer has left.
    Download(Taken),
}

impl Limits {
    /// As many places as are configured.
    pub(crate) fn new(settings: &ApiSettings) -> Limits {
        Limits {
            requests: Places::new("requests", settings.max_requests),
            downloads: Places::new("downloads", settings.max_downloads),
            look_ups: Turns::new(turns::count()),
            searches: Turns::new(turns::count()),
        }
    }

    /// Takes a place for a request of a client to a route.
    ///
    /// # Errors
    /// [`ApiError::Busy`] where all are taken, or three quarters of them by this client, and nobody
    /// waits who came before and could make way.
    pub(crate) async fn enter(&self, route: &str, asker: Asker) -> Result<Place, ApiError> {
        let until = Instant::now() + MOMENT;
        loop {
            match self.try_enter(route, asker) {
                // Those who could make way are on the way to where they wait.
                Err(_) if Instant::now() < until && !DOWNLOADS.contains(&route) => {
                    tokio::time::sleep(MOMENT / 50).await;
                }
                entered => return entered,
            }
        }
    }

    fn try_enter(&self, route: &str, asker: Asker) -> Result<Place, ApiError> {
        let evict = |client| self.searches.evict(client, asker) || self.look_ups.evict(client, asker);
        match route {
            _ if ALWAYS.contains(&route) => Ok(Place::Free),
            _ if DOWNLOADS.contains(&route) => self.downloads.take(asker.client, |_| false).map(Place::Download),
            _ => self.requests.take(asker.client, evict).map(Place::Request),
        }
    }

    /// How many places of requests and of downloads are taken.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.requests.taken(), self.downloads.taken())
    }

    /// How many wait for their turn, for look-ups and for searches.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.look_ups.waiting(), self.searches.waiting())
    }

    /// Waits for the turn of a client's request to have its answer made from the store.
    ///
    /// # Errors
    /// [`ApiError::Busy`] where it does not come in time, or another needs the place.
    pub(crate) async fn turn(&self, lane: Lane, asker: Asker) -> Result<Turn, ApiError> {
        self.turns_of(lane).begin(asker).await.ok_or(ApiError::Busy(self.requests.what))
    }

    /// Waits for a turn to go on with an answer that is made in parts.
    pub(crate) async fn go_on(&self, lane: Lane, asker: Asker) -> Option<Turn> {
        self.turns_of(lane).go_on(asker).await
    }

    fn turns_of(&self, lane: Lane) -> &Arc<Turns> {
        match lane {
            Lane::LookUps => &self.look_ups,
            Lane::Searches => &self.searches,
        }
    }
}

/// Whose turns an answer waits for. What costs little waits for nothing that may take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Look-ups, lists, columns, annotations.
    LookUps,
    /// Searches by whatever is in the metadata.
    Searches,
}

impl Lane {
    /// That of a query.
    pub(crate) fn of(query: &Query) -> Lane {
        if query.is_plain() { Lane::LookUps } else { Lane::Searches }
    }
}

struct Places {
    what: &'static str,
    count: usize,
    /// How many of them one client may have.
    share: usize,
    taken: Arc<Mutex<HashMap<Client, usize>>>,
}

/// A place that a client has.
pub(crate) struct Taken {
    client: Client,
    taken: Arc<Mutex<HashMap<Client, usize>>>,
}

impl Places {
    fn new(what: &'static str, count: usize) -> Places {
        Places { what, count, share: count - count / 4, taken: Arc::default() }
    }

    /// How many are taken.
    fn taken(&self) -> usize {
        locked(&self.taken).values().sum()
    }

    /// Takes one. Where there is none, `evict` has another give up his: one of the client's own, or anybody's. He does so
    /// in a moment, until when there is one taken too many.
    fn take(&self, client: Client, evict: impl Fn(Option<Client>) -> bool) -> Result<Taken, ApiError> {
        let client = client.map(network);
        let mut taken = locked(&self.taken);
        let has_share = client.is_some() && taken.get(&client).is_some_and(|own| *own >= self.share);
        let is_full = taken.values().sum::<usize>() >= self.count;
        if (has_share || is_full) && !evict(has_share.then_some(client)) {
            return Err(ApiError::Busy(self.what));
        }
        *taken.entry(client).or_default() += 1;
        Ok(Taken { client, taken: self.taken.clone() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        if let Some(own) = taken.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request as turns see it.
pub(crate) fn asker(connection: Option<&Connected>) -> Asker {
    let client = connection.map(|connection| network(connection.address()));
    Asker { client, arrival: connection.map_or(0, Connected::arrival) }
}

/// What counts as one client: of IPv6 addresses everybody has 2^64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Client {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn nobody_has_all() {
        let places = Places::new("requests", 5);
        let take = |client| places.take(client, |_| false);
        let [one, same, other] = ["2001:db8::1", "2001:db8::ffff:2", "::ffff:192.0.2.1"].map(address);
        let first = take(one).expect("a place");
        let _more = [same, one, same].map(|client| take(client).expect("a place"));
        assert!(take(same).is_err());
        let others = take(other).expect("a place");
        assert!(take(address("192.0.2.1")).is_err());
        drop(first);
        assert!(take(same).is_ok());
        drop((_more, others));
        assert!(locked(&places.taken).is_empty());
    }

    #[test]
    fn whoever_waits_makes_way_for_a_new_one() {
        let places = Places::new("requests", 4);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(address);
        let _own = [(); 3].map(|()| places.take(one, |_| false).expect("a place"));
        let (fourth, fifth) =
            (places.take(one, |client| client == Some(one)), places.take(other, |client| client.is_none()));
        assert!(fourth.is_ok() && fifth.is_ok());
    }
}
