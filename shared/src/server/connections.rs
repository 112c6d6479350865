//! Which connections there are, and what each is at: so that idle ones make way when there are too many.
//!
//! A connection is idle until the head of a request has arrived whole, and again once the answer has left for the
//! network. Clients keep connections for later, and some only open them; whoever comes anew must not wait for those.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Something that a service wants kept until its answer has left, put into the answer's extensions: a place among those
/// that may be answered at once, for an answer takes memory until then.
#[derive(Clone)]
pub struct Held(#[expect(dead_code, reason = "it is there to be dropped")] Arc<dyn Any + Send + Sync>);

impl Held {
    /// Keeps this.
    pub fn new(kept: impl Any + Send + Sync) -> Held {
        Held(Arc::new(kept))
    }
}

/// All connections.
pub(super) struct Connections {
    limit: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Those that are idle, the one that has been so for longest first.
    idle: BTreeMap<u64, Arc<Notify>>,
    last: u64,
}

/// One of them.
pub(super) struct Connection {
    all: Arc<Connections>,
    at: Mutex<At>,
    /// Tells that it is to make way.
    evicted: Arc<Notify>,
}

/// What a connection is at.
enum At {
    /// Waiting for a request, since this turn.
    Idle(u64),
    /// Answering one.
    Busy,
    /// Sending what is left of the answer.
    Leaving(#[expect(dead_code, reason = "it is there to be dropped")] Option<Held>),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Connections> {
        Arc::new(Connections { limit, state: Mutex::default(), changed: Notify::new() })
    }

    /// Waits until another connection can be taken: there is room, or one that can make way.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let state = locked(&self.state);
                if state.open < self.limit || !state.idle.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Counts a connection in. Where there is no room for it, the one that has been idle for longest makes way.
    pub(super) fn open(self: &Arc<Self>) -> Arc<Connection> {
        if locked(&self.state).open >= self.limit {
            self.evict();
        }
        let evicted = Arc::new(Notify::new());
        let mut state = locked(&self.state);
        state.open += 1;
        let turn = state.idle(evicted.clone());
        drop(state);
        Arc::new(Connection { all: self.clone(), at: Mutex::new(At::Idle(turn)), evicted })
    }

    /// Has the connection that has been idle for longest make way.
    pub(super) fn evict(&self) {
        if let Some((_, evicted)) = locked(&self.state).idle.pop_first() {
            evicted.notify_one();
        }
    }
}

impl State {
    fn idle(&mut self, evicted: Arc<Notify>) -> u64 {
        self.last += 1;
        self.idle.insert(self.last, evicted);
        self.last
    }
}

impl Connection {
    /// A request has arrived.
    pub(super) fn begin(&self) {
        if let At::Idle(turn) = std::mem::replace(&mut *locked(&self.at), At::Busy) {
            locked(&self.all.state).idle.remove(&turn);
        }
    }

    /// All of an answer was handed to the connection.
    pub(super) fn end(&self, held: Option<Held>) {
        *locked(&self.at) = At::Leaving(held);
    }

    /// All that was handed to the connection has left.
    pub(super) fn flushed(&self) {
        let mut at = locked(&self.at);
        if matches!(*at, At::Leaving(_)) {
            *at = At::Idle(locked(&self.all.state).idle(self.evicted.clone()));
            self.all.changed.notify_one();
        }
    }

    /// Whether no request is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.idle_turn().is_some()
    }

    /// Since which turn no request is being answered; `None` while one is.
    pub(super) fn idle_turn(&self) -> Option<u64> {
        match *locked(&self.at) {
            At::Idle(turn) => Some(turn),
            At::Busy | At::Leaving(_) => None,
        }
    }

    /// Waits until it is to make way.
    pub(super) async fn evicted(&self) {
        loop {
            self.evicted.notified().await;
            // A request may have arrived just now.
            if self.is_idle() {
                return;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = locked(&self.all.state);
        state.open -= 1;
        if let At::Idle(turn) = *locked(&self.at) {
            state.idle.remove(&turn);
        }
        drop(state);
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

    #[test]
    fn the_longest_idle_makes_way() {
        let all = Connections::new(3);
        let [first, second, third] = [(); 3].map(|()| all.open());
        first.begin();
        first.end(None);
        first.flushed();
        assert!([&first, &second, &third].iter().all(|connection| !now(connection.evicted())));
        // The first was of use since.
        let fourth = all.open();
        assert!(now(second.evicted()) && ![&first, &third, &fourth].iter().any(|other| now(other.evicted())));
        drop(second);
        third.begin();
        let _fifth = all.open();
        assert!(now(first.evicted()) && !now(third.evicted()) && !now(fourth.evicted()));
    }

    #[test]
    fn nobody_is_cut_off_in_the_middle() {
        let all = Connections::new(2);
        let [one, two] = [(); 2].map(|()| all.open());
        one.begin();
        two.begin();
        assert!(!now(all.room()));
        one.end(Some(Held::new("kept")));
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
        let all = Connections::new(1);
        let (connection, kept) = (all.open(), Arc::new(()));
        connection.begin();
        connection.end(Some(Held::new(kept.clone())));
        assert_eq!(Arc::strong_count(&kept), 2);
        connection.flushed();
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
