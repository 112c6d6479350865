//! Connections: accepted, timed, counted, and ended in good order.
//!
//! `warp`'s own server panics on a taken port, waits for slow heads for ever and ends when the last client does; so the
//! loop is here, and what answers is any service.

use crate::telemetry::say;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// How long the head of a request may take; also how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How many headers a request may have; their size is for the service to look at.
const HEADERS: usize = 1000;
/// How many connections are served at once; further ones wait to be accepted.
const CONNECTIONS: usize = 4096;
/// How long to wait when accepting fails, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on the address that a variable of the environment gives, and says so on standard output.
///
/// # Errors
/// A line for people, which names the variable.
pub async fn listen(variable: &str, address: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|error| format!("{variable}: cannot listen on {address}: {error}"))?;
    say(&format!("listening on http://{}", listener.local_addr().map_err(|error| error.to_string())?));
    Ok(listener)
}

/// Serves connections until `stop`, then lets what is running end within the time that `grace` gives it. An answer counts
/// as ended when its connection is: what was made last is still to be sent.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    stop: impl Future<Output = ()>,
    grace: impl FnOnce() -> Duration,
) where
    S: HttpService<Incoming, ResBody = B> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("no connection can be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers are not to wait for more.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(grace(), graceful.shutdown()).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Option<tokio::sync::OwnedSemaphorePermit>)> {
    let place = places.clone().acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}
