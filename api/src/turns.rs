//! Who makes an answer next. To make one from the store takes memory and a processor, so few are made at a time, and the others
//! wait for a turn: one client's after another's. Of each client few requests come in their order; of many the newest is
//! first. In turn with them go the answers that are made in parts, of which each goes on after the others. So a crowd of
//! requests keeps nobody waiting who comes after it, whether he has an address of his own or shares the crowd's, and of many
//! long answers none waits for the end of another; and whoever has waited for longest, who may not even be there any more, is
//! the one to be told to come again.

use crate::work::processors;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How many answers are made at a time for each processor, since some of it is waiting for the database, and at the least.
const PER_PROCESSOR: usize = 2;
const LEAST: usize = 4;
/// How many requests of one client may wait in their order: each soon has its turn.
const FEW: usize = 8;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many turns this machine has processors for.
pub(crate) fn count() -> usize {
    (PER_PROCESSOR * processors()).max(LEAST)
}

/// A client, as far as can be told.
pub(crate) type Client = Option<IpAddr>;

/// A request among others: whose it is, and which of all that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) client: Client,
    /// Later requests have higher numbers, also where they come to wait before others.
    pub(crate) arrival: u64,
}

/// The turns that there are.
pub(crate) struct Turns(Mutex<State>);

struct State {
    free: usize,
    /// Those who wait.
    waiting: HashMap<Client, Queue>,
    /// The clients of those, the one first that is next.
    next: VecDeque<Client>,
    /// How many waits to go on there were.
    waits: u64,
}

/// One client's requests that wait.
#[derive(Default)]
struct Queue {
    /// Those that have not begun, by their arrival. They may be told to come again.
    begin: BTreeMap<u64, Told>,
    /// Those whose answers go on, in the order in which they came to wait.
    go_on: BTreeMap<u64, Told>,
    /// Whether the last turn was for one that began.
    began: bool,
}

/// Gets the turn. It is dropped where there is to be none.
type Told = oneshot::Sender<Turn>;

/// Which of a client's waits it is.
#[derive(Debug, Clone, Copy)]
enum Wait {
    Begin(u64),
    GoOn(u64),
}

/// A turn, which is over when this is dropped.
pub(crate) struct Turn(Option<Arc<Turns>>);

impl Turns {
    /// So many.
    pub(crate) fn new(count: usize) -> Arc<Turns> {
        let state = State { free: count, waiting: HashMap::new(), next: VecDeque::new(), waits: 0 };
        Arc::new(Turns(Mutex::new(state)))
    }

    /// Waits for a turn to begin an answer; `None` where there is none in time, or others need the place.
    pub(crate) async fn begin(self: &Arc<Self>, asker: Asker) -> Option<Turn> {
        tokio::time::timeout(PATIENCE, self.turn(asker, true)).await.ok()?
    }

    /// Waits for a turn to go on with an answer.
    pub(crate) async fn go_on(self: &Arc<Self>, asker: Asker) -> Option<Turn> {
        self.turn(asker, false).await
    }

    async fn turn(self: &Arc<Self>, asker: Asker, begins: bool) -> Option<Turn> {
        let (wait, told) = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Some(Turn(Some(self.clone())));
            }
            state.enqueue(asker, begins)
        };
        let _queued = Queued { all: self, client: asker.client, wait };
        told.await.ok()
    }

    /// How many wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.values().map(Queue::len).sum()
    }

    /// Has the one make way for an asker who came first of all that wait, of this client or else of the one that most wait
    /// of. False where nobody can, or all came after the asker.
    pub(crate) fn evict(&self, client: Option<Client>, asker: Asker) -> bool {
        let mut state = self.state();
        let most = || state.waiting.iter().max_by_key(|(_, queue)| queue.len()).map(|(client, _)| *client);
        let Some(queue) = client.or_else(most).and_then(|client| state.waiting.get_mut(&client)) else {
            return false;
        };
        let oldest = queue.begin.keys().next().copied();
        oldest.filter(|oldest| *oldest < asker.arrival).and_then(|oldest| queue.begin.remove(&oldest)).is_some()
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
            match next.send(Turn(Some(self.clone()))) {
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
    fn enqueue(&mut self, asker: Asker, begins: bool) -> (Wait, oneshot::Receiver<Turn>) {
        let (turn, told) = oneshot::channel();
        let queue = self.waiting.entry(asker.client).or_insert_with(|| {
            self.next.push_back(asker.client);
            Queue::default()
        });
        let wait = if begins {
            queue.begin.insert(asker.arrival, turn);
            Wait::Begin(asker.arrival)
        } else {
            self.waits += 1;
            queue.go_on.insert(self.waits, turn);
            Wait::GoOn(self.waits)
        };
        (wait, told)
    }

    fn next(&mut self) -> Option<Told> {
        loop {
            let client = self.next.pop_front()?;
            let queue = self.waiting.get_mut(&client)?;
            let next = queue.next();
            match queue.len() {
                0 => drop(self.waiting.remove(&client)),
                _ => self.next.push_back(client),
            }
            if next.is_some() {
                return next;
            }
        }
    }
}

impl Queue {
    fn len(&self) -> usize {
        self.begin.len() + self.go_on.len()
    }

    /// One of those that are to begin, and the one that has waited longest to go on, in turn.
    fn next(&mut self) -> Option<Told> {
        self.began = !self.begin.is_empty() && (self.go_on.is_empty() || !self.began);
        let next = match self.began {
            true if self.begin.len() > FEW => self.begin.pop_last(),
            true => self.begin.pop_first(),
            false => self.go_on.pop_first(),
        };
        next.map(|(_, told)| told)
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
    wait: Wait,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if let Some(queue) = state.waiting.get_mut(&self.client) {
            match self.wait {
                Wait::Begin(arrival) => queue.begin.remove(&arrival),
                Wait::GoOn(wait) => queue.go_on.remove(&wait),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::Future;
    use std::pin::Pin;

    type Waits<'a> = Pin<Box<dyn Future<Output = Option<Turn>> + 'a>>;

    const ONE: Client = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Client = None;

    fn asker(client: Client, arrival: u64) -> Asker {
        Asker { client, arrival }
    }

    /// Waits of these clients, who came in this order, begun in another.
    fn waits<'a, const N: usize>(turns: &'a Arc<Turns>, clients: [Client; N]) -> [Waits<'a>; N] {
        let mut arrival = 1;
        let mut waits = clients.map(|client| {
            arrival += 1;
            Box::pin(turns.turn(asker(client, arrival), true)) as Waits<'a>
        });
        waits.iter_mut().rev().for_each(|wait| assert!(wait.as_mut().now_or_never().is_none()));
        waits
    }

    /// Which of the waits are over, and whether with a turn. The turns are kept.
    fn over<const N: usize>(
        waits: &mut [Waits<'_>; N],
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
    fn clients_take_turns_and_the_newest_of_many_is_first() {
        let turns = Turns::new(1);
        let mut kept = vec![turns.turn(asker(ONE, 0), true).now_or_never().flatten().expect("a turn")];
        let all = [ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE, OTHER, OTHER];
        let (mut waits, mut done) = (waits(&turns, all), [false; 12]);
        // The other's few in their order, and between them the newest of the one's, until those are few as well.
        for next in [10, 9, 11, 8, 0, 1, 2, 3, 4, 5, 6, 7] {
            kept.remove(0);
            assert_eq!(over(&mut waits, &mut done, &mut kept), [(next, true)]);
        }
        kept.clear();
        let state = turns.state();
        assert!(state.free == 1 && state.waiting.is_empty() && state.next.is_empty());
    }

    #[test]
    fn long_answers_go_on_one_after_the_other_and_new_ones_begin_between() {
        let turns = Turns::new(1);
        let mut kept = vec![turns.turn(asker(ONE, 0), true).now_or_never().flatten().expect("a turn")];
        let order = [(5, false), (3, false), (4, false), (8, true), (9, true)];
        let mut waits = order.map(|(arrival, begins)| Box::pin(turns.turn(asker(ONE, arrival), begins)) as Waits<'_>);
        waits.iter_mut().for_each(|wait| assert!(wait.as_mut().now_or_never().is_none()));
        let mut done = [false; 5];
        for next in [3, 0, 4, 1, 2] {
            kept.remove(0);
            assert_eq!(over(&mut waits, &mut done, &mut kept), [(next, true)]);
        }
    }

    #[test]
    fn whoever_has_waited_for_longest_makes_way() {
        let turns = Turns::new(1);
        let mut kept = vec![turns.turn(asker(ONE, 0), true).now_or_never().flatten().expect("a turn")];
        let mut goes_on: Waits<'_> = Box::pin(turns.go_on(asker(ONE, 1)));
        assert!(goes_on.as_mut().now_or_never().is_none());
        let (mut waits, mut done) = (waits(&turns, [ONE, ONE, OTHER]), [false; 3]);
        assert!(turns.evict(None, asker(ONE, 9)));
        assert_eq!(over(&mut waits, &mut done, &mut kept), [(0, false)]);
        assert!(
            turns.evict(Some(OTHER), asker(OTHER, 9))
                && turns.evict(Some(ONE), asker(ONE, 9))
                && !turns.evict(Some(ONE), asker(ONE, 9))
                && !turns.evict(Some(OTHER), asker(OTHER, 9))
        );
        assert_eq!(over(&mut waits, &mut done, &mut kept), [(1, false), (2, false)]);
        // An answer that has begun is gone on with.
        kept.clear();
        assert!(goes_on.as_mut().now_or_never().flatten().is_some());
    }

    #[test]
    fn no_turn_is_lost_with_those_who_go() {
        let turns = Turns::new(1);
        let first = turns.turn(asker(ONE, 0), true).now_or_never().flatten().expect("a turn");
        let [gone, told] = waits(&turns, [ONE, ONE]);
        drop(gone);
        // The turn is his before he knows.
        drop(first);
        drop(told);
        let state = turns.state();
        assert_eq!((state.free, state.waiting.values().map(Queue::len).sum::<usize>()), (1, 0));
    }
}
