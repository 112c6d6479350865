//! Which connections there are, and what each is at: so that those make way that only wait for their clients, when there
//! are too many of them or they keep too much.
//!
//! A connection is idle until the head of a request has arrived whole, and again once the answer has left for the
//! network. Clients keep connections for later, and some only open them; whoever comes anew must not wait for those.
//! Nor for one that sends its body or takes its answer as slowly as it likes: idle ones make way first, and then the one
//! that has sent or taken nothing for longest. So there need be no least rate, which a poor line could fall short of while
//! nobody wants its room. An answer that holds something ([`Held`]) stays: a download has a place that it was given.

use super::Counted;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Something that a service wants kept until its answer has left, put into the answer's extensions: a place among those
/// that may be answered at once. Such an answer is never cut off to make way for others.
#[derive(Clone)]
pub struct Held(#[expect(dead_code, reason = "it is there to be dropped")] Arc<dyn Any + Send + Sync>);

impl Held {
    /// Keeps this.
    pub fn new(kept: impl Any + Send + Sync) -> Held {
        Held(Arc::new(kept))
    }
}

/// How many bytes of answers are kept until clients take them. What of it the kernel has is not ours to count.
const KEPT: usize = 128 * 1024 * 1024;

/// How many connections there may be beyond the limit, which make way but have not ended yet.
const LEAVING: usize = 16;

/// The client of a request, put into the request's extensions.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Connection>);

impl Client {
    /// Where the client is, as far as the connection tells: an ingress stands for all of its clients.
    pub fn address(&self) -> IpAddr {
        self.0.address
    }

    /// Which of all requests this is: later ones have higher numbers. The first of a connection came when that was opened,
    /// for however many are opened at once, they are accepted in their order and looked at in any.
    pub fn arrival(&self) -> u64 {
        locked(&self.0.arrival).0
    }

    /// Tells that the client is waited for, until what this returns is dropped: meanwhile it may have to make way.
    pub fn awaited(&self) -> Awaited {
        self.0.wait();
        Awaited(self.0.clone())
    }
}

/// A client that is waited for.
pub struct Awaited(Arc<Connection>);

impl Awaited {
    /// Something came of it.
    pub fn came(&self) {
        self.0.wait();
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.work();
    }
}

/// All connections.
pub(super) struct Connections {
    limit: usize,
    counted: Counted,
    state: Mutex<State>,
    changed: Notify,
    /// Whether each connection is to end with its next answer.
    draining: AtomicBool,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Those that are idle, the one that has been so for longest first.
    idle: BTreeMap<u64, Arc<Notify>>,
    /// Those that wait for their client in the middle of a request, the one that has done so for longest first, with how
    /// many bytes of its answer are kept.
    waiting: BTreeMap<u64, (Arc<Notify>, usize)>,
    /// How many bytes are kept for all that wait.
    kept: usize,
    last: u64,
}

/// One of them.
pub(super) struct Connection {
    all: Arc<Connections>,
    at: Mutex<At>,
    /// The number of the request, and whether it is of one that has come.
    arrival: Mutex<(u64, bool)>,
    address: IpAddr,
    /// Tells that it is to make way.
    evicted: Arc<Notify>,
}

/// What a connection is at.
enum At {
    /// Waiting for a request, since this turn.
    Idle(u64),
    /// Waiting for more of its body, since this turn.
    Arriving(u64),
    /// Answering one.
    Busy,
    /// Sending an answer that is still being made, or what is left of it.
    Sending(Sending),
}

/// What is known of an answer on its way.
#[derive(Default)]
struct Sending {
    /// Since when it waits for its client; `None` while it waits for us, or where it is not to make way.
    turn: Option<u64>,
    /// Its parts that have not left whole: of each how many bytes it has, all of which are kept, and how many are left.
    parts: VecDeque<(usize, usize)>,
    /// How many bytes are kept of it.
    kept: usize,
    /// Whether all of it was handed to the connection.
    whole: bool,
    held: Option<Held>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    pub(super) fn new(limit: usize, counted: &Counted) -> Arc<Connections> {
        counted.most.set(i64::try_from(limit).unwrap_or(i64::MAX));
        let (state, changed, draining) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        Arc::new(Connections { limit, counted: counted.clone(), state, changed, draining })
    }

    /// Has each connection end with its next answer.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until another connection can be taken: there is room, or one that can make way.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let state = locked(&self.state);
                let can_make_way = !state.idle.is_empty() || !state.waiting.is_empty();
                if state.open < self.limit || can_make_way && state.open < self.limit + LEAVING {
                    return;
                }
            }
            // Those that were told to make way have not done so, perhaps since something came on them just then.
            self.evict();
            changed.await;
        }
    }

    /// Counts a connection in. Where there is no room for it, another makes way.
    pub(super) fn open(self: &Arc<Self>, address: IpAddr) -> Arc<Connection> {
        if locked(&self.state).open >= self.limit {
            self.evict();
        }
        let evicted = Arc::new(Notify::new());
        let mut state = locked(&self.state);
        state.open += 1;
        self.counted.open.inc();
        let turn = state.idle(evicted.clone());
        drop(state);
        let (at, arrival) = (Mutex::new(At::Idle(turn)), Mutex::new((turn, false)));
        Arc::new(Connection { all: self.clone(), at, arrival, address, evicted })
    }

    /// Has the connection that has been idle for longest make way, or else the one that has waited for its client for
    /// longest.
    pub(super) fn evict(&self) {
        let mut state = locked(&self.state);
        let makes_way = match state.idle.pop_first() {
            Some((_, evicted)) => {
                evicted.notify_one();
                true
            }
            None => state.cut_off(|_, _| true),
        };
        if makes_way {
            self.counted.evicted.inc();
        }
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn idle(&mut self, evicted: Arc<Notify>) -> u64 {
        let turn = self.next();
        self.idle.insert(turn, evicted);
        turn
    }

    fn wait(&mut self, evicted: Arc<Notify>, kept: usize) -> u64 {
        let turn = self.next();
        self.waiting.insert(turn, (evicted, kept));
        self.kept += kept;
        turn
    }

    fn go_on(&mut self, turn: u64) {
        self.kept -= self.waiting.remove(&turn).map_or(0, |(_, kept)| kept);
    }

    /// Has the first make way that waits for its client, and is so by its turn and by what is kept for it. False where
    /// there is none.
    fn cut_off(&mut self, is_so: impl Fn(u64, usize) -> bool) -> bool {
        let first = self.waiting.iter().find(|(turn, (_, kept))| is_so(**turn, *kept)).map(|(turn, _)| *turn);
        let Some((evicted, kept)) = first.and_then(|turn| self.waiting.remove(&turn)) else { return false };
        self.kept -= kept;
        evicted.notify_one();
        true
    }
}

impl Connection {
    /// Whether it is to end with its next answer.
    pub(super) fn is_draining(&self) -> bool {
        self.all.draining.load(Ordering::Relaxed)
    }

    /// A request has arrived.
    pub(super) fn begin(&self) {
        let mut arrival = locked(&self.arrival);
        let number = if arrival.1 { locked(&self.all.state).next() } else { arrival.0 };
        *arrival = (number, true);
        drop(arrival);
        self.turn_to(At::Busy);
    }

    /// The client is waited for: for more of a body, from now on.
    fn wait(&self) {
        let turn = locked(&self.all.state).wait(self.evicted.clone(), 0);
        self.turn_to(At::Arriving(turn));
        self.all.changed.notify_one();
    }

    /// The client is waited for no longer.
    fn work(&self) {
        let mut at = locked(&self.at);
        if let At::Arriving(turn) = *at {
            *at = At::Busy;
            locked(&self.all.state).go_on(turn);
        }
    }

    fn turn_to(&self, new: At) {
        match std::mem::replace(&mut *locked(&self.at), new) {
            At::Idle(turn) => drop(locked(&self.all.state).idle.remove(&turn)),
            At::Arriving(turn) | At::Sending(Sending { turn: Some(turn), .. }) => locked(&self.all.state).go_on(turn),
            At::Busy | At::Sending(_) => {}
        }
    }

    /// An answer begins, which may hold something.
    pub(super) fn answer(&self, held: Option<Held>) {
        self.turn_to(At::Sending(Sending { held, ..Sending::default() }));
    }

    /// So many bytes of an answer were handed to the connection.
    pub(super) fn hand(&self, bytes: usize) {
        let own = self.sending(|sending| {
            sending.parts.push_back((bytes, bytes));
            sending.kept += bytes;
        });
        let mut state = locked(&self.all.state);
        while state.kept > KEPT && state.cut_off(|turn, kept| kept > 0 && Some(turn) != own) {
            self.all.counted.evicted.inc();
        }
    }

    /// So many bytes left for the network.
    pub(super) fn left(&self, bytes: usize) {
        self.sending(|sending| {
            let mut bytes = bytes;
            while let Some((size, left)) = sending.parts.front_mut() {
                if *left > bytes {
                    *left -= bytes;
                    break;
                }
                bytes -= *left;
                sending.kept -= *size;
                sending.parts.pop_front();
            }
        });
    }

    /// Notes what became of an answer. The client is waited for from now on where there is something for it to take; since
    /// which turn is answered.
    fn sending(&self, change: impl FnOnce(&mut Sending)) -> Option<u64> {
        let mut at = locked(&self.at);
        let At::Sending(sending) = &mut *at else { return None };
        change(sending);
        if sending.held.is_some() {
            return None;
        }
        let mut state = locked(&self.all.state);
        if let Some(turn) = sending.turn.take() {
            state.go_on(turn);
        }
        if sending.kept > 0 {
            sending.turn = Some(state.wait(self.evicted.clone(), sending.kept));
        }
        drop(state);
        self.all.changed.notify_one();
        sending.turn
    }

    /// All of an answer was handed to the connection.
    pub(super) fn end(&self) {
        if let At::Sending(sending) = &mut *locked(&self.at) {
            sending.whole = true;
        }
    }

    /// All that was handed to the connection has left.
    pub(super) fn flushed(&self) {
        if !matches!(&*locked(&self.at), At::Sending(sending) if sending.whole) {
            return;
        }
        let turn = locked(&self.all.state).idle(self.evicted.clone());
        self.turn_to(At::Idle(turn));
        self.all.changed.notify_one();
    }

    /// Whether no request is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.idle_turn().is_some()
    }

    /// Since which turn no request is being answered; `None` while one is.
    pub(super) fn idle_turn(&self) -> Option<u64> {
        match *locked(&self.at) {
            At::Idle(turn) => Some(turn),
            At::Arriving(_) | At::Busy | At::Sending(_) => None,
        }
    }

    /// Whether an answer is cut off here, and its client need not get what the kernel has of it.
    pub(super) fn is_cut_off(&self) -> bool {
        matches!(*locked(&self.at), At::Sending(_)) && self.makes_way()
    }

    /// Whether it was told to make way, and nothing has happened on it since.
    fn makes_way(&self) -> bool {
        let at = locked(&self.at);
        let state = locked(&self.all.state);
        match &*at {
            At::Idle(turn) => !state.idle.contains_key(turn),
            At::Arriving(turn) | At::Sending(Sending { turn: Some(turn), .. }) => !state.waiting.contains_key(turn),
            At::Busy | At::Sending(_) => false,
        }
    }

    /// Waits until it is to make way.
    pub(super) async fn evicted(&self) {
        loop {
            self.evicted.notified().await;
            if self.makes_way() {
                return;
            }
            // A request may have arrived just now, or the rest of one. Then it is for another to make way.
            if locked(&self.all.state).open > self.all.limit {
                self.all.evict();
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.turn_to(At::Busy);
        locked(&self.all.state).open -= 1;
        self.all.counted.open.dec();
        self.all.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_of_tests::now;

    /// Whether a future is ready at once.
    mod futures_of_tests {
        use std::future::Future;
        use std::pin::pin;
        use std::task::{Context, Waker};

        pub(super) fn now(future: impl Future<Output = ()>) -> bool {
            pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }
    }

    fn open(all: &Arc<Connections>) -> Arc<Connection> {
        all.open(IpAddr::from([127, 0, 0, 1]))
    }

    #[test]
    fn the_longest_idle_makes_way() {
        let all = Connections::new(3, &Counted::default());
        let [first, second, third] = [(); 3].map(|()| open(&all));
        first.begin();
        first.answer(None);
        first.end();
        first.flushed();
        assert!([&first, &second, &third].iter().all(|connection| !now(connection.evicted())));
        // The first was of use since.
        let fourth = open(&all);
        assert!(now(second.evicted()) && ![&first, &third, &fourth].iter().any(|other| now(other.evicted())));
        drop(second);
        third.begin();
        let _fifth = open(&all);
        assert!(now(first.evicted()) && !now(third.evicted()) && !now(fourth.evicted()));
    }

    #[test]
    fn nobody_is_cut_off_in_the_middle() {
        let all = Connections::new(2, &Counted::default());
        let [one, two] = [(); 2].map(|()| open(&all));
        one.begin();
        two.begin();
        assert!(!now(all.room()));
        one.answer(Some(Held::new("kept")));
        one.hand(100);
        one.end();
        assert!(!one.is_idle() && !now(all.room()));
        one.flushed();
        assert!(one.is_idle() && now(all.room()));
        // Told to make way, but a request came first.
        all.evict();
        one.begin();
        assert!(!now(one.evicted()));
        drop(two);
        assert!(now(all.room()));
    }

    #[test]
    fn what_is_held_is_kept_until_the_answer_has_left() {
        let all = Connections::new(1, &Counted::default());
        let (connection, kept) = (open(&all), Arc::new(()));
        connection.begin();
        connection.answer(Some(Held::new(kept.clone())));
        connection.end();
        assert_eq!(Arc::strong_count(&kept), 2);
        connection.flushed();
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    #[test]
    fn whoever_is_waited_for_makes_way_and_whoever_gave_or_took_least_lately_does_so_first() {
        let all = Connections::new(3, &Counted::default());
        let [sends, takes, works] = [(); 3].map(|()| open(&all));
        [&sends, &takes, &works].iter().for_each(|connection| connection.begin());
        assert!(!now(all.room()));
        let awaited = Client(sends.clone()).awaited();
        takes.answer(None);
        takes.hand(10);
        assert!(now(all.room()));
        // More of the body came since something of the answer was taken.
        awaited.came();
        let _fourth = open(&all);
        all.evict();
        assert!(now(takes.evicted()) && takes.is_cut_off() && !now(sends.evicted()) && !now(works.evicted()));
        all.evict();
        all.evict();
        assert!(now(sends.evicted()) && !now(works.evicted()));
        drop(awaited);
        assert!(!sends.makes_way());
    }

    #[test]
    fn answers_that_nobody_takes_are_kept_within_a_bound() {
        let all = Connections::new(9, &Counted::default());
        let [one, two, download, last] = [(); 4].map(|()| open(&all));
        for connection in [&one, &two, &download, &last] {
            connection.begin();
            connection.answer(Arc::ptr_eq(connection, &download).then(|| Held::new("a place")));
            connection.hand(KEPT / 2);
        }
        // The place of the first is free again; one that is larger than all may be is not cut off by itself.
        assert!(now(one.evicted()) && ![&two, &download, &last].iter().any(|other| now(other.evicted())));
        two.left(KEPT / 2);
        last.hand(KEPT);
        assert!(!now(last.evicted()) && !now(two.evicted()) && locked(&all.state).kept > KEPT);
        drop([one, two, download, last]);
        assert_eq!(locked(&all.state).kept, 0);
    }
}
