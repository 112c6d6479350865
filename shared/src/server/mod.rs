//! Connections: accepted, timed, counted, and ended in good order.
//!
//! `warp`'s own server panics on a taken port, waits for slow heads for ever and ends when the last client does; so the
//! loop is here, and what answers is any service. [`connections`] says which connection makes way for another.

mod answer;
mod connections;
mod counted;
mod stream;
mod target;

pub use connections::{Awaited, Client, Held};
pub use counted::Counted;

use crate::process;
use crate::telemetry::say;
use answer::Answering;
use connections::{Connection, Connections};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

/// How long the head of a request may take, from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How many headers a request may have.
const HEADERS: usize = 1000;
/// The largest head that is read at all, in bytes; smaller limits are for the service to hold to.
const HEAD: usize = 128 * 1024;
/// How many connections there are at once at the most. Where a process may open fewer files it is less.
const CONNECTIONS: usize = 4096;
/// How long to wait when accepting fails, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long clients are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// One that takes nothing of what it is sent is cut off after this time.
    pub stall: Duration,
    /// One that asks nothing keeps its connection for this time. Proxies keep connections for requests to come, and one
    /// that is closed just as a request is sent on it makes that fail: so this is to be longer than their own time.
    pub idle: Duration,
}

/// How serving ends once it is to.
pub struct Ending<G> {
    /// For this long connections are still accepted and requests answered, each answer with `Connection: close`: whoever
    /// leads clients here learns only by and by that it is to lead them elsewhere.
    pub drain: Duration,
    /// Asked when that is over: for how long what is running then may go on.
    pub grace: G,
}

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

/// Serves connections until `stop`, and then as long as `ending` says. An answer counts as ended when its connection is:
/// what was made last is still to be sent.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    patience: Patience,
    counted: &Counted,
    stop: impl Future<Output = ()>,
    ending: Ending<impl FnOnce() -> Duration>,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let graceful = GracefulShutdown::new();
    let connections = Connections::new(process::connections().min(CONNECTIONS), counted);
    {
        let accepting = async {
            loop {
                match accept(&listener, &connections).await {
                    Ok((stream, from)) => {
                        let service = service.clone();
                        let connection = connections.open(from.ip());
                        tokio::spawn(answer(stream, connection, service, patience, graceful.watcher()));
                    }
                    Err(error) => {
                        warn!(%error, "no connection can be accepted");
                        connections.evict();
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::pin!(accepting);
        tokio::select! {
            () = stop => {}
            never = &mut accepting => never,
        }
        connections.drain();
        let _ = tokio::time::timeout(ending.drain, accepting).await;
    }
    drop(listener);
    let _ = tokio::time::timeout((ending.grace)(), graceful.shutdown()).await;
}

async fn accept(listener: &TcpListener, connections: &Connections) -> std::io::Result<(TcpStream, SocketAddr)> {
    connections.room().await;
    listener.accept().await
}

/// Answers on one connection until it ends or is to make way.
async fn answer<S, B>(stream: TcpStream, connection: Arc<Connection>, service: S, patience: Patience, watcher: Watcher)
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Small answers are not to wait for more.
    let _ = stream.set_nodelay(true);
    // The kernel knows what the client has taken; we know only what the kernel has taken from us, which may be megabytes
    // more. Who reads slowly, but reads, is waited for.
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(
        &stream,
        u32::try_from(patience.stall.as_millis()).unwrap_or(u32::MAX),
    );
    let answering = Answering { service, connection: connection.clone() };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // The stream itself waits no longer, but knows nothing of what was read before its turn.
        .header_read_timeout(patience.idle + HEAD_TIMEOUT)
        .auto_date_header(false)
        .max_headers(HEADERS)
        .max_buf_size(HEAD)
        .serve_connection(Stream::new(stream, connection.clone(), patience.idle), answering);
    tokio::select! {
        biased;
        ended = watcher.watch(serving) => {
            if let Err(error) = ended {
                debug!("a connection ended: {error}");
            }
        }
        () = connection.evicted() => debug!("a connection whose client was waited for made way"),
    }
}

/// The body of a refusal.
fn error_body(detail: &str) -> String {
    format!(r#"{{"detail":"{detail}"}}"#)
}
