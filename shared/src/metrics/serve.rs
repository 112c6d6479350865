//! `/metrics`, on a port of its own or beside what else answers there.

use super::{Format, Metrics};
use crate::server::{self, Ending, Patience};
use crate::telemetry::say;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long answers may take to end.
const GRACE: Duration = Duration::from_millis(200);
/// How long a client may take nothing of its answer.
const PATIENCE: Patience = Patience { stall: Duration::from_secs(60), idle: Duration::from_secs(75) };

/// Listens for those who scrape, and says so on standard output.
///
/// # Errors
/// A line for people, which names the variable.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|error| format!("DPD_METRICS_LISTEN: cannot listen on {address}: {error}"))?;
    say(&format!("metrics on http://{}/metrics", listener.local_addr().map_err(|error| error.to_string())?));
    Ok(listener)
}

/// Answers `/metrics` on a port of its own, for ever.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => answer(&metrics, request.headers()),
            (&Method::GET | &Method::HEAD, _) => refused(StatusCode::NOT_FOUND, "There is /metrics here."),
            _ => refused(StatusCode::METHOD_NOT_ALLOWED, "There is only GET here."),
        };
        async { Ok::<_, Infallible>(response) }
    });
    let counted = server::Counted::default();
    let ending = Ending { drain: Duration::ZERO, grace: || GRACE };
    server::serve(listener, service, PATIENCE, &counted, std::future::pending(), ending).await;
}

/// The answer to whoever scrapes.
pub fn answer(metrics: &Metrics, headers: &HeaderMap) -> Response<String> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::wanted(accept);
    let mut response = Response::new(metrics.text(format));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

fn refused(status: StatusCode, detail: &str) -> Response<String> {
    let mut response = Response::new(format!(r#"{{"detail":"{detail}"}}"#));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
