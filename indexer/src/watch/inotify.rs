//! The kernel's events (inotify), read on a thread of their own.

use super::source::{Happened, Place, Told};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{CreateFlags, Event, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// What is told of a watched folder. Opening and reading is not: we do that ourselves.
const TOLD: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Room for events that one call reads.
const BUFFER: usize = 64 * 1024;

/// Watches of ours. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
}

impl Watches {
    /// Begins to read events: `told` gets each, or why there are no more.
    pub(super) fn start(mut told: impl FnMut(Told<'_>) + Send + 'static) -> io::Result<Watches> {
        let inotify = Arc::new(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (own, until) = (inotify.clone(), stop.clone());
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            if let Err(error) = read(&own, &until, &mut told) {
                told(Told::Lost(&format!("events may have been lost: {error}")));
            }
        })?;
        Ok(Watches { inotify, stop })
    }

    /// Watches an open folder, and comes back with the number of the watch: the same for the same folder. `path` is its
    /// path, for where open files have no names.
    pub(super) fn add(&self, dir: BorrowedFd<'_>, path: &Path) -> Result<i32, Errno> {
        match add_watch(&self.inotify, format!("/proc/self/fd/{}", dir.as_raw_fd()), TOLD) {
            Err(Errno::NOENT | Errno::ACCESS) => add_watch(&self.inotify, path, TOLD),
            added => added,
        }
    }

    /// Ends a watch. Where it has ended already, as the folder is gone, nothing is to be done.
    pub(super) fn remove(&self, number: i32) {
        let _ = remove_watch(&self.inotify, number);
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        // Fails only when there are 2^64 such wishes already.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}

/// What an event says; `None` where that is nothing to us.
fn meaning<'a>(event: &'a Event<'a>) -> Option<Told<'a>> {
    let (number, told) = (event.wd(), event.events());
    if told.contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(Told::Lost("the kernel lost events"));
    }
    if told.contains(ReadFlags::IGNORED) {
        return Some(Told::Ended(number));
    }
    let Some(name) = event.file_name() else {
        let itself = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        return told.intersects(itself).then_some(Told::Itself(number));
    };
    let name = name.to_str().ok()?;
    happened(told).map(|happened| Told::Name { place: Place::Watch(number), name, happened })
}

/// What an event about a name in a watched folder says.
fn happened(told: ReadFlags) -> Option<Happened> {
    let came_or_went = ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO | ReadFlags::DELETE;
    let folder = told.contains(ReadFlags::ISDIR);
    if folder && told.intersects(came_or_went | ReadFlags::CREATE) {
        Some(Happened::Folder)
    } else if told.intersects(came_or_went | ReadFlags::CLOSE_WRITE) {
        Some(Happened::File)
    } else if told.intersects(ReadFlags::CREATE | ReadFlags::MODIFY | ReadFlags::ATTRIB) {
        Some(Happened::Writing)
    } else {
        None
    }
}

fn read(inotify: &OwnedFd, stop: &OwnedFd, told: &mut impl FnMut(Told<'_>)) -> Result<(), Errno> {
    let mut room = vec![MaybeUninit::uninit(); BUFFER];
    let mut events = Reader::new(inotify, &mut room);
    loop {
        match events.next() {
            Ok(event) => meaning(&event).into_iter().for_each(&mut *told),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut ready = [PollFd::new(inotify, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
                match poll(&mut ready, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
                if ready[1].revents().contains(PollFlags::IN) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}
