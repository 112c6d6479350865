//! Connections: accepted, timed, counted, and ended in good order.
//!
//! `warp`'s own server panics on a taken port, waits for slow heads for ever and ends when the last client does; so the
//! loop is here, and `warp` is the service behind it.

use crate::{Api, routes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{debug, info, warn};
use warp::http::{HeaderValue, Method, header};

/// How long the head of a request may take; also how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How many headers a request may have; their size is looked at by the routes.
const HEADERS: usize = 1000;
/// How many connections are served at once; further ones wait to be accepted.
const CONNECTIONS: usize = 4096;
/// How long requests may take to end once the server is to stop, and downloads.
const GRACE: Duration = Duration::from_millis(500);
const DOWNLOAD_GRACE: Duration = Duration::from_secs(10);
/// How long to wait when accepting fails, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `stop`, then ends what is running within its grace.
pub async fn serve(listener: TcpListener, api: Arc<Api>, stop: impl Future<Output = ()>) {
    let service = tower::ServiceBuilder::new().layer(cors(&api)).service(warp::service(routes::filter(api.clone())));
    let service = TowerToHyperService::new(service);
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
    end(graceful, &api).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Option<tokio::sync::OwnedSemaphorePermit>)> {
    let place = places.clone().acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Waits for what is running: shortly for requests, longer where a download is among it. A download counts as ended when
/// its connection is: what was made last is still to be sent.
async fn end(graceful: GracefulShutdown, api: &Api) {
    let grace = if api.downloads.count() > 0 { DOWNLOAD_GRACE } else { GRACE };
    if grace > GRACE {
        info!("waiting up to {} s for {} downloads", grace.as_secs(), api.downloads.count());
    }
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
}

/// What browsers may call from the dashboard's pages.
fn cors(api: &Api) -> CorsLayer {
    let origins = api.settings.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::HEAD, Method::OPTIONS])
        .allow_headers([header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE, header::RANGE])
        .expose_headers([header::CONTENT_DISPOSITION, header::CONTENT_LENGTH, header::RETRY_AFTER])
}
