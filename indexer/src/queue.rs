//! The queue of hints: folders and flows in which something may have changed, wherever that was heard.
//!
//! Hints of one subject become one, and one subject is worked on by one worker at a time, so that what is read last is
//! also written last. Hints of events come before those of walks. Putting one in never blocks. When more wait than
//! [`CAPACITY`], an event's hint of a folder is dropped and the queue says so: a walk of everything takes its place.
//! Those of flows are kept: there are no more of them than flows.
//!
//! What a walk finds in one folder waits as one thing, its names in one text, and becomes hints one by one: a storage path
//! may hold a million folders.

use crate::run::{Kind, Ticket};
use shared::flow::FlowId;
use shared::folder::Folder;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// How many events' hints may wait.
const CAPACITY: usize = 100_000;

/// What a hint is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Folder(Folder),
    Flow(FlowId),
}

impl From<Folder> for Subject {
    fn from(folder: Folder) -> Subject {
        Subject::Folder(folder)
    }
}

impl From<FlowId> for Subject {
    fn from(id: FlowId) -> Subject {
        Subject::Flow(id)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Folder(folder) => folder.fmt(f),
            Subject::Flow(id) => id.fmt(f),
        }
    }
}

/// What to do about a folder. A flow is compared with what is known of it in any case.
#[derive(Debug, Default)]
pub(crate) struct Hint {
    /// List it, and all folders below it.
    pub(crate) list: bool,
    /// Read its metadata file, whatever its version is.
    pub(crate) read: bool,
    /// How often reading it failed in a row, or how often a flow's folder was looked at.
    pub(crate) attempt: u32,
    /// The walks that this is part of.
    pub(crate) tickets: Vec<Ticket>,
    /// When an event told of it first.
    pub(crate) told: Option<Instant>,
}

impl Hint {
    /// The metadata file may have changed.
    pub(crate) fn read() -> Hint {
        Hint { read: true, ..Hint::default() }
    }

    /// An event tells that the metadata file may have changed.
    pub(crate) fn told(now: Instant) -> Hint {
        Hint { told: Some(now), ..Hint::read() }
    }

    /// When an event told of it, or of a folder that it is in; `None` where only a walk came by.
    pub(crate) fn told_at(&self) -> Option<Instant> {
        let runs = self.tickets.iter().map(Ticket::run).filter(|run| run.kind == Kind::Subtree);
        runs.map(|run| run.begun).chain(self.told).min()
    }

    /// The folder is to be listed for a walk.
    pub(crate) fn list(tickets: Vec<Ticket>) -> Hint {
        Hint { list: true, tickets, ..Hint::default() }
    }

    /// Whether only walks ask for it that were given up.
    pub(crate) fn is_given_up(&self) -> bool {
        !self.read && !self.tickets.is_empty() && self.tickets.iter().all(|ticket| ticket.run().is_cancelled())
    }

    /// Whether an event named the folder, or one that it is in.
    pub(crate) fn is_of_event(&self) -> bool {
        self.tickets.iter().any(|ticket| ticket.run().kind == Kind::Subtree)
    }

    fn merge(&mut self, other: Hint) {
        // Something new happened: reading is worth trying from the start. A walk that comes by is nothing new.
        self.attempt = match (self.read, other.read) {
            (true, false) => self.attempt,
            (false, true) => other.attempt,
            (true, true) | (false, false) => self.attempt.min(other.attempt),
        };
        self.told = self.told.into_iter().chain(other.told).min();
        self.list |= other.list;
        self.read |= other.read;
        for ticket in other.tickets {
            if !self.tickets.iter().any(|own| own.is_same_run(&ticket)) {
                self.tickets.push(ticket);
            }
        }
    }
}

/// When a hint's turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// From this moment on, before all walks.
    Due(Instant),
    /// When nothing is due; the last first, so that a walk goes deep and few folders wait.
    Walk(Haste),
}

/// Which walk comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Haste {
    /// One of the whole volume.
    None,
    /// One of a folder that an event named.
    Some,
}

type Place = (Instant, u64);

#[derive(Debug)]
struct Pending {
    hint: Hint,
    turn: Turn,
    /// Where it stands among those due.
    place: Option<Place>,
}

/// What waits for its turn in a walk.
#[derive(Debug)]
enum ToWalk {
    /// A subject that `waiting` has the hint of.
    One(Subject),
    /// Folders in a folder, of the given names joined by `/`, all to be listed.
    In { parent: Folder, names: String, tickets: Vec<Ticket> },
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Subject, Pending>,
    due: BTreeMap<Place, Subject>,
    /// By haste.
    walks: [Vec<ToWalk>; 2],
    busy: HashSet<Subject>,
    count: u64,
    /// How many workers wait for something to do.
    idle: usize,
    closed: bool,
}

/// What waits in a queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Since when what is due first has been so; `None` where nothing is.
    pub(crate) since: Option<Instant>,
    pub(crate) due: usize,
    /// Folders that walks came to; those in one folder are one.
    pub(crate) walks: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    overflow: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a hint in.
    pub(crate) fn push(&self, subject: impl Into<Subject>, hint: Hint, turn: Turn) {
        let subject = subject.into();
        let mut state = self.lock();
        let full = state.due.len() >= CAPACITY && matches!(subject, Subject::Folder(_));
        if full && hint.tickets.is_empty() && !state.waiting.contains_key(&subject) {
            self.overflow.notify_one();
            return;
        }
        state.push(subject, hint, turn);
        drop(state);
        self.ready.notify_one();
    }

    /// Puts many hints in.
    pub(crate) fn extend(&self, hints: impl Iterator<Item = (impl Into<Subject>, Hint)>, turn: Turn) {
        let mut state = self.lock();
        hints.for_each(|(subject, hint)| state.push(subject.into(), hint, turn));
        drop(state);
        self.ready.notify_one();
    }

    /// Puts the folders in a folder in, to be listed for walks: for a worker alone, that takes a hint next. `names` are theirs, joined by `/`.
    pub(crate) fn walk_in(&self, parent: &Folder, names: String, tickets: Vec<Ticket>, haste: Haste) {
        if names.is_empty() {
            return;
        }
        // The worker that puts them in comes back for the first of them, or for something else, and wakes another then.
        self.lock().walks[haste as usize].push(ToWalk::In { parent: parent.clone(), names, tickets });
    }

    /// What waits.
    pub(crate) fn waiting(&self) -> Waiting {
        let state = self.lock();
        let now = Instant::now();
        let since = state.due.first_key_value().map(|((due, _), _)| *due).filter(|due| *due <= now);
        Waiting { since, due: state.due.len(), walks: state.walks.iter().map(Vec::len).sum() }
    }

    /// Says that hints were lost.
    pub(crate) fn lost_hints(&self) {
        self.overflow.notify_one();
    }

    /// Waits until hints were lost.
    pub(crate) async fn hints_lost(&self) {
        self.overflow.notified().await;
    }

    /// Waits for a hint, and keeps its subject from other workers until [`done`](Queue::done). `None` once closed. Calls
    /// `pause` before it waits.
    pub(crate) fn pop(&self, mut pause: impl FnMut()) -> Option<(Subject, Hint)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            if let Some((subject, hint)) = state.take(now) {
                state.busy.insert(subject.clone());
                // Who leaves something to do wakes the next one: nobody need know how many it takes.
                if state.idle > 0 && state.has_more(now) {
                    self.ready.notify_one();
                }
                return Some((subject, hint));
            }
            pause();
            state.idle += 1;
            state = match state.due.first_key_value() {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(((due, _), _)) => {
                    let pause = due.saturating_duration_since(now);
                    self.ready.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.idle -= 1;
        }
    }

    /// Ends the work on a subject.
    pub(crate) fn done(&self, subject: &Subject) {
        let mut state = self.lock();
        state.busy.remove(subject);
        // A hint that came meanwhile takes its place now.
        if let Some(waiting) = state.waiting.remove(subject) {
            state.push(subject.clone(), waiting.hint, waiting.turn);
            drop(state);
            self.ready.notify_one();
        }
    }

    /// Ends all waiting.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }
}

impl State {
    fn push(&mut self, subject: Subject, hint: Hint, turn: Turn) {
        let (hint, turn) = match self.waiting.remove(&subject) {
            None => (hint, turn),
            Some(mut waiting) => {
                if let Some(place) = waiting.place {
                    self.due.remove(&place);
                }
                waiting.hint.merge(hint);
                (waiting.hint, waiting.turn.sooner(turn))
            }
        };
        let mut place = None;
        if !self.busy.contains(&subject) {
            match turn {
                Turn::Walk(haste) => self.walks[haste as usize].push(ToWalk::One(subject.clone())),
                Turn::Due(at) => {
                    self.count += 1;
                    self.due.insert((at, self.count), subject.clone());
                    place = Some((at, self.count));
                }
            }
        }
        self.waiting.insert(subject, Pending { hint, turn, place });
    }

    /// Whether something is to be done now.
    fn has_more(&self, now: Instant) -> bool {
        self.walks.iter().any(|walk| !walk.is_empty())
            || self.due.first_key_value().is_some_and(|((due, _), _)| *due <= now)
    }

    fn take(&mut self, now: Instant) -> Option<(Subject, Hint)> {
        if self.due.first_key_value().is_some_and(|((due, _), _)| *due <= now) {
            let (_, subject) = self.due.pop_first()?;
            return self.waiting.remove(&subject).map(|waiting| (subject, waiting.hint));
        }
        self.take_to_walk(Haste::Some).or_else(|| self.take_to_walk(Haste::None))
    }

    fn take_to_walk(&mut self, haste: Haste) -> Option<(Subject, Hint)> {
        loop {
            match self.walks[haste as usize].pop()? {
                // Left over where the hint moved to another place.
                ToWalk::One(subject)
                    if self.busy.contains(&subject)
                        || self.waiting.get(&subject).is_none_or(|waiting| waiting.turn != Turn::Walk(haste)) => {}
                ToWalk::One(subject) => return self.waiting.remove(&subject).map(|waiting| (subject, waiting.hint)),
                ToWalk::In { parent, mut names, tickets } => {
                    let begin = names.rfind('/').map_or(0, |slash| slash + 1);
                    let subject = Subject::Folder(parent.join(&names[begin..]));
                    let hint = Hint::list(tickets.clone());
                    if hint.is_given_up() {
                        continue;
                    }
                    names.truncate(begin.saturating_sub(1));
                    if !names.is_empty() {
                        self.walks[haste as usize].push(ToWalk::In { parent, names, tickets });
                    }
                    if !self.busy.contains(&subject) && !self.waiting.contains_key(&subject) {
                        return Some((subject, hint));
                    }
                    // It is waited for, or becomes one with what waits.
                    self.push(subject, hint, Turn::Walk(haste));
                }
            }
        }
    }
}

impl Turn {
    fn sooner(self, other: Turn) -> Turn {
        match (self, other) {
            (Turn::Due(a), Turn::Due(b)) => Turn::Due(a.min(b)),
            (Turn::Due(at), Turn::Walk(_)) | (Turn::Walk(_), Turn::Due(at)) => Turn::Due(at),
            (Turn::Walk(a), Turn::Walk(b)) => Turn::Walk(a.max(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn folder(text: &str) -> Folder {
        text.parse().expect("a folder")
    }

    fn now() -> Turn {
        Turn::Due(Instant::now())
    }

    fn names(queue: &Queue, n: usize) -> Vec<String> {
        (0..n).map(|_| queue.pop(|| ()).expect("a hint").0.to_string()).collect()
    }

    #[test]
    fn events_come_first_and_walks_go_deep() {
        let queue = Queue::default();
        queue.push(folder("a"), Hint::list(vec![]), Turn::Walk(Haste::None));
        queue.push(folder("b"), Hint::list(vec![]), Turn::Walk(Haste::None));
        queue.push(folder("c"), Hint::read(), now());
        assert_eq!(names(&queue, 3), ["c", "b", "a"]);
    }

    #[test]
    fn hints_of_a_folder_become_one() {
        let queue = Queue::default();
        queue.push(folder("a"), Hint::list(vec![]), Turn::Walk(Haste::None));
        queue.push(
            folder("a"),
            Hint { attempt: 3, ..Hint::read() },
            Turn::Due(Instant::now() + Duration::from_secs(3600)),
        );
        queue.push(folder("a"), Hint::read(), now());
        let (_, hint) = queue.pop(|| ()).expect("a hint");
        assert!(hint.list && hint.read);
        assert_eq!(hint.attempt, 0);
        queue.done(&folder("a").into());
        // A walk that comes by does not have it tried from the start.
        queue.push(folder("a"), Hint { attempt: 3, ..Hint::read() }, now());
        queue.push(folder("a"), Hint::list(vec![]), Turn::Walk(Haste::None));
        let (_, hint) = queue.pop(|| ()).expect("a hint");
        assert_eq!((hint.list, hint.read, hint.attempt), (true, true, 3));
        queue.done(&folder("a").into());
        queue.push(folder("z"), Hint::read(), Turn::Walk(Haste::None));
        assert_eq!(names(&queue, 1), ["z"]);
    }

    #[test]
    fn folders_in_a_folder_are_hints_one_by_one() {
        let queue = Queue::default();
        queue.walk_in(&Folder::root(), "last".to_owned(), vec![], Haste::None);
        queue.walk_in(&folder("a"), "x/y/z".to_owned(), vec![], Haste::None);
        queue.walk_in(&Folder::root(), "b".to_owned(), vec![], Haste::Some);
        queue.push(folder("c"), Hint::read(), now());
        assert_eq!(names(&queue, 3), ["c", "b", "a/z"]);
        // One that waits for another reason, and one that is worked on.
        queue.push(folder("a/y"), Hint::read(), Turn::Due(Instant::now() + Duration::from_secs(3600)));
        queue.push(folder("a/x"), Hint::read(), now());
        assert_eq!(names(&queue, 2), ["a/x", "last"]);
        queue.push(folder("a/y"), Hint::read(), now());
        let (subject, hint) = queue.pop(|| ()).expect("a hint");
        assert_eq!((subject.to_string().as_str(), hint.list && hint.read), ("a/y", true));
        queue.done(&folder("a/x").into());
        let (subject, hint) = queue.pop(|| ()).expect("a hint");
        assert_eq!((subject.to_string().as_str(), hint.list), ("a/x", true));
    }

    #[test]
    fn a_folder_is_worked_on_once_at_a_time() {
        let queue = Queue::default();
        queue.push(folder("a"), Hint::read(), now());
        assert_eq!(names(&queue, 1), ["a"]);
        queue.push(folder("a"), Hint::read(), now());
        queue.push(folder("b"), Hint::read(), now());
        assert_eq!(names(&queue, 1), ["b"]);
        queue.done(&folder("a").into());
        assert_eq!(names(&queue, 1), ["a"]);
    }

    #[test]
    fn a_closed_queue_lets_its_workers_go() {
        let queue = std::sync::Arc::new(Queue::default());
        let worker = std::thread::spawn({
            let queue = queue.clone();
            move || queue.pop(|| ()).is_none()
        });
        queue.close();
        assert!(worker.join().expect("a worker"));
    }

    #[test]
    fn a_full_queue_keeps_flows() {
        let queue = Queue::default();
        for n in 0..CAPACITY {
            queue.push(folder(&n.to_string()), Hint::read(), now());
        }
        queue.push(FlowId::stored("pb-a-20250101-0:data-product:x".to_owned()), Hint::default(), now());
        assert_eq!(queue.lock().waiting.len(), CAPACITY + 1);
    }

    #[test]
    fn a_full_queue_says_so() {
        let queue = Queue::default();
        for n in 0..=CAPACITY {
            queue.push(folder(&n.to_string()), Hint::read(), now());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(queue.hints_lost());
        assert_eq!(queue.lock().waiting.len(), CAPACITY);
    }
}
