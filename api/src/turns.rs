//! Who makes an answer next. To make one from the store takes memory and a processor, so few are made at a time, and the others
//! wait for a turn: one client's after another's, and of each client the newest first. So a crowd of requests keeps
//! nobody waiting who comes after it, whether he has an address of his own or shares the crowd's; and whoever has waited
//! for longest, who may not even be there any more, is the one to be told to come again.

use crate::work::processors;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How many answers are made at a time for each processor, since some of it is waiting for the database, and at the least.
const PER_PROCESSOR: usize = 2;
const LEAST: usize = 4;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many turns this machine has processors for.
pub(crate) fn count() -> usize {
    (PER_PROCESSOR * processors()).max(LEAST)
}

/// A client, as far as can be told.
pub(crate) type Client = Option<IpAddr>;

/// The turns that there are.
pub(crate) struct Turns(Mutex<State>);

struct State {
    free: usize,
    last: u64,
    /// Those who wait; of each client the one first that has done so for longest.
    waiting: HashMap<Client, VecDeque<Waiting>>,
    /// The clients of those, the one first that is next.
    next: VecDeque<Client>,
}

struct Waiting {
    number: u64,
    /// Whether it may be told to come again.
    makes_way: bool,
    /// Gets the turn. It is dropped where there is to be none.
    turn: oneshot::Sender<Turn>,
}

/// A turn, which is over when this is dropped.
pub(crate) struct Turn(Option<Arc<Turns>>);

impl Turns {
    /// So many.
    pub(crate) fn new(count: usize) -> Arc<Turns> {
        let state = State { free: count, last: 0, waiting: HashMap::new(), next: VecDeque::new() };
        Arc::new(Turns(Mutex::new(state)))
    }

    /// Waits for a turn to begin an answer; `None` where there is none in time, or others need the place.
    pub(crate) async fn begin(self: &Arc<Self>, client: Client) -> Option<Turn> {
        tokio::time::timeout(PATIENCE, self.turn(client, true)).await.ok()?
    }

    /// Waits for a turn to go on with an answer.
    pub(crate) async fn go_on(self: &Arc<Self>, client: Client) -> Option<Turn> {
        self.turn(client, false).await
    }

    async fn turn(self: &Arc<Self>, client: Client, makes_way: bool) -> Option<Turn> {
        let (number, told) = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Some(Turn(Some(self.clone())));
            }
            state.enqueue(client, makes_way)
        };
        let _queued = Queued { all: self, client, number };
        told.await.ok()
    }

    /// Has the one make way who has waited for longest, of this client or else of the one that most wait of. False where
    /// nobody can.
    pub(crate) fn evict(&self, client: Option<Client>) -> bool {
        let mut state = self.state();
        let most = || state.waiting.iter().max_by_key(|(_, waiting)| waiting.len()).map(|(client, _)| *client);
        let Some(waiting) = client.or_else(most).and_then(|client| state.waiting.get_mut(&client)) else {
            return false;
        };
        let oldest = waiting.iter().position(|waiting| waiting.makes_way);
        oldest.and_then(|oldest| waiting.remove(oldest)).is_some()
    }

    /// Hands a turn on to whoever is next.
    fn end(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.next();
                state.free += usize::from(next.is_none());
                next
            };
            let Some(next) = next else { return };
            match next.turn.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // He has just gone, and the turn is still to be handed on.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, client: Client, makes_way: bool) -> (u64, oneshot::Receiver<Turn>) {
        let (turn, told) = oneshot::channel();
        self.last += 1;
        let waiting = self.waiting.entry(client).or_insert_with(|| {
            self.next.push_back(client);
            VecDeque::new()
        });
        waiting.push_back(Waiting { number: self.last, makes_way, turn });
        (self.last, told)
    }

    fn next(&mut self) -> Option<Waiting> {
        loop {
            let client = self.next.pop_front()?;
            let waiting = self.waiting.get_mut(&client)?;
            let newest = waiting.pop_back();
            match waiting.is_empty() {
                true => drop(self.waiting.remove(&client)),
                false => self.next.push_back(client),
            }
            if newest.is_some() {
                return newest;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(all) = self.0.take() {
            all.end();
        }
    }
}

/// A wait that ends with this.
struct Queued<'a> {
    all: &'a Turns,
    client: Client,
    number: u64,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.all.state();
        let Some(waiting) = state.waiting.get_mut(&self.client) else { return };
        if let Ok(own) = waiting.binary_search_by_key(&self.number, |waiting| waiting.number) {
            waiting.remove(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::Future;
    use std::pin::Pin;

    type Wait<'a> = Pin<Box<dyn Future<Output = Option<Turn>> + 'a>>;

    const ONE: Client = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Client = None;

    /// Waits of these clients, begun in this order.
    fn waits<'a, const N: usize>(turns: &'a Arc<Turns>, clients: [Client; N]) -> [Wait<'a>; N] {
        clients.map(|client| {
            let mut wait: Wait<'a> = Box::pin(turns.turn(client, true));
            assert!(wait.as_mut().now_or_never().is_none());
            wait
        })
    }

    /// Which of the waits are over, and whether with a turn. The turns are kept.
    fn over<const N: usize>(
        waits: &mut [Wait<'_>; N],
        done: &mut [bool; N],
        kept: &mut Vec<Turn>,
    ) -> Vec<(usize, bool)> {
        let mut over = Vec::new();
        for n in 0..N {
            if let Some(turn) = (!done[n]).then(|| waits[n].as_mut().now_or_never()).flatten() {
                (done[n], over) = (true, [over, vec![(n, turn.is_some())]].concat());
                kept.extend(turn);
            }
        }
        over
    }

    #[test]
    fn clients_take_turns_and_the_newest_of_each_is_first() {
        let turns = Turns::new(1);
        let mut kept = vec![turns.turn(ONE, true).now_or_never().flatten().expect("a turn")];
        let (mut waits, mut done) = (waits(&turns, [ONE, ONE, ONE, OTHER, OTHER]), [false; 5]);
        for next in [2, 4, 1, 3, 0] {
            kept.remove(0);
            assert_eq!(over(&mut waits, &mut done, &mut kept), [(next, true)]);
        }
        kept.clear();
        let state = turns.state();
        assert!(state.free == 1 && state.waiting.is_empty() && state.next.is_empty());
    }

    #[test]
    fn whoever_has_waited_for_longest_makes_way() {
        let turns = Turns::new(1);
        let mut kept = vec![turns.turn(ONE, true).now_or_never().flatten().expect("a turn")];
        let mut goes_on: Wait<'_> = Box::pin(turns.go_on(ONE));
        assert!(goes_on.as_mut().now_or_never().is_none());
        let (mut waits, mut done) = (waits(&turns, [ONE, ONE, OTHER]), [false; 3]);
        assert!(turns.evict(None));
        assert_eq!(over(&mut waits, &mut done, &mut kept), [(0, false)]);
        assert!(
            turns.evict(Some(OTHER)) && turns.evict(Some(ONE)) && !turns.evict(Some(ONE)) && !turns.evict(Some(OTHER))
        );
        assert_eq!(over(&mut waits, &mut done, &mut kept), [(1, false), (2, false)]);
        // An answer that has begun is gone on with.
        kept.clear();
        assert!(goes_on.as_mut().now_or_never().flatten().is_some());
    }

    #[test]
    fn no_turn_is_lost_with_those_who_go() {
        let turns = Turns::new(1);
        let first = turns.turn(ONE, true).now_or_never().flatten().expect("a turn");
        let [gone, told] = waits(&turns, [ONE, ONE]);
        drop(gone);
        // The turn is his before he knows.
        drop(first);
        drop(told);
        let state = turns.state();
        assert_eq!((state.free, state.waiting.values().map(VecDeque::len).sum::<usize>()), (1, 0));
    }
}
