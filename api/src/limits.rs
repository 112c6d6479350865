//! How many requests are answered at once. Further ones are told to come again, rather than make all others slow.

use crate::error::ApiError;
use shared::config::ApiSettings;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The routes that say how the service stands: they are answered however busy it is.
const ALWAYS: &[&str] = &["/livez", "/readyz", "/status"];
/// The routes that give files, which may take as long as the client's line needs.
const DOWNLOADS: &[&str] = &["/download", "/download/{uid}", "/products/{uid}/files/{path*}"];

/// How many bodies of metadata are read at once: what one comes to takes up to twenty times its bytes.
const TURNS: usize = 4;

/// The places that there are.
pub(crate) struct Limits {
    requests: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    turns: Semaphore,
}

/// A place, taken until this is dropped. None is needed where the permit is `None`.
#[derive(Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "it is there to be dropped")] Option<Arc<OwnedSemaphorePermit>>);

impl Limits {
    /// As many places as are configured.
    pub(crate) fn new(settings: &ApiSettings) -> Limits {
        Limits {
            requests: Arc::new(Semaphore::new(settings.max_requests)),
            downloads: Arc::new(Semaphore::new(settings.max_downloads)),
            turns: Semaphore::new(TURNS),
        }
    }

    /// Waits for a turn with what takes much memory. It is over when what comes of this is dropped.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// Takes a place for a request to a route.
    ///
    /// # Errors
    /// [`ApiError::Busy`] where all are taken.
    pub(crate) fn enter(&self, route: &str) -> Result<Place, ApiError> {
        let (places, what) = match route {
            _ if ALWAYS.contains(&route) => return Ok(Place(None)),
            _ if DOWNLOADS.contains(&route) => (&self.downloads, "downloads"),
            _ => (&self.requests, "requests"),
        };
        match places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place(Some(Arc::new(permit)))),
            Err(_) => Err(ApiError::Busy(what)),
        }
    }
}
