//! A request as handlers see it, and the reading of its body.

use crate::download::respond::Head;
use crate::error::{ApiError, Result};
use bytes::{Buf, Bytes};
use futures::stream::{BoxStream, StreamExt};
use serde_json::{Map, Value};
use shared::access::Viewer;
use shared::json;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;
use warp::http::{HeaderMap, Method, header};

/// The largest body of most requests, in bytes.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;
/// The largest body of metadata, in bytes.
pub(crate) const METADATA_LIMIT: usize = 16 * 1024 * 1024;
/// How long the next part of a body may take, and the whole of it.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a body that is too large is read and thrown away, so that the client gets to see the answer.
const DRAIN_LIMIT: usize = 4 * METADATA_LIMIT;

/// A body as it arrives.
pub(crate) type Body = BoxStream<'static, std::result::Result<Bytes, warp::Error>>;

/// A request.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// What stands in the path where the route has `{…}`, decoded.
    pub(crate) parameter: Option<String>,
    /// What stands in the path from where the route has `{…*}`, as it came: percent-encoded.
    pub(crate) tail: Option<String>,
    /// What stands after the `?`, as it came.
    pub(crate) query: String,
    pub(crate) viewer: Viewer,
}

/// Makes a body of what `warp` gives.
pub(crate) fn body<B: Buf>(
    stream: impl futures::Stream<Item = std::result::Result<B, warp::Error>> + Send + 'static,
) -> Body {
    stream.map(|part| part.map(|mut buf| buf.copy_to_bytes(buf.remaining()))).boxed()
}

impl Request {
    /// The body as a JSON object, whatever the content type says.
    pub(crate) async fn object(self) -> Result<Map<String, Value>> {
        match self.json(BODY_LIMIT).await? {
            Value::Object(object) => Ok(object),
            _ => Err(ApiError::BadRequest("The request's body must be a JSON object.".to_owned())),
        }
    }

    /// The body as JSON of at most `limit` bytes, whatever the content type says.
    pub(crate) async fn json(self, limit: usize) -> Result<Value> {
        parse(&self.bytes(limit).await?)
    }

    /// The method and the headers.
    pub(crate) fn head(&self) -> Head {
        Head { method: self.method.clone(), headers: self.headers.clone() }
    }

    /// A parameter of the query; `None` where it is absent or empty. The last of several counts.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs
            .filter(|(own, _)| own == name)
            .last()
            .map(|(_, value)| value.into_owned())
            .filter(|value| !value.is_empty())
    }

    /// A whole number in the query; `default` where it is absent.
    pub(crate) fn number(&self, name: &str, default: usize) -> Result<usize> {
        let Some(text) = self.query(name) else { return Ok(default) };
        let unreadable = || ApiError::BadRequest(format!("{name}: '{text}' is not a whole number from 0 on."));
        text.parse().map_err(|_| unreadable())
    }

    /// The body, of at most `limit` bytes.
    pub(crate) async fn bytes(mut self, limit: usize) -> Result<Vec<u8>> {
        let encoding = self.headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(ApiError::ContentEncoding);
        }
        let announced = self.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let too_large = announced.is_some_and(|length: usize| length > limit);
        if too_large && self.headers.contains_key(header::EXPECT) {
            return Err(ApiError::BodyTooLarge { limit });
        }
        let mut bytes = Vec::new();
        let mut length = 0;
        let end = Instant::now() + BODY_TIMEOUT;
        loop {
            let part = timeout_at(end.min(Instant::now() + PART_TIMEOUT), self.body.next());
            match part.await.map_err(|_| ApiError::SlowBody)? {
                None if length > limit => return Err(ApiError::BodyTooLarge { limit }),
                None => return Ok(bytes),
                Some(Err(_)) => return Err(ApiError::BadRequest("The request's body broke off.".to_owned())),
                Some(Ok(part)) => {
                    length += part.len();
                    if length > DRAIN_LIMIT {
                        return Err(ApiError::BodyTooLarge { limit });
                    }
                    if length <= limit && !too_large {
                        bytes.extend_from_slice(&part);
                    }
                }
            }
        }
    }
}

/// Reads what comes of a body that nobody wants, so that its client gets to see the answer.
pub(crate) async fn drain(mut body: Body) {
    let end = Instant::now() + PART_TIMEOUT;
    let mut length = 0;
    while let Ok(Some(Ok(part))) = timeout_at(end, body.next()).await {
        length += part.len();
        if length > BODY_LIMIT {
            return;
        }
    }
}

/// Reads JSON, see [`json::parse`].
pub(crate) fn parse(bytes: &[u8]) -> Result<Value> {
    json::parse(bytes)
        .map_err(|error| ApiError::BadRequest(format!("The request's body cannot be read as JSON: {error}.")))
}

/// How a request names what it wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Uid(Uuid),
    ExecutionBlock(String),
}

/// Reads `uid`, or else `execution_block`, from a body. Other fields are hints and need not be true.
pub(crate) fn wanted(body: &Map<String, Value>) -> Result<Wanted> {
    if let Some(text) = text(body, "uid")? {
        let uid = text.parse().map_err(|_| ApiError::BadRequest(format!("uid: '{text}' is not a UUID.")))?;
        return Ok(Wanted::Uid(uid));
    }
    match text(body, "execution_block")? {
        Some(id) => Ok(Wanted::ExecutionBlock(id.to_owned())),
        None => Err(ApiError::BadRequest("The request needs a 'uid' or an 'execution_block'.".to_owned())),
    }
}

/// Reads `uid`, or else `execution_block`, from a query.
pub(crate) fn wanted_in_query(request: &Request) -> Result<Wanted> {
    let names = ["uid", "execution_block"];
    let pairs = names.iter().filter_map(|name| Some(((*name).to_owned(), request.query(name)?.into())));
    wanted(&pairs.collect())
}

/// The uid in a path.
pub(crate) fn wanted_uid(request: &Request) -> Result<Uuid> {
    let text = request.parameter.as_deref().unwrap_or_default();
    text.parse().map_err(|_| ApiError::BadRequest(format!("uid: '{text}' is not a UUID.")))
}

/// A text in a body; `None` where it is absent, null or empty.
pub(crate) fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(ApiError::BadRequest(format!("{name} must be a string."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wanted_must_be_named() {
        let read = |body: Value| wanted(body.as_object().expect("an object"));
        let uid = "6a11ddaa-6b45-6759-47e7-a5abd5105b0e";
        assert!(matches!(read(json!({"uid": uid, "execution_block": "eb"})), Ok(Wanted::Uid(_))));
        assert!(matches!(read(json!({"uid": "", "execution_block": "eb"})), Ok(Wanted::ExecutionBlock(_))));
        for body in
            [json!({}), json!({"uid": null}), json!({"uid": "x"}), json!({"uid": 5}), json!({"execution_block": []})]
        {
            assert!(matches!(read(body), Err(ApiError::BadRequest(_))));
        }
    }
}
