//! The API as a service on connections.

use crate::reply::AS_OF;
use crate::{Api, routes, trace};
use hyper_util::service::TowerToHyperService;
use shared::server::{Ending, Patience};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::info;
use warp::http::{HeaderName, HeaderValue, Method, header};

/// How long requests may take to end once no more are taken. Downloads have a time that is configured.
const GRACE: Duration = Duration::from_millis(500);

/// Serves connections until `stop`. From then on `/readyz` says that this process is to be asked no more, and for the time
/// that `drain` gives it is nevertheless answered whoever asks; then what is running ends within its grace.
pub async fn serve(listener: TcpListener, api: Arc<Api>, drain: Duration, stop: impl Future<Output = ()>) {
    let service = tower::ServiceBuilder::new().layer(cors(&api)).service(warp::service(routes::filter(api.clone())));
    let patience = Patience { stall: api.settings.stall, idle: api.settings.idle };
    let stop = async {
        stop.await;
        api.readiness.stop();
        if !drain.is_zero() {
            info!("stopping; still answering for {} s", drain.as_secs_f64());
        }
    };
    let (ending, counted) = (Ending { drain, grace: || grace(&api) }, &api.answers.connections);
    shared::server::serve(listener, TowerToHyperService::new(service), patience, counted, stop, ending).await;
}

/// How long to wait for what is running: shortly for requests, longer where a download is among it.
fn grace(api: &Api) -> Duration {
    match api.downloads.count() {
        0 => GRACE,
        downloads => {
            let grace = api.settings.download_grace;
            info!("waiting up to {} s for {downloads} downloads", grace.as_secs_f64());
            grace.max(GRACE)
        }
    }
}

/// What browsers may call from the dashboard's pages.
fn cors(api: &Api) -> CorsLayer {
    let origins = api.settings.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::HEAD, Method::OPTIONS])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
            header::RANGE,
            trace::REQUEST_ID,
            trace::TRACEPARENT,
        ])
        .expose_headers([
            header::ACCEPT_RANGES,
            header::CONTENT_DISPOSITION,
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
            header::ETAG,
            header::LINK,
            header::RETRY_AFTER,
            HeaderName::from_static(AS_OF),
            trace::REQUEST_ID,
        ])
}
