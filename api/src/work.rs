//! Where answers are worked out: on threads of their own, so that connections are served, and whether the process lives is
//! answered, however long those are at work.

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// The threads.
pub(crate) struct Work(Option<Runtime>);

impl Work {
    /// As many as there are processors, and one more, so that one is left where work goes on for long without a pause. Each
    /// more makes answers go from thread to thread, which costs more than it brings.
    pub(crate) fn new() -> io::Result<Work> {
        let runtime =
            Builder::new_multi_thread().worker_threads(processors() + 1).thread_name("work").enable_all().build()?;
        Ok(Work(Some(runtime)))
    }

    /// What comes of a piece of work, which is given up when this is dropped. It panics where the work does.
    pub(crate) async fn of<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let Some(runtime) = &self.0 else { return std::future::pending().await };
        let mut given_up = GivenUp(runtime.spawn(work));
        match (&mut given_up.0).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The process ends, and answers nobody any more.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // It may be one of the threads that are to end.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How many processors there are.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Work that is given up when this is dropped.
struct GivenUp<T>(JoinHandle<T>);

impl<T> Drop for GivenUp<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
