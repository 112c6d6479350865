//! What a process is to the operating system.

mod place;
pub mod slice;

pub use place::Place;

use std::future::Future;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// What people know this process by: its host, which in a container is the pod's name, and its number where it is not the
/// only one there.
pub fn name() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    match std::process::id() {
        1 => host.into_owned(),
        number => format!("{host}:{number}"),
    }
}

/// Completes when the process is asked to end.
///
/// # Errors
/// Where signals cannot be received.
pub fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        info!("ending on {name}");
    })
}

/// How many connections this process may have, so that files enough are left for what they ask for.
pub fn connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    (files / 2).max(16)
}

/// Raises the limit of open files as far as it goes: each connection, download and folder being read takes one.
pub fn allow_many_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files stays as it is");
    }
}
