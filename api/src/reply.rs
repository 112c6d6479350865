//! Answers of the usual kinds.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde_json::Value;
use shared::status::time_text;
use shared::store::StoreError;
use sync_wrapper::SyncStream;
use tracing::warn;
use warp::Reply;
use warp::http::{HeaderName, HeaderValue, StatusCode, header};

/// The header that says as of when what an answer is made of is, at the least.
pub(crate) const AS_OF: &str = "x-index-as-of";

/// What every handler answers.
pub(crate) type Response = warp::reply::Response;

/// Says in an answer as of when what it is made of is.
pub(crate) fn mark_as_of(response: &mut Response, as_of: DateTime<Utc>) {
    let name = HeaderName::from_static(AS_OF);
    response.headers_mut().extend(HeaderValue::try_from(time_text(as_of)).ok().map(|as_of| (name, as_of)));
}

/// 200 with JSON.
pub(crate) fn json(value: &Value) -> Response {
    json_with(StatusCode::OK, value)
}

/// JSON with another status.
pub(crate) fn json_with(status: StatusCode, value: &Value) -> Response {
    let mut response = json_text(value.to_string());
    *response.status_mut() = status;
    response
}

/// 200 with a text that is JSON.
pub(crate) fn json_text(text: String) -> Response {
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 with a JSON array that is made in parts, of which the first is there. Each is elements with commas between them, and
/// none is empty. The connection breaks where it cannot go on.
pub(crate) fn array(first: &str, more: impl Stream<Item = Result<String, StoreError>> + Send + 'static) -> Response {
    let text = |text: String| stream::once(std::future::ready(Ok(Bytes::from(text))));
    let more = more.map_ok(|part| Bytes::from(format!(",{part}")));
    let more = more.inspect_err(|error| warn!(%error, "an answer breaks off"));
    // What warp streams must be `Sync`, which only who polls it from two threads at once would need.
    let parts = SyncStream::new(text(format!("[{first}")).chain(more).chain(text("]".to_owned())));
    let mut response = warp::reply::stream(parts).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 with bytes of a content type.
pub(crate) fn bytes(content_type: &str, bytes: Vec<u8>) -> Response {
    let mut response = bytes.into_response();
    let content_type =
        HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// 307 to a place that the path is right for; method and body go there as they are. `None` where it is no text for a header.
pub(crate) fn redirect(location: &str) -> Option<Response> {
    let location = HeaderValue::from_str(location).ok()?;
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

/// 204.
pub(crate) fn empty() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
